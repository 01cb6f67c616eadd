"""`HardNegativeLightning`: refreshed negatives in a Lightning `Trainer`."""

from __future__ import annotations

from typing import Any

from hf_hardneg.errors import warn
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, checked
from hf_hardneg.runtime.optional import require
from hf_hardneg.training.asynchronous import AsyncRefresher
from hf_hardneg.training.refresh import Refresher
from hf_hardneg.training.schedule import Schedule

Callback: Any = require("lightning.pytorch", extra="lightning", needed_by="HardNegativeLightning").Callback


class HardNegativeLightning(Callback):  # type: ignore[misc]
    """Refreshes at the steps of a schedule; the loader's dataset is `pairs.with_transform(refresher.negatives)`.

    Lightning does not read ahead, so the next batch has the new negatives. It does read one batch of an
    `IterableDataset`, and workers read several: there new negatives come as many batches later.

    Args:
        refresher (`Refresher` or `AsyncRefresher`): what to refresh.
        refresh_every (`int`, defaults to 10,000): optimizer steps between two refreshes.
        first_refresh (`int`, *optional*): the step of the first; `refresh_every` by default, 0 is before training.

    Example:
        >>> import lightning
        >>> from torch.utils.data import DataLoader
        >>> class Retriever(lightning.LightningModule):
        ...     def training_step(self, batch, index):
        ...         return loss_of(batch)
        ...     def configure_optimizers(self):
        ...         return optimizer
        >>> loader = DataLoader(pairs.with_transform(refresher.negatives), batch_size=2, collate_fn=list)
        >>> callback = HardNegativeLightning(refresher, refresh_every=2)
        >>> quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        >>> lightning.Trainer(max_epochs=2, callbacks=[callback], **quiet).fit(Retriever(), loader)
        >>> refresher.generations.current
        2
    """

    @checked
    def __init__(
        self,
        refresher: Refresher | AsyncRefresher,
        *,
        refresh_every: AtLeastOne = 10_000,
        first_refresh: AtLeastZero | None = None,
    ) -> None:
        self.refresher = refresher
        self.schedule = Schedule(every=refresh_every, first=first_refresh)
        self.step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Go on from the step of the checkpoint, if there is one."""
        self.step = trainer.global_step
        self.refresher.at(self.step, self.schedule)
        workers = getattr(trainer.train_dataloader, "num_workers", 0)
        if workers:
            warn(
                f"New negatives will come late, behind what the {workers} workers of the loader have read ahead. "
                "Use num_workers=0 to train on them from the next batch on."
            )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refresh where it is due; a micro-batch of an accumulated gradient is no step."""
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            if self.refresher.due(self.step, self.schedule):
                self.refresher.at(self.step, self.schedule)
