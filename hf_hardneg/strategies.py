"""Recipes: a name or a `+` chain of names becomes one retriever, filters and a sampler. No algorithms here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import AbsoluteMargin, Filter, RankWindow, RelativeMargin, SemiHard
from hf_hardneg.retrievers import BM25, Dense, Random, Retriever
from hf_hardneg.samplers import RankZone, Sampler, Top


@dataclass(frozen=True)
class Strategy:
    """What is retrieved, what is removed, and what is chosen.

    Args:
        retrievers (`Sequence[Retriever]`): exactly one.
        filters (`Sequence[Filter]`): applied in this order, after the exclusion set.
        sampler (`Sampler`, defaults to `Top()`): chooses among what is left.

    Example:
        >>> Strategy([BM25(100)], [RankWindow(10)], RankZone(20, 80))
        Strategy(retrievers=(BM25(depth=100),), filters=(RankWindow(first=10),), sampler=RankZone(start=20, end=80))
    """

    retrievers: Sequence[Retriever]
    filters: Sequence[Filter] = ()
    sampler: Sampler = field(default_factory=Top)

    def __post_init__(self) -> None:
        object.__setattr__(self, "retrievers", tuple(self.retrievers))
        object.__setattr__(self, "filters", tuple(self.filters))
        if len(self.retrievers) != 1:
            raise ConfigError(
                f"Strategy(retrievers=...) got {len(self.retrievers)} retrievers; exactly one is allowed."
            )
        for stage in self.filters:
            if not hasattr(stage, "keep"):
                raise ConfigError(
                    f"{stage!r} is not a filter: it has no keep(). Give instances such as RankWindow(10)."
                )
        if not hasattr(self.sampler, "choose"):
            raise ConfigError(f"{self.sampler!r} is not a sampler: it has no choose(). Give an instance such as Top().")

    def __repr__(self) -> str:
        return (
            f"Strategy(retrievers=({concise(self.retrievers[0])},), "
            f"filters=({''.join(concise(stage) + ',' for stage in self.filters)}), sampler={concise(self.sampler)})"
        )

    @property
    def needs_positive(self) -> bool:
        """Whether a stage compares with the positive's score."""
        return self.sampler.needs_positive or any(stage.needs_positive for stage in self.filters)

    def depth(self, num_negatives: int) -> int:
        """How many candidates to retrieve: the most any part needs, at least the request."""
        retriever = self.retrievers[0]
        parts: list[Filter | Sampler] = [*self.filters, self.sampler]
        return max(retriever.depth or 0, num_negatives, *(part.depth(num_negatives) for part in parts))


def concise(stage: object) -> str:
    """`repr` with only the fields that differ from their defaults."""
    from dataclasses import MISSING, fields

    shown = []
    for one in (declared for declared in fields(stage) if declared.repr):  # type: ignore[arg-type]
        value = getattr(stage, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if value != default:
            shown.append(f"{one.name}={value!r}")
    return f"{type(stage).__name__}({', '.join(shown)})"


STRATEGIES: dict[str, Strategy] = {
    "bm25": Strategy([BM25()]),
    "dense": Strategy([Dense()]),
    "margin": Strategy([Dense()], [RankWindow(10, 200), AbsoluteMargin(0.05)]),
    "positive_aware": Strategy([Dense()], [RelativeMargin(0.05)]),
    "semi_hard": Strategy([Dense(200)], [SemiHard(0.1)]),
    "rank_zone": Strategy([Dense(200)], [], RankZone(50, 200)),
    "random": Strategy([Random()]),
}
"""Every strategy by its name. The first part of a `+` chain brings the retriever."""

ALIASES = {
    "static_bm25": "bm25",
    "lexical": "bm25",
    "topk": "dense",
    "naive_topk": "dense",
    "nv_retriever": "positive_aware",
    "topk_percpos": "positive_aware",
    "ambiguous_zone": "rank_zone",
    "ambiguous": "rank_zone",
    "uniform": "random",
}
"""Other names in use for the same recipes."""


def resolve(strategy: str | Strategy) -> Strategy:
    """The strategy behind a name, a chain such as `"bm25+rank_zone"`, or a `Strategy`.

    The first part brings the retriever, all parts their filters from left to right, the last part that has another
    sampler than `Top` its sampler.

    Raises:
        UnknownNameError: a part is not known; names those that are, and the nearest.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if not isinstance(strategy, str):
        raise ConfigError(f"strategy= got a {type(strategy).__name__}; give a name such as 'bm25', or a Strategy.")
    parts = [_part(name.strip()) for name in strategy.split("+")]
    samplers = [part.sampler for part in parts if not isinstance(part.sampler, Top)]
    return Strategy(
        parts[0].retrievers,
        [stage for part in parts for stage in part.filters],
        samplers[-1] if samplers else Top(),
    )


def _part(name: str) -> Strategy:
    known = ALIASES.get(name, name)
    if known not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[known]
