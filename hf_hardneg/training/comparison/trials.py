"""Short trainings that differ in their negatives alone, and what each gives the queries that were held out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.runtime.arguments import AboveZero, AtLeastOne, Checked, Range, check_fields
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored
from hf_hardneg.training.collator import CrossBatchCollator
from hf_hardneg.training.compared import Keys
from hf_hardneg.training.comparison.ranking_task import PARTS, RankingTask
from hf_hardneg.training.comparison.trainees import Trainee
from hf_hardneg.training.losses import CrossBatchLoss
from hf_hardneg.training.similarity import Similarity

Learner = Literal["projection", "model"]
RATES: dict[Learner, float] = {"projection": 1e-3, "model": 5e-5}
EPOCHS: dict[Learner, int] = {"projection": 4, "model": 2}
ROUNDS: dict[Learner, int] = {"projection": PARTS, "model": 1}
WARM = 0.1
"""Share of the steps over which the learning rate rises."""
LAYOUT = 1
TIMES = "seconds.json"
HELD_OUT = Schema.of({"queries": Stored(np.int64, "queries", least=0), "ndcg": Stored(np.float64, "queries")})
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trials(Checked):
    """How a comparison trains; the same for all strategies.

    The queries are parted into three. In each round one part is held out: nothing is trained on its queries, and
    nDCG@10 is measured on them alone.

    Args:
        learner (`str`, defaults to `"projection"`): what is trained: a matrix over vectors of the model as it is, which
            takes seconds, or `"model"`, all its layers.
        seeds (`int`, defaults to 3): trainings of each strategy in each round, with other orders of the rows.
        rounds (`int`, *optional*): how many parts are held out, one after the other; by default all three, and one
            where the model is trained.
        epochs (`int`, *optional*): passes over the rows; by default 4, and 2 for the model.
        batch_size (`int`, defaults to 16): positives in a step.
        learning_rate (`float`, *optional*): of AdamW; rises over a tenth of the steps, then falls to 0. By default
            1e-3, and 5e-5 for the model.
        temperature (`float`, *optional*): of the loss, see `CrossBatchLoss`.
        queries (`int`, defaults to 2000): at most so many queries, drawn by their texts, are mined for.
        documents (`int`, defaults to 20000): about so many documents are ranked: all positives, and others.
        max_length (`int`, defaults to 128): tokens after which texts are cut where the model is trained.
    """

    learner: Learner = "projection"
    seeds: Annotated[int, Range(least=1, most=1000)] = 3
    rounds: Annotated[int, Range(least=1, most=PARTS)] | None = None
    epochs: Annotated[int, Range(least=1, most=10_000)] | None = None
    batch_size: Annotated[int, Range(least=2)] = 16
    learning_rate: AboveZero | None = None
    temperature: AboveZero | None = None
    queries: Annotated[int, Range(least=PARTS)] = 2000
    documents: AtLeastOne = 20_000
    max_length: Annotated[int, Range(least=8)] = 128

    def __post_init__(self) -> None:
        check_fields(self)
        for name, defaults in (("rounds", ROUNDS), ("epochs", EPOCHS), ("learning_rate", RATES)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, defaults[self.learner])
        if self.learner == "projection" and self.max_length != type(self).max_length:
            raise ConfigError(
                f"Trials(max_length={self.max_length}) cuts texts of a model that is trained, and a projection is of "
                'vectors that are there. Leave it out, or train with learner="model".'
            )


@dataclass(frozen=True, kw_only=True)
class Course:
    """A training: what is learnt from, and how.

    Args:
        trainee (`Trainee`): the model, which changes.
        collate (`CrossBatchCollator`): makes batches of rows.
        steps (`int`): of the optimizer, in all.
        learning_rate (`float`): see `Trials`.
        temperature (`float`, *optional*): of the loss.
    """

    trainee: Trainee
    collate: CrossBatchCollator
    steps: int
    learning_rate: float
    temperature: float | None = None

    def run(self, batches: Iterable[Sequence[Row]], seed: int) -> list[float]:
        """Train on batches of rows, which are drawn from as training goes on, and return the loss of each step."""
        module = self.trainee.module
        loss_of = CrossBatchLoss(similarity=self.trainee.similarity, temperature=self.temperature)
        optimizer = torch.optim.AdamW(module.parameters(), lr=self.learning_rate)
        warm = max(1.0, WARM * self.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, max(self.steps - step, 0) / max(1.0, self.steps - warm))
        )
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for rows in batches:
                module.train()
                loss = self._loss(rows, loss_of)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
        module.eval()
        return losses

    def _loss(self, rows: Sequence[Row], loss_of: CrossBatchLoss) -> Tensor:
        batch, module = self.collate(rows), self.trainee.module
        queries, positives = module(batch["queries"]), module(batch["positives"])
        keys = Keys(**{name: values.to(queries.device) for name, values in batch["keys"].items()})
        mask, negatives = batch["negative_mask"].to(queries.device), None
        if "negatives" in batch:
            negatives = module(batch["negatives"]).unflatten(0, mask.shape)
        return loss_of(queries, positives, negatives, negative_mask=None if negatives is None else mask, keys=keys)


def epochs_of(rows: Sequence[Row], *, epochs: int, batch_size: int, seed: int) -> Iterator[list[Row]]:
    """Yield batches of rows in an order that the seed decides; what is left over at the end of an epoch waits for the
    next. All strategies get the same order, since rows are the same but for their negatives."""
    for order in orders(len(rows), epochs=epochs, batch_size=batch_size, seed=seed):
        yield [rows[place] for place in order.tolist()]


def orders(count: int, *, epochs: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of each batch, (batch_size,) int64, or (count,) where there are fewer rows."""
    size = min(batch_size, count)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def steps_of(count: int, *, epochs: int, batch_size: int) -> int:
    """Count the batches that `epochs_of` yields."""
    return epochs * (count // min(batch_size, count))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a training gave.

    Args:
        queries (`np.ndarray`): (m,) int64, the queries that were held out.
        ndcg (`np.ndarray`): (m,) float64, nDCG@10 of each.
        seconds (`float`): that training and measuring took.
    """

    queries: np.ndarray
    ndcg: np.ndarray
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrialRunner:
    """Runs trials over one task, each once: what was measured is stored.

    Args:
        task (`RankingTask`): the queries and documents.
        trials (`Trials`): how to train.
        num_negatives (`int`): of each row at most so many are trained with.
        cache (`Path`): where trials are stored.
        identity (`dict[str, Any]`): what every trial depends on besides its negatives, as plain values.
        trainee (`Callable`): takes all rows, and makes a trainee at its start.
    """

    task: RankingTask
    trials: Trials
    num_negatives: int
    cache: Path
    identity: dict[str, Any]
    trainee: Callable[[Sequence[Row]], Trainee]

    def run(self, negatives: Sequence[Sequence[str]] | None, origin: Any, number: int, seed: int) -> Trial:
        """Train with the negatives of a strategy, or open what was measured before.

        Args:
            negatives (`Sequence[Sequence[str]]`, *optional*): of each row of the pairs.
            origin (`Any`): what they depend on, as plain values.
            number (`int`): of the round.
            seed (`int`): of the training.
        """
        parameters = {"negatives": origin, "round": number, "seed": seed}
        return self._stored(parameters, lambda: self._measured(self._rows(negatives), number, seed))

    def untrained(self) -> Trial:
        """Measure nDCG@10 of every query that is held out in some round, by the model as it is."""

        def measured() -> Trial:
            began, chosen = time.perf_counter(), self._held_out(*range(self.trials.rounds or PARTS))
            ndcg = self._ndcg(self.trainee(self._rows(None)), chosen)
            return Trial(queries=chosen, ndcg=ndcg, seconds=time.perf_counter() - began)

        return self._stored({"rounds": self.trials.rounds}, measured)

    def _stored(self, parameters: Mapping[str, Any], measure: Callable[[], Trial]) -> Trial:
        """Return what was measured before, or measure it."""

        def build(directory: Path) -> None:
            trial = measure()
            save_array(directory / "queries.npy", trial.queries)
            save_array(directory / "ndcg.npy", trial.ndcg)
            (directory / TIMES).write_text(json.dumps({"seconds": trial.seconds}))

        about = self.task.reader.corpus.about
        whole = {**self.identity, **parameters, "layout": LAYOUT}
        directory = directories.obtain(self.cache, kinds.TRIAL, whole, build, about)
        seconds = directories.read_object(directory, TIMES).get("seconds")
        if not isinstance(seconds, float):
            raise directories.altered(directory, TIMES, "it tells no seconds")
        return Trial(**HELD_OUT.opened(directory), seconds=seconds)

    def check(self) -> None:
        """Raise where a round would leave nothing to train on, or nobody to measure.

        Raises:
            DataError: naming the round.
        """
        for number in range(self.trials.rounds or PARTS):
            held, trained = self._held_out(number), self._trained_on(number)
            if not len(held) or len(trained) < 2:
                raise DataError(
                    f"Of {int(self.task.answered.sum()):,} queries with an answer, {len(held):,} are held out in round "
                    f"{number + 1} and {len(trained):,} positives are left to train on; at least 1 and 2 are needed. "
                    "Give more pairs."
                )

    def _held_out(self, *rounds: int) -> np.ndarray:
        return np.flatnonzero(self.task.answered & np.isin(self.task.part, rounds))

    def _trained_on(self, number: int) -> list[int]:
        return [place for place, each in enumerate(self.task.examples) if self.task.part[each.query] != number]

    def _rows(self, negatives: Sequence[Sequence[str]] | None) -> list[Row]:
        rows: list[Row] = []
        for each in self.task.examples:
            mined = [] if negatives is None else list(negatives[each.row])
            row: dict[str, Any] = {"query": each.text, "positive": each.positive, "negatives": mined}
            rows.append(row if each.identity is None else {**row, "query_id": each.identity})
        return rows

    def _measured(self, rows: list[Row], number: int, seed: int) -> Trial:
        began, held = time.perf_counter(), self._held_out(number)
        trained = [rows[place] for place in self._trained_on(number)]
        how: dict[str, Any] = {"epochs": self.trials.epochs, "batch_size": self.trials.batch_size}
        reader, with_negatives = self.task.reader, any(row["negatives"] for row in rows)
        trainee = self.trainee(rows)
        course = Course(
            trainee=trainee,
            collate=trainee.collator(reader.known, reader.keys.dedupe, self.num_negatives if with_negatives else 0),
            steps=steps_of(len(trained), **how),
            learning_rate=self.trials.learning_rate or RATES[self.trials.learner],
            temperature=self.trials.temperature,
        )
        course.run(epochs_of(trained, **how, seed=seed), seed)
        ndcg = self._ndcg(trainee, held)
        return Trial(queries=held, ndcg=ndcg, seconds=time.perf_counter() - began)

    def _ndcg(self, trainee: Trainee, chosen: np.ndarray) -> np.ndarray:
        documents = trainee.encode("document", np.arange(len(self.task.pool)))
        return self.task.ndcg(trainee.encode("query", chosen), documents, chosen, trainee.similarity)


def identity_of(task: RankingTask, trials: Trials, pairs: Any, model: str, similarity: Similarity) -> dict[str, Any]:
    """Say what every trial depends on besides its negatives, as plain values."""
    settings = {name: value for name, value in asdict(trials).items() if name not in ("seeds", "rounds")}
    return {"task": pairs, "reader": task.reader.identity, "model": model, "as": similarity, "how": settings}
