"""Which candidates become negatives: the arguments of `mine_hard_negatives` as parts of a `Strategy`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.filters import AbsoluteMargin, Filter, RankWindow, RelativeMargin, ScoreBounds
from hf_hardneg.retrievers import Retriever
from hf_hardneg.samplers import Top, Uniform
from hf_hardneg.strategies import Strategy

Drawing = Literal["random", "top"]
OutputFormat = Literal["triplet", "n-tuple", "n-tuple-scores", "labeled-pair", "labeled-list"]
SPARE = 10
"""Candidates for each negative where filters remove some, and no range_max says how many."""


@dataclass(frozen=True)
class Selecting:
    """The arguments that say which candidates become negatives; see `mine_hard_negatives`."""

    num_negatives: int
    range_min: int
    range_max: int | None
    absolute_margin: float | None
    relative_margin: float | None
    max_score: float | None
    min_score: float | None
    sampling_strategy: Drawing

    def __post_init__(self) -> None:
        size, first, last = self.num_negatives, self.range_min, self.range_max
        if size < 1:
            raise ConfigError(f"num_negatives must be at least 1, got num_negatives={size}. Ask for one or more.")
        if first < 0:
            raise ConfigError(f"range_min must be non-negative, got range_min={first}. Give 0 to skip no candidate.")
        if last is not None and first >= last:
            raise ConfigError(
                f"range_min must be smaller than range_max, got range_min={first}, range_max={last}: no rank lies "
                "between. Raise range_max."
            )
        if last is not None and size > last - first:
            raise ConfigError(
                f"Cannot mine {size} negatives per query: only {last - first} candidates remain between "
                f"range_min={first} and range_max={last}. Raise range_max, or ask for fewer negatives."
            )
        self.filters  # noqa: B018  # refuses its own arguments

    @functools.cached_property
    def filters(self) -> tuple[Filter, ...]:
        """The filters by score, in the order in which sentence-transformers applies them."""
        filters: list[Filter] = []
        if self.absolute_margin is not None:
            filters.append(AbsoluteMargin(self.absolute_margin))
        if self.relative_margin is not None:
            filters.append(RelativeMargin(self.relative_margin))
        if self.max_score is not None or self.min_score is not None:
            filters.append(ScoreBounds(min_score=self.min_score, max_score=self.max_score))
        return tuple(filters)

    @property
    def margins(self) -> list[float]:
        """The margins that were given."""
        return [margin for margin in (self.absolute_margin, self.relative_margin) if margin is not None]

    @property
    def is_default(self) -> bool:
        """Whether nothing but the number of negatives was asked for."""
        return not self.filters and (self.range_min, self.range_max, self.sampling_strategy) == (0, None, "top")

    def last(self, positives: int, *, rescored: bool) -> int:
        """The first rank that is too deep, where queries have up to so many positives."""
        if self.range_max is not None:
            return self.range_max
        removes = bool(self.margins) or self.max_score is not None or (rescored and self.min_score is not None)
        return self.range_min + self.num_negatives * (SPARE if removes else 1) + positives

    def strategy(self, retriever: Retriever, last: int, depth: int) -> Strategy:
        """The parts: the best `depth` hits, what filters leave of them, of that the ranks up to `last`."""
        window = RankWindow(self.range_min, last, "survivors")
        sampler = Uniform() if self.sampling_strategy == "random" else Top()
        return Strategy([retriever], [RankWindow(0, depth, "raw"), *self.filters, window], sampler)


def output_of(
    output_format: OutputFormat, output_scores: bool, include_positives: bool, as_triplets: bool | None
) -> tuple[str, bool]:
    """The layout and whether it has scores; what sentence-transformers calls deprecated is translated, and told."""
    layout: str = output_format
    if as_triplets is not None:
        layout = "triplet" if as_triplets else "n-tuple"
        warn(f"as_triplets={as_triplets} is deprecated in sentence-transformers. Give output_format={layout!r}.")
    if layout == "n-tuple-scores":
        warn(f"The format {layout!r} is deprecated. Give output_format='n-tuple' and output_scores=True.")
        layout, output_scores = "n-tuple", True
    if include_positives and layout != "n-tuple":
        warn(f"include_positives=True keeps a ranking, and output_format={layout!r} has none: 'n-tuple' is written.")
        layout = "n-tuple"
    return layout, output_scores


def absolute_of(absolute_margin: float | None, margin: float | None) -> float | None:
    """The absolute margin, under its present name or its old one."""
    if margin is None:
        return absolute_margin
    warn(f"margin={margin} is deprecated in sentence-transformers and read as absolute_margin={margin}. Give that.")
    return margin


def check_ranking(selecting: Selecting) -> None:
    """Warn, or raise, where positives may not stay in a ranking that should have them.

    Raises:
        ConfigError: a margin of 0 or below.
    """
    if selecting.is_default:
        return
    if any(margin <= 0 for margin in selecting.margins):
        raise ConfigError(
            f"include_positives=True with a margin of {min(selecting.margins)} would keep some positives and remove "
            "others by their own score; allowed are margins above 0, which remove all. Leave the margin out."
        )
    warn(
        "include_positives=True beside ranges, bounds, margins or random draws: these may still discard the positive "
        "values. Leave them at their defaults for a whole ranking."
    )
