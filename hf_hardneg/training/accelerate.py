"""`HardNegativePlugin`: refreshed negatives in an Accelerate loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import DataLoaderDispatcher, SeedableRandomSampler, get_sampler
from torch.utils.data import IterableDataset, RandomSampler

from hf_hardneg.errors import ConfigError
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, checked
from hf_hardneg.training.asynchronous import AsyncRefresher
from hf_hardneg.training.refresh import Refresher
from hf_hardneg.training.schedule import Schedule
from hf_hardneg.training.snapshots import same_draws


class HardNegativePlugin:
    """Counts optimizer steps, refreshes when it is due, and starts the loader again at that boundary.

    It is saved and restored with `accelerator.save_state` and `load_state`: a resumed run goes on at the same batch of
    the same epoch, with the same negatives; on another number of processes, behind the rows that were used.

    Args:
        accelerator (`Accelerator`): of the loop.
        refresher (`Refresher` or `AsyncRefresher`): what to refresh.
        refresh_every (`int`, defaults to 10,000): optimizer steps between two refreshes.
        first_refresh (`int`, *optional*): the step of the first; `refresh_every` by default, 0 is before training.

    Example:
        >>> plugin = HardNegativePlugin(accelerator, refresher, refresh_every=4)
        >>> while plugin.epoch < 3:
        ...     for batch in plugin.batches(loader):
        ...         accelerator.backward(loss_of(batch))
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        ...         if plugin.step():
        ...             print("new negatives after step", plugin.steps)
        new negatives after step 4
    """

    @checked
    def __init__(
        self,
        accelerator: Accelerator,
        refresher: Refresher | AsyncRefresher,
        *,
        refresh_every: AtLeastOne = 10_000,
        first_refresh: AtLeastZero | None = None,
    ) -> None:
        self.accelerator, self.refresher = accelerator, refresher
        self.schedule = Schedule(every=refresh_every, first=first_refresh)
        self.steps = self.epoch = self.batch = 0
        self._stale = True
        accelerator.register_for_checkpointing(self)

    def step(self) -> bool:
        """Count an optimizer step, after `optimizer.step()`; refresh where it is due. Every rank calls it.

        A micro-batch of an accumulated gradient, and a step that the gradient scaler left out, do not count.

        Returns:
            Whether negatives are new from the next batch on.
        """
        if not self.accelerator.sync_gradients or self.accelerator.optimizer_step_was_skipped:
            return False
        self.steps += 1
        if not self.refresher.due(self.steps, self.schedule):
            return False
        self._stale = self.refresher.at(self.steps, self.schedule)
        return self._stale

    def batches(self, loader: Any) -> Iterator[Any]:
        """Yield the batches of one epoch that remain, each read after the last refresh.

        Loaders read ahead: Accelerate one batch, workers several. Where negatives change, the loader is started again
        behind the batches that were used.

        Args:
            loader (`DataLoader`): prepared by the accelerator; its sampler gives each epoch one order.

        Raises:
            ConfigError: the loader is not prepared, or its sampler draws another order each time it is asked.
        """
        _check(loader)
        self.refresher.at(self.steps, self.schedule)
        epoch = self.epoch
        while self.epoch == epoch:
            self._stale = False
            for batch in self._from(loader, self.batch):
                over = self.accelerator.gradient_state.end_of_dataloader
                self.epoch, self.batch = (epoch + 1, 0) if over else (epoch, self.batch + 1)
                yield batch
                if self._stale:
                    break
            else:
                self.epoch, self.batch = epoch + 1, 0

    def _from(self, loader: Any, start: int) -> Iterator[Any]:
        """Yield the batches of this epoch from `start` on; starting the loader takes no draw from training."""
        loader.set_epoch(self.epoch)
        part = self.accelerator.skip_first_batches(loader, start * self._read_for_one(loader)) if start else loader
        batches = iter(part)
        try:
            with same_draws():
                batch = next(batches, None)
            while batch is not None:
                yield batch
                batch = next(batches, None)
        finally:
            batches.close()
            part.end()

    @property
    def _shares(self) -> int:
        """How many batches of the loader are one of all ranks."""
        return 1 if self.accelerator.split_batches else self.accelerator.num_processes

    def _read_for_one(self, loader: Any) -> int:
        """Return how many batches `skip_first_batches` counts for each: a dispatcher counts all ranks' batches."""
        dispatched = isinstance(loader, DataLoaderDispatcher) and not isinstance(loader.dataset, IterableDataset)
        return self._shares if dispatched else 1

    def state_dict(self) -> dict[str, int]:
        """Return what `accelerator.save_state` saves."""
        return {"steps": self.steps, "epoch": self.epoch, "batches": self.batch * self._shares}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint: readers take the generation of its step again."""
        self.steps, self.epoch, self.batch = state["steps"], state["epoch"], state["batches"] // self._shares


def _check(loader: Any) -> None:
    if not hasattr(loader, "set_epoch"):
        raise ConfigError(
            f"batches() got a {type(loader).__name__} that is not prepared; allowed are loaders of this accelerator. "
            "Give the one that accelerator.prepare(loader) returns."
        )
    sampler = get_sampler(loader)
    if isinstance(sampler, RandomSampler) and not isinstance(sampler, SeedableRandomSampler):
        raise ConfigError(
            "The loader shuffles with a RandomSampler, which draws another order when it is started again; allowed are "
            "samplers with one order for each epoch. Use Accelerator(dataloader_config="
            "DataLoaderConfiguration(use_seedable_sampler=True)), or shuffle=False."
        )
