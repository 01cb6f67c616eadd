"""`HardNegativeCallback`: refreshed negatives in `transformers.Trainer`, and in `SentenceTransformerTrainer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from accelerate.utils import send_to_device
from transformers import TrainerCallback

from hf_hardneg.errors import DataError
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Checked, Name, checked
from hf_hardneg.training.asynchronous import AsyncRefresher
from hf_hardneg.training.generations import Generations
from hf_hardneg.training.newest import GenerationNegatives
from hf_hardneg.training.refresh import Refresher
from hf_hardneg.training.schedule import Schedule
from hf_hardneg.training.snapshots import same_draws


class HardNegativeCallback(TrainerCallback):  # type: ignore[misc]
    """Refreshes at the steps of a schedule. The trainer's dataset is the pairs as they are; negatives are added to each
    batch before the trainer's collator sees it, so set `remove_unused_columns=False`.

    What the trainer and its workers have read ahead is collated again after a refresh, in this process, when it is sent
    to the device. Only where rank 0 dispatches batches, as for an `IterableDataset`, new negatives come a batch late.

    Args:
        refresher (`Refresher` or `AsyncRefresher`): what to refresh.
        refresh_every (`int`, defaults to 10,000): optimizer steps between two refreshes.
        first_refresh (`int`, *optional*): the step of the first; `refresh_every` by default, 0 is before training.
        transform (callable, *optional*): from a batch of pairs to what the collator gets, such as `Tuples`; by default
            `refresher.negatives`.

    Example:
        >>> from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
        >>> from sentence_transformers.losses import MultipleNegativesRankingLoss
        >>> args = SentenceTransformerTrainingArguments("run", max_steps=4, remove_unused_columns=False)
        >>> loss = MultipleNegativesRankingLoss(model)
        >>> callback = HardNegativeCallback(refresher, refresh_every=2, transform=Tuples(refresher.negatives))
        >>> trainer = SentenceTransformerTrainer(
        ...     model, args, train_dataset=pairs, loss=loss, callbacks=[callback]
        ... )
        >>> trainer.train().global_step
        {'train_runtime': ...}
        4
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
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.refresher = refresher
        self.schedule = Schedule(every=refresh_every, first=first_refresh)
        self.transform = transform or refresher.negatives

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from the step of the checkpoint, if there is one."""
        self.refresher.at(state.global_step, self.schedule)
        loader = kwargs["train_dataloader"]
        loader.base_dataloader.collate_fn = _Collator(self.transform, loader.collate_fn, self.refresher.generations)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refresh where it is due."""
        if self.refresher.due(state.global_step, self.schedule):
            self.refresher.at(state.global_step, self.schedule)


class _Collator:
    """The trainer's collator after a transform of the rows. Its batches are made of the newest negatives when used."""

    def __init__(
        self, transform: Callable[[Any], Any], collate: Callable[[list[Any]], Any], generations: Generations
    ) -> None:
        self.transform, self.collate, self.generations = transform, collate, generations
        self.name = id(self)
        _collators[self.name] = self

    def __call__(self, rows: list[dict[str, Any]]) -> _CollatedBatch:
        number = self.generations.current
        columns = self.transform({name: [row[name] for row in rows] for name in rows[0]})
        collated = self.collate([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        batch = _CollatedBatch(collated)
        batch.collator, batch.kind, batch.rows, batch.number = self.name, type(collated), rows, number
        return batch


_collators: WeakValueDictionary[int, _Collator] = WeakValueDictionary()
"""The collators of this process, by the name that a batch brings from a worker."""


class _CollatedBatch(dict[str, Any]):
    """A batch of some rows, with the collator that made it and the generation that it read."""

    collator: int
    kind: type
    rows: list[dict[str, Any]]
    number: int

    def to(self, device: Any, **options: Any) -> Any:
        """Return the batch as the trainer takes it: collated again where a generation has come since."""
        collator = _collators[self.collator]
        newest = self
        if self.number != collator.generations.current:
            with same_draws():
                newest = collator(self.rows)
        return send_to_device(newest.kind(newest), device, **options)


@dataclass(frozen=True)
class Tuples(Checked):
    """Rows as sentence-transformers wants them: `query`, `positive`, and `negative` or `negative_1`, `negative_2`, …

    Args:
        negatives (`GenerationNegatives`): adds the lists.
        size (`int`, defaults to 1): negatives in each row.
        positive (`str`, defaults to `"positive"`): the column of positives; the first is taken.

    Raises:
        DataError: a row has fewer negatives.
    """

    negatives: GenerationNegatives
    size: AtLeastOne = 1
    positive: Name = "positive"

    def __call__(self, batch: Any) -> dict[str, list[str]]:
        """Return the texts of a batch."""
        rows = self.negatives(batch)
        fewest = min(map(len, rows["negatives"]))
        if fewest < self.size:
            raise DataError(
                f"A row has {fewest} negatives, and Tuples(size={self.size}) needs as many in each. Retrieve deeper, "
                "or give the refresher on_shortage='pad_random'."
            )
        firsts = [texts if isinstance(texts, str) else texts[0] for texts in rows[self.positive]]
        names = ["negative"] if self.size == 1 else [f"negative_{place + 1}" for place in range(self.size)]
        texts = {name: [row[place] for row in rows["negatives"]] for place, name in enumerate(names)}
        return {"query": rows[self.negatives.rows.columns.query], "positive": firsts, **texts}
