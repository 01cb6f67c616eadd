"""When negatives are refreshed: pure functions of the count of optimizer steps (ANCE, arXiv 2007.00808).

The count is global: never of one epoch, never of micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Checked, checked


@dataclass(frozen=True, kw_only=True)
class Schedule(Checked):
    """A refresh after step `first`, and after every `every` steps from there on.

    Args:
        every (`int`, defaults to 10,000): optimizer steps between two refreshes.
        first (`int`, *optional*): the step of the first; `every` by default, 0 refreshes before training.

    Raises:
        ConfigError: a number below 1, or a first step below 0.
    """

    every: AtLeastOne = 10_000
    first: AtLeastZero | None = None

    @property
    def start(self) -> int:
        """The step of the first refresh."""
        return self.every if self.first is None else self.first

    @checked
    def due(self, step: AtLeastZero) -> bool:
        """Say whether a refresh is due after that many steps."""
        return step >= self.start and (step - self.start) % self.every == 0

    @checked
    def number(self, step: AtLeastZero) -> int:
        """Return which generation is the newest after that many steps; 0 before the first."""
        return 0 if step < self.start else (step - self.start) // self.every + 1

    @checked
    def step_of(self, number: AtLeastOne) -> int:
        """Return the step after which a generation is due."""
        return self.start + (number - 1) * self.every

    @checked
    def rewarm(self, step: AtLeastZero, *, over: AtLeastOne) -> float:
        """Return a factor of the learning rate, for `LambdaLR`, that climbs to 1 again after each refresh.

        Accelerate steps a prepared scheduler once for each process: register this one with `register_for_checkpointing`
        alone, and step it with the optimizer. Beside an `AsyncRefresher` the first refresh is `lag` steps later.

        Args:
            step (`int`): optimizer steps so far.
            over (`int`): steps until it is 1.

        Example:
            >>> from functools import partial
            >>> from torch.optim.lr_scheduler import LambdaLR
            >>> schedule = Schedule(every=1000)
            >>> warmed = LambdaLR(optimizer, partial(schedule.rewarm, over=4))
            >>> [schedule.rewarm(step, over=4) for step in (999, 1000, 1001, 1002, 1003, 1004)]
            [1.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        """
        if step < self.start:
            return 1.0
        return min(1.0, ((step - self.start) % self.every + 1) / over)


class Job(NamedTuple):
    """A refresh beside the training: generation `number` of the weights after step `checkpoint`, from `ready` on.

    It is begun after step `start`, later than `checkpoint` where the one before it took that long.
    """

    number: int
    checkpoint: int
    start: int
    ready: int


def beside(schedule: Schedule, latency: int) -> Iterator[Job]:
    """Yield the refreshes of a second process that takes `latency` steps for each, and then the newest checkpoint.

    A checkpoint that was passed over while it was busy is skipped, never queued.

    Args:
        schedule (`Schedule`): when the trainer writes checkpoints.
        latency (`int`): steps that the trainer makes during a refresh.
    """
    free = taken = 0
    for number in count(1):
        newest = schedule.number(free)
        taken = newest if newest > taken else taken + 1
        checkpoint = schedule.step_of(taken)
        start = max(free, checkpoint)
        free = start + latency
        yield Job(number, checkpoint, start, free)


def chunk(size: int, chunks: int, number: int) -> range:
    """Return the rows that a generation covers: one part after the other, the last with what remains.

    Args:
        size (`int`): how many rows there are.
        chunks (`int`): into how many parts they are cut.
        number (`int`): of the generation, from 1.
    """
    place = (number - 1) % chunks
    each = size // chunks
    return range(place * each, size if place == chunks - 1 else (place + 1) * each)
