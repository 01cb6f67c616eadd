"""What a job costs that several machines share in shards: hours, disk, network, and the memory of a machine."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from hf_hardneg.planning.costs import Step
from hf_hardneg.planning.plans import Plan
from hf_hardneg.runtime.arguments import AtLeastOne, Checked
from hf_hardneg.runtime.units import data_size, duration

EACH = ("load libraries", "read corpus", "open index")
"""Stages that every machine runs for itself."""
SHARED = "encode corpus"
"""The stage, besides what is done with the pairs, that shards divide: `hf-hardneg index --shard`."""
MAPPED = ("build index", "text keys", "known positives")
"""Stages whose files every machine reads."""


@dataclass(frozen=True, kw_only=True)
class SharedPlan(Checked):
    """The plan of a job in as many shards as machines, over a cache that all see; `str()` renders it.

    Args:
        plan (`Plan`): of the job on one machine like this one; `Plan.at` gives it for other sizes.
        machines (`int`): how many there are.

    Example:
        >>> from hf_hardneg.planning.shared_plans import SharedPlan
        >>> print(SharedPlan(plan=plan(pairs, corpus).at(documents=100_000_000, rows=10_000_000), machines=64))
        Strategy(...)
        100,000,000 documents, 10,000,000 pairs on 64 machines of 1 process each: about ...
        ...
          known from         13 of 100,000,000 documents and 4 of 10,000,000 pairs; weak: ...
    """

    plan: Plan
    machines: AtLeastOne

    @property
    def once(self) -> float:
        """Seconds of what one machine does while the others wait: it is best done before they begin."""
        return sum(step.seconds for step in self.plan.steps if self._kind(step) == "once")

    @property
    def each(self) -> float:
        """Seconds of what every machine does for itself."""
        return sum(step.seconds for step in self.plan.steps if self._kind(step) == "each")

    @property
    def shared(self) -> float:
        """Seconds, on one machine, of what the machines share."""
        return sum(step.seconds for step in self.plan.steps if self._kind(step) == "shared")

    @property
    def seconds(self) -> float:
        """Time of the whole job, on the clock."""
        return self.once + self.each + self.shared / self.machines

    @property
    def index(self) -> float:
        """Bytes of the index, which every machine maps."""
        return self._disk(["build index"])

    @property
    def network(self) -> float:
        """Bytes read from the shared file system: every machine reads the texts, the keys and the index once."""
        return self.machines * (self._disk(MAPPED) + self.plan.text_bytes)

    @property
    def index_parts(self) -> int:
        """In how many parts an index fits half of the memory of a machine like this one."""
        return max(1, -(-int(self.index) // (_memory() // 2)))

    def _disk(self, names: Collection[str]) -> float:
        sizes = self.plan.documents, self.plan.rows
        return sum(stage.disk(*sizes) for stage in self.plan.stages if stage.name in names)

    def _kind(self, step: Step) -> str:
        if step.name in EACH:
            return "each"
        divided = step.name == SHARED or any(stage.in_workers for stage in self.plan.stages if stage.name == step.name)
        return "shared" if divided else "once"

    def _names(self, kind: str) -> str:
        return ", ".join(dict.fromkeys(step.name for step in self.plan.steps if self._kind(step) == kind)) or "nothing"

    def __str__(self) -> str:
        plan, share = self.plan, self.shared / self.machines
        processes = f"{plan.num_proc} process{'es' if plan.num_proc > 1 else ''}"
        fits = f"; index_parts={self.index_parts} keeps a part within half of the {data_size(_memory())} here"
        lines = {
            "one machine first": f"{duration(self.once)}: {self._names('once')}",
            "every machine": f"{duration(self.each)}: {self._names('each')}",
            "shared": f"{duration(share)}, {duration(self.shared)} on one machine: {self._names('shared')}",
            "disk": f"{data_size(plan.disk)} in the cache that all see",
            "network": f"{data_size(self.network)}: every machine reads texts, keys and the index once",
            "index": data_size(self.index) + (fits if self.index_parts > 1 else ""),
            "memory": f"{data_size(plan.memory)} of a machine, with the pages of the index that it maps",
            "known from": plan.extrapolation,
        }
        return "\n".join(
            [
                plan.recipe,
                f"{plan.documents:,} documents, {plan.rows:,} pairs on {self.machines:,} machines of {processes} each: "
                f"about {duration(self.seconds)}",
                *(f"  {name:<18} {words}" for name, words in lines.items()),
            ]
        )


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
