"""Recipes: a name or a `+` chain of names becomes one retriever, filters and a sampler. No algorithms here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hf_hardneg.denoising import CrossEncoderDenoiser
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import (
    FILTERS,
    AbsoluteMargin,
    Disagreement,
    Filter,
    NearQueryPositive,
    RankWindow,
    RelativeMargin,
    ScoringFilter,
    SemiHard,
    TooSimilar,
)
from hf_hardneg.retrievers import BM25, Dense, Hybrid, Random, Retriever
from hf_hardneg.samplers import SAMPLERS, RankZone, Sampler, Top
from hf_hardneg.signals import Signal


@dataclass(frozen=True)
class Strategy:
    """What is retrieved, what is removed, and what is chosen.

    Args:
        retrievers (`Sequence[Retriever]`): one, or several whose union is taken, see `Hybrid`.
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
        if not self.retrievers:
            raise ConfigError("Strategy(retrievers=[]) finds nothing; give at least one, such as [BM25(100)].")
        _ = self.retriever
        for stage in self.filters:
            if not hasattr(stage, "keep"):
                raise ConfigError(
                    f"{stage!r} is not a filter: it has no keep(). Give instances such as RankWindow(10)."
                )
        if not hasattr(self.sampler, "choose"):
            raise ConfigError(f"{self.sampler!r} is not a sampler: it has no choose(). Give an instance such as Top().")

    def __repr__(self) -> str:
        return (
            f"Strategy(retrievers=({''.join(concise(one) + ',' for one in self.retrievers)}), "
            f"filters=({''.join(concise(stage) + ',' for stage in self.filters)}), sampler={concise(self.sampler)})"
        )

    @property
    def retriever(self) -> Retriever:
        """The one retriever, or the union."""
        return self.retrievers[0] if len(self.retrievers) == 1 else Hybrid(self.retrievers)

    @property
    def uses_vectors(self) -> bool:
        """Whether documents and queries must have vectors."""
        kinds = {member.name for member in getattr(self.retriever, "members", self.retrievers)}
        return "dense" in kinds or (kinds == {"bm25"} and any(isinstance(one, Disagreement) for one in self.filters))

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What filters and the sampler must know of candidates, each once."""
        stages = (*self.filters, self.sampler)
        found = {signal.name: signal for stage in stages for signal in getattr(stage, "signals", ())}
        return tuple(found.values())

    @property
    def scoring(self) -> tuple[ScoringFilter, ...]:
        """The filters that score pairs of texts."""
        return tuple(stage for stage in self.filters if isinstance(stage, ScoringFilter))

    @property
    def unscored(self) -> Strategy:
        """The same without the filters that score pairs of texts."""
        return replace(self, filters=tuple(stage for stage in self.filters if not isinstance(stage, ScoringFilter)))

    @property
    def stops_early(self) -> bool:
        """Whether candidates beyond the best that pass the last filter cannot be chosen."""
        if not self.scoring or any(stage.exhaustive for stage in self.scoring):
            return False
        return self.filters[-1] is self.scoring[-1] and isinstance(self.sampler, Top)

    @property
    def needs_positive(self) -> bool:
        """Whether a stage compares with the positive's score."""
        return self.sampler.needs_positive or any(stage.needs_positive for stage in self.filters)

    def depth(self, num_negatives: int) -> int:
        """How many candidates to retrieve: the most any part needs, at least the request."""
        retriever = self.retriever
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
    "hybrid": Strategy([BM25(100), Dense(100)]),
    "denoised": Strategy([BM25(100)], [CrossEncoderDenoiser()]),
    "random": Strategy([Random()]),
}
"""Every strategy by its name. The first part of a `+` chain brings the retriever."""

ALIASES = {
    "static_bm25": "bm25",
    "lexical": "bm25",
    "topk": "dense",
    "naive_topk": "dense",
    "ce_denoise": "denoised",
    "rocketqa": "denoised",
    "nv_retriever": "positive_aware",
    "topk_percpos": "positive_aware",
    "ambiguous_zone": "rank_zone",
    "ambiguous": "rank_zone",
    "uniform": "random",
}
"""Other names in use for the same recipes."""


SAFEGUARDS: dict[str, tuple[Filter, ...]] = {
    "bm25": (NearQueryPositive(), TooSimilar()),
    "dense": (NearQueryPositive(), TooSimilar(), Disagreement()),
    "hybrid": (NearQueryPositive(), TooSimilar(), Disagreement()),
}
"""Filters that a strategy given by name begins with, by its retriever: against unlabelled positives, without a model
beyond the index. On Cranfield they take proven false negatives from 28 to 6 % (`benchmarks/quality.py`)."""


def resolve(strategy: str | Strategy, *, safeguards: bool = True, cross_encoder: Any = None) -> Strategy:
    """The strategy behind a name, a chain such as `"bm25+rank_zone"`, or a `Strategy`.

    The first part brings the retriever, all parts their filters from left to right, the last part that has another
    sampler than `Top` its sampler. A part may also be the name of a filter or sampler, which is then as by default.

    Args:
        strategy (`str` or `Strategy`): a `Strategy` is returned as it is.
        safeguards (`bool`, defaults to `True`): whether a name also brings the `safeguards` of its retriever.
        cross_encoder (*optional*): a model; a strategy without a denoiser then ends with one.

    Raises:
        UnknownNameError: a part is not known; names those that are, and the nearest.
    """
    found = _named(strategy, safeguards)
    if cross_encoder is None or any(isinstance(stage, CrossEncoderDenoiser) for stage in found.filters):
        return found
    return replace(found, filters=(*found.filters, CrossEncoderDenoiser()))


def _named(strategy: str | Strategy, safeguards: bool) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if not isinstance(strategy, str):
        raise ConfigError(f"strategy= got a {type(strategy).__name__}; give a name such as 'bm25', or a Strategy.")
    parts = [_part(name.strip()) for name in strategy.split("+")]
    samplers = [part.sampler for part in parts if not isinstance(part.sampler, Top)]
    filters = [stage for part in parts for stage in part.filters]
    first = SAFEGUARDS.get(parts[0].retriever.name, ()) if safeguards else ()
    named = {type(stage) for stage in filters}
    return Strategy(
        parts[0].retrievers,
        [*(stage for stage in first if type(stage) not in named), *filters],
        samplers[-1] if samplers else Top(),
    )


def _part(name: str) -> Strategy:
    known = ALIASES.get(name, name)
    if known in STRATEGIES:
        return STRATEGIES[known]
    if known in FILTERS:
        return Strategy([Dense()], [FILTERS[known]()])
    if known in SAMPLERS:
        return Strategy([Dense()], [], SAMPLERS[known]())
    raise unknown_name("strategy", name, STRATEGIES)
