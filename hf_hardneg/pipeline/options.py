"""The options of mining as types, for functions that hand them on to `HardNegatives`; what each means is said there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, TypeVar

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.pipeline.filtering import MissingPositive
from hf_hardneg.pipeline.padding import Shortage
from hf_hardneg.pipeline.retrieval import Aggregate
from hf_hardneg.runtime.arguments import AtLeastOne, Folder, Negatives, Processes
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset

F = TypeVar("F", bound=Callable[..., Any])


class Table(Protocol):
    """A data set, a stream of one, or a table of Arrow to type checkers."""

    @property
    def column_names(self) -> Any:
        """Names of the columns."""


class Frame(Protocol):
    """A frame of pandas or polars to type checkers."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns there are."""


Readable: TypeAlias = Table | Frame | str | PathLike[str] | Mapping[Any, Any]
Documents: TypeAlias = Readable | Sequence[str] | Sequence[Mapping[str, Any]]
"""Whatever holds documents; `docs/data_layouts.md` says how it is read."""
PairRows: TypeAlias = Readable | Sequence[Mapping[str, Any]] | Sequence[tuple[str, ...]]
"""Whatever holds pairs."""


class RefresherOptions(TypedDict, total=False):
    """What `Refresher` hands on to `HardNegatives`."""

    num_negatives: Negatives
    cross_encoder: Any
    safeguards: bool
    columns: Columns | None
    symmetric: bool | None
    positive_agg: Aggregate
    dedupe: Dedupe
    on_missing_positive_score: MissingPositive
    on_shortage: Shortage
    seed: int
    verify: bool


class MinerOptions(RefresherOptions, total=False):
    """What `mine` hands on to `HardNegatives`."""

    encoder: Any
    index: Any
    cache_dir: Folder | None


class PlanOptions(MinerOptions, total=False):
    """What `plan` and `sweep` hand on: the options of `mine`, and its `known_positives`."""

    known_positives: Sequence[Dataset]


class EngineOptions(PlanOptions, total=False):
    """What engines hand on to `mine`, in which they take the place of `num_proc`."""

    batch_size: AtLeastOne
    confirm_cost: bool


class RunOptions(TypedDict, total=False):
    """What `reproduce` hands on to `mine`."""

    num_proc: Processes | None
    batch_size: AtLeastOne
    confirm_cost: bool
    cache_dir: Folder | None


def with_options_of(owner: Callable[..., Any], *, without: Collection[str] = ()) -> Callable[[F], F]:
    """Have `help()` show the options that a function hands on to another, in the place of `**options`.

    Args:
        owner (`Callable`): takes the options.
        without (`Collection[str]`): arguments of it that the function does not hand on.
    """

    def mark(function: F) -> F:
        signature = inspect.signature(function)
        named = [part for part in signature.parameters.values() if part.kind is not part.VAR_KEYWORD]
        options = [
            part.replace(kind=part.KEYWORD_ONLY)
            for name, part in inspect.signature(owner).parameters.items()
            if name not in signature.parameters and name not in without
        ]
        setattr(function, "__signature__", signature.replace(parameters=[*named, *options]))  # noqa: B010
        return function

    return mark
