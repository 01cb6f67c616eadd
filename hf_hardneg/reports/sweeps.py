"""`sweep` tells what other settings of filters would yield, from candidates that are retrieved once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ConfigError, check_keywords, silenced, unknown_name
from hf_hardneg.filters import FILTERS, Filter
from hf_hardneg.formats.loading import opened
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives
from hf_hardneg.mining import KEYWORDS
from hf_hardneg.reports.report import Report, report
from hf_hardneg.runtime.arguments import checked, fit
from hf_hardneg.steps import Steps
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from hf_hardneg.pipeline.options import Documents, PairRows, PlanOptions


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One line of a sweep; `str()` renders it.

    Args:
        filters (`tuple[Filter, ...]`): what was applied.
        report (`Report`): the figures: yield, starving queries, quantiles.
    """

    filters: tuple[Filter, ...]
    report: Report

    def __str__(self) -> str:
        figures = self.report
        return (
            f"{', '.join(map(repr, self.filters)):<60} {figures.negatives:>9,} negatives  "
            f"{figures.short_rows:>7,} short rows  {figures.empty_rows:>7,} empty"
        )


@checked
def sweep(
    pairs: PairRows,
    corpus: Documents | Strategy | None = None,
    strategy: str | Strategy = "dense",
    *,
    options: PlanOptions | None = None,
    **grid: Sequence[Any],
) -> list[Setting]:
    """Report every combination of filter settings, from one retrieval.

    Candidates are retrieved once, as deep as the most demanding combination asks (or taken from the cache); each
    combination then only runs the selection.

    Args:
        pairs, corpus (`Dataset` or whatever holds them), strategy (`str` or `Strategy`): as for `mine`; of several
            splits of pairs, `train`.
        options (`dict`, *optional*): further arguments of `mine`.
        grid: a filter's name, and the values of its first field to try, such as `relative_margin=[0.0, 0.05, 0.1]`.

    Returns:
        One `Setting` for each combination, in the order of the grid.

    Raises:
        UnknownNameError: no such filter.

    Example:
        >>> for setting in sweep(pairs, corpus, "bm25", relative_margin=[0.0, 0.5]):
        ...     print(setting)
        RelativeMargin(margin=0.0)                                    12 negatives        3 short rows        0 empty
        RelativeMargin(margin=0.5)                                     6 negatives        3 short rows        1 empty
    """
    for name in grid:
        if name in OPTIONS | KEYWORDS:
            raise ConfigError(
                f"sweep({name}=) is no filter: settings to try are {', '.join(sorted(FILTERS))}. Give an argument of "
                f"mine() as options={{{name!r}: ...}}."
            )
        if name not in FILTERS:
            raise unknown_name("filter", name, FILTERS)
        if not isinstance(grid[name], list | tuple | range):
            raise ConfigError(
                f"sweep({name}={grid[name]!r}) is no list of settings; give those to try, such as {name}=[0.0, 0.05]."
            )
    if not grid:
        raise ConfigError("sweep() got no settings to try; give at least one, such as relative_margin=[0.0, 0.05].")
    chosen: dict[str, Any] = dict(fit("sweep", "options", options, dict[str, Any] | None) or {})
    check_keywords("sweep(options=)", chosen, OPTIONS)
    job = opened("sweep", pairs, corpus, strategy, chosen, default="dense", single=True)
    chosen |= {**job.options, "known_positives": [job.pairs, *chosen.get("known_positives", ())]}
    base = HardNegatives(job.corpus, job.strategy, **chosen)
    makers: dict[str, Any] = {name: FILTERS[name] for name in grid}
    combinations = [
        tuple(make(value) for make, value in zip(makers.values(), values, strict=True))
        for values in itertools.product(*grid.values())
    ]
    resolved: Any = base.strategy
    strategies = [replace(resolved, filters=(*resolved.filters, *filters)) for filters in combinations]
    deepest = max(strategy.depth(base.num_negatives) for strategy in strategies)
    steps, settings = Steps.of(base), []
    for filters, strategy in zip(combinations, strategies, strict=True):
        with silenced():
            miner = HardNegatives(job.corpus, strategy, **chosen)
        settings.append(Setting(filters=filters, report=report(steps.negatives(job.pairs, miner, deepest))))
    return settings
