"""The processes of one launch, by torchrun or Accelerate, that share the work.

Without a launch neither Accelerate nor torch is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hf_hardneg.errors import RanksError, warn


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all processes of its launch.

    Args:
        rank (`int`, defaults to 0): its number.
        world (`int`, defaults to 1): how many there are.
    """

    rank: int = 0
    world: int = 1

    def decided(self, decision: bool = False) -> bool:
        """Return what rank 0 decided; every rank must call it."""
        if self.world == 1:
            return decision
        from accelerate.utils import broadcast_object_list

        with self._together():
            return bool(broadcast_object_list([decision])[0])

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.world > 1:
            from accelerate import PartialState

            with self._together():
                PartialState().wait_for_everyone()

    def agree(self, value: str, what: str) -> None:
        """Return when every rank has come here, if all bring the same value.

        Raises:
            RanksError: they bring others; it names what differs, and the value of each rank.
        """
        if self.world == 1:
            return
        from accelerate.utils import gather_object

        with self._together():
            values = gather_object([value])
        if len(set(values)) > 1:
            raise RanksError(
                f"The {what} differ between the {self.world} processes: {', '.join(values)}. All must have the same; "
                "give every process the same data, seeds and weights, and one shared folder."
            )

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RanksError(
                f"Rank {self.rank} of {self.world} cannot reach another, which was killed, failed or hangs: {error}. "
                "All must run to the end; what was published before is intact. Start the run again from its checkpoint."
            ) from error


def launched_ranks() -> Ranks:
    """Return the ranks of this launch, as its environment and Accelerate say; a single one where there is no launch."""
    launched = int(os.environ.get("WORLD_SIZE") or 1)
    if launched == 1:
        return Ranks()
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if state.num_processes != launched:
        warn(
            f"WORLD_SIZE is {launched}, but Accelerate knows {state.num_processes} processes, so they do not share the "
            "encoding. On CPU set ACCELERATE_USE_CPU=true."
        )
    return Ranks(rank=state.process_index, world=state.num_processes)
