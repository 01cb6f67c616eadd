"""The result of a comparison, to be printed, drawn, stored, or written as a page."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.arrays.statistics import PairedTests, paired_difference, paired_tests
from hf_hardneg.audits.judging import Share
from hf_hardneg.audits.result import Audit
from hf_hardneg.errors import shown
from hf_hardneg.reports.dot_plots import Dot, DotPlot
from hf_hardneg.reports.templates import rendered, save_page
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.runtime.units import duration
from hf_hardneg.training.comparison.trials import Trials

NO_NEGATIVES = "no mined negatives"
"""The line of a training whose negatives are the other rows of a batch alone."""
SURE = 0.05
"""The p below which two means are said to differ."""
HEADINGS = (
    *("negatives of", "nDCG@10", "± seeds", "to the best", "p", "new answers"),
    *("similarity", "per row", "false", "mined in"),
)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is known of the negatives of a strategy.

    Args:
        name (`str`): of the strategy, as it was asked for; `NO_NEGATIVES` where there are none.
        strategy (`str`): its parts.
        by_seed (`np.ndarray`): (seeds, q) float64, nDCG@10 of each held-out query.
        per_row (`float`): negatives of a row, on average.
        short_rows (`int`): rows with fewer than asked.
        similarity (`float`): mean similarity of negatives to their query by the model as it is: how hard they are.
        hidden (`Share`, *optional*): proven false ones, where queries have several positives of which one is shown.
        relevant (`Share`, *optional*): false ones by what people said in a review.
        audit (`Audit`, *optional*): what `audit` says of them, with a judge's estimate where one was asked.
        seconds (`float`): that mining took in this process; what was in the cache took none.
        training (`float`): seconds of all its trainings, when they were run.
    """

    name: str
    strategy: str = ""
    by_seed: np.ndarray
    per_row: float = 0.0
    short_rows: int = 0
    similarity: float = float("nan")
    hidden: Share | None = None
    relevant: Share | None = None
    audit: Audit | None = None
    seconds: float = 0.0
    training: float = 0.0

    @property
    def ndcg(self) -> np.ndarray:
        """The mean over seeds of each query, (q,)."""
        return np.asarray(self.by_seed.mean(axis=0))

    @property
    def mean(self) -> float:
        """The mean over seeds and queries."""
        return float(self.by_seed.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of the means of the seeds."""
        return float(self.by_seed.mean(axis=1).std())

    @property
    def false(self) -> Share | None:
        """The best evidence of false negatives: people's, else hidden positives, else the judge's."""
        estimate = None if self.audit is None else self.audit.estimate
        return self.relevant or self.hidden or (None if estimate is None else estimate.negatives)


@dataclass(frozen=True, kw_only=True)
class StrategyComparison:
    """The result of `compare()`; `str()` renders it.

    Args:
        lines (`tuple[Contender, ...]`): the strategies, and a training without mined negatives; the best first.
        untrained (`np.ndarray`): (q,) float64, nDCG@10 of each held-out query by the model as it is.
        shared (`np.ndarray`): (q,) bool, whether an answer of the query is one of a query that was trained on.
        trials (`Trials`): how was trained.
        documents (`int`): how many were ranked.
        rows (`int`): rows that negatives were mined for.
    """

    lines: tuple[Contender, ...]
    untrained: np.ndarray
    shared: np.ndarray
    trials: Trials
    documents: int
    rows: int

    @functools.cached_property
    def tests(self) -> PairedTests:
        """Paired tests of all pairs of lines, over the held-out queries."""
        return paired_tests(np.stack([line.ndcg for line in self.lines], axis=1))

    @property
    def best(self) -> Contender:
        """The line of the highest mean."""
        return self.lines[0]

    @property
    def equals(self) -> tuple[Contender, ...]:
        """The lines that the data cannot tell from the best, itself among them."""
        return tuple(line for line, p in zip(self.lines, self.tests.p[0], strict=True) if p >= SURE)

    @property
    def recommendation(self) -> str:
        """What to mine with, and how sure that is, in sentences."""
        names = [line.name for line in self.equals]
        if len(self.lines) == 1:
            said = f"Only {self.best.name} was tried."
        elif len(names) == 1:
            said = f"Take {self.best.name}: better than every other. {self._beside(self.lines[1], 1)}"
        else:
            said = (
                f"No difference that the data can show between {', '.join(names[:-1])} and {names[-1]}: with "
                f"{len(self.untrained):,} held-out queries, means must differ by {self.tests.detectable:.4f}. "
                f"{self.best.name} has the highest mean."
            )
            if NO_NEGATIVES in names:
                said += " So the data do not show that mined negatives help here."
            if len(names) < len(self.lines):
                place = len(names)
                said += f" {self._beside(self.lines[place], place)}"
        said += self._of_new_answers()
        gain, low, high = paired_difference(self.best.ndcg, self.untrained)
        if low <= 0:
            said += (
                f" Beware: training with {self.best.name} changed nDCG@10 by {gain:+.4f} (95 % interval {low:+.4f} to "
                f"{high:+.4f}), so this training itself is not shown to help."
            )
        return said

    def _of_new_answers(self) -> str:
        """Say whether the best is best too where no answer was trained on; nothing where that is no question."""
        new = ~self.shared
        if len(self.lines) == 1 or len(self.equals) == len(self.lines) or new.all() or new.sum() < 2:
            return ""
        gain, low, _ = paired_difference(self.best.ndcg[new], self.untrained[new])
        end = f" Nor is training shown to help them: {gain:+.4f}." if low <= 0 else ""
        said = f" Of {int(new.sum()):,} of these queries no answer was trained on"
        tests = paired_tests(np.stack([line.ndcg[new] for line in self.lines], axis=1))
        below = [line for line, p in zip(self.lines, tests.p[0], strict=True) if p < SURE]
        if any(line.ndcg[new].mean() > self.best.ndcg[new].mean() for line in below):
            return f"{said}, and there {self.best.name} is not the best.{end}"
        if below:
            return f"{said}, and there it is above {', '.join(line.name for line in below)} too.{end}"
        return f"{said}, and there the data show no difference.{end}"

    def _new(self, ndcg: np.ndarray) -> str:
        return "" if self.shared.all() else f"{ndcg[~self.shared].mean():.4f}"

    def _beside(self, line: Contender, place: int) -> str:
        mean, low, high = paired_difference(self.best.ndcg, line.ndcg)
        return (
            f"{self.best.name} is above {line.name} by {mean:.4f} (95 % interval {low:.4f} to {high:.4f}, "
            f"p {_p(self.tests.p[0][place])})."
        )

    @property
    def summary(self) -> str:
        """What was done, in a line."""
        learner = "a projection of its vectors" if self.trials.learner == "projection" else "all layers"
        return (
            f"{len(self.lines)} sources of negatives for {self.rows:,} rows, {learner} trained with "
            f"{self.trials.seeds} seeds in {self.trials.rounds} rounds, nDCG@10 of {len(self.untrained):,} "
            f"held-out queries among {self.documents:,} documents"
        )

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The cells of the table, a tuple for each line, under `HEADINGS`."""
        cells = [
            (
                line.name,
                f"{line.mean:.4f}",
                f"{line.spread:.4f}",
                f"{line.mean - self.best.mean:+.4f}" if place else "",
                _p(self.tests.p[0][place]) if place else "",
                self._new(line.ndcg),
                *(
                    (_number(line.similarity), f"{line.per_row:.2f}", _share(line.false), duration(line.seconds))
                    if line.name != NO_NEGATIVES
                    else ("", "", "", "")
                ),
            )
            for place, line in enumerate(self.lines)
        ]
        as_it_is = (f"{self.untrained.mean():.4f}", "", "", "", self._new(self.untrained), "", "", "", "")
        return [*cells, ("the model as it is", *as_it_is)]

    def __str__(self) -> str:
        rows = [HEADINGS, *self.table]
        first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = []
        for name, *cells in rows:
            numbers = [f"{cell:>{width}}" for cell, width in zip(cells, others, strict=True)]
            aligned.append("  ".join([f"{name:<{first}}", *numbers]).rstrip())
        return shown("\n".join([self.summary, *(f"  {line}" for line in aligned), self.recommendation]))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold; numbers that are none are left out."""
        return {
            "lines": [self._values(line, place) for place, line in enumerate(self.lines)],
            "untrained": float(self.untrained.mean()),
            "queries": len(self.untrained),
            "queries_with_new_answers": int((~self.shared).sum()),
            "documents": self.documents,
            "rows": self.rows,
            "detectable": self.tests.detectable,
            "equals": [line.name for line in self.equals],
            "recommendation": self.recommendation,
        }

    def _values(self, line: Contender, place: int) -> dict[str, Any]:
        mean, low, high = paired_difference(line.ndcg, self.best.ndcg)
        new = line.ndcg[~self.shared]
        figures = {"mean": line.mean, "spread": line.spread, "by_seed": line.by_seed.mean(axis=1).tolist()}
        values = {
            "name": line.name,
            "strategy": line.strategy,
            "ndcg_at_10": figures,
            "to_the_best": {"mean": mean, "low": low, "high": high, "p": float(self.tests.p[0][place])},
            "new_answers": float(new.mean()) if len(new) else None,
            "similarity": line.similarity if np.isfinite(line.similarity) else None,
            "negatives_per_row": line.per_row,
            "short_rows": line.short_rows,
            "seconds": line.seconds,
            "training_seconds": line.training,
            "audit": None if line.audit is None else line.audit.counts,
        }
        for name in ("hidden", "relevant"):
            share: Share | None = getattr(line, name)
            values[name] = None if share is None else {"false": share.accepted, "of": share.asked}
        return values

    def plot(self) -> DotPlot:
        """Draw the means with the ranges of their seeds; notebooks show the chart where it is the value of a cell."""
        equals = {line.name for line in self.equals}
        dots = [
            Dot(line.name, line.mean, *_ends(line.by_seed.mean(axis=1)), is_marked=line.name in equals)
            for line in self.lines
        ]
        return DotPlot(
            title="nDCG@10 after training; what cannot be told from the best stands out",
            x_label="mean, and lowest to highest seed",
            dots=dots,
            reference=float(self.untrained.mean()),
            reference_label="the model as it is",
        )

    @checked
    def html(self, path: Folder) -> Path:
        """Write an HTML page that needs nothing else, and return its path.

        Args:
            path (`str` or `Path`): replaced where it exists.

        Raises:
            StoreError: the disk refuses it.
        """
        content = rendered("training/comparison/comparison.html.jinja", comparison=self, headings=HEADINGS)
        return save_page(Path(path), content)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""


def _share(share: Share | None) -> str:
    return "" if share is None or not share.asked else f"{100 * share.share:.1f} %"
