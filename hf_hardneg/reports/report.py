"""`report` tells what mining did, from the columns of a mined dataset alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.arrays.statistics import infonce
from hf_hardneg.corpus.columns import PROMOTED, PSEUDO
from hf_hardneg.corpus.ids import is_listed
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, DataError, shown
from hf_hardneg.recipes.recipe import Recipe, recipe_of
from hf_hardneg.reports.charts import MODERATE, Histogram, Marked, round_edges
from hf_hardneg.reports.estimates import FalseNegatives, false_negatives
from hf_hardneg.reports.hardness import EDGES, HardnessHistogram, best_scores, compare
from hf_hardneg.reports.layers import LAYERS, SHOWN, LayerExample, Places, first_places, read_examples
from hf_hardneg.reports.plots import drawn_figure
from hf_hardneg.reports.templates import rendered, save_page
from hf_hardneg.runtime.arguments import AboveZero, Folder, checked

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure

BATCH = 10_000
BINS = 20
MANY, OUTER = 1_000, 0.005
"""Scores from which the outermost shares of them are joined in a bin, so that a few do not widen all others."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RECALL, INCONSISTENT = "search_recall", "inconsistent"
SYNTHESIS = "synthesis"
TEMPERATURE = 0.05
SCORES = ("negative_scores", "positive_scores")
NEEDED = ("negatives", "negative_ranks", "negative_sources", *SCORES, "mining")


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """What pages and plots of a report show besides its figures.

    Args:
        scores (`Histogram`, *optional*): of the negatives' scores, with the middle half of the positives' shaded.
        examples (`tuple[LayerExample, ...]`): the first few negatives of each layer of hardness.
        inconsistent_rows (`int`, *optional*): rows whose positives many documents outscore, where that was counted.
        marked, merged (`int`): documents that a judge found relevant, beside and among the positives.
    """

    scores: Histogram | None = None
    examples: tuple[LayerExample, ...] = ()
    inconsistent_rows: int | None = None
    marked: int = 0
    merged: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of a mined dataset; `str()` renders them.

    Args:
        rows (`int`): rows of the dataset.
        negatives (`int`): negatives in all.
        funnel (`dict[str, int]`): candidates retrieved, removed under each reason, and kept, over all rows.
        sources (`dict[str, int]`): negatives by where they came from.
        negative_scores, positive_scores, margins, ranks (`dict[float, float]`): quantiles; a margin is the positive's
            score minus a negative's. The positive is the best-scored one of the query.
        hardness (`HardnessHistogram`): negatives by `(s+ - s) / |s+|` against the same positive, of those with a score
            on both sides. High scores are no evidence of unlabelled positives, see `hf_hardneg.reports.hardness`.
        short_rows, empty_rows (`int`): rows with fewer negatives than asked, and with none.
        repeated_negatives (`int`): rows in which one text stands twice among the negatives.
        search_recall (`float`, *optional*): share of the exact nearest documents that an approximate search finds, as
            it measured itself; mean over rows. `None` where all search was exact.
        gradient_shares (`dict[float, float]`): quantiles of InfoNCE's `p` of each negative, its share of the largest
            gradient it could get, against the same positive and the row's other negatives. Empty without temperature.
        synthesis (`dict[str, int]`): what `SyntheticNegatives` asked, accepted, and rejected under each reason.
        false_negatives (`FalseNegatives`, *optional*): what people say who judged negatives (`Verdicts.on`), and the
            cross-encoder that denoised them; `None` where neither did, since nothing else here can tell.
        pictured (`Pictured`): what pages and plots show besides.
    """

    rows: int
    negatives: int
    funnel: dict[str, int]
    sources: dict[str, int]
    negative_scores: dict[float, float]
    positive_scores: dict[float, float]
    margins: dict[float, float]
    ranks: dict[float, float]
    hardness: HardnessHistogram
    short_rows: int
    empty_rows: int
    repeated_negatives: int
    search_recall: float | None = None
    gradient_shares: dict[float, float] = field(default_factory=dict)
    synthesis: dict[str, int] = field(default_factory=dict)
    false_negatives: FalseNegatives | None = None
    pictured: Pictured = field(default_factory=Pictured, repr=False)

    def __str__(self) -> str:
        retrieved = max(self.funnel["retrieved"], 1)
        lines = [f"{self.rows:,} rows, {self.negatives:,} negatives, {self.negatives / max(self.rows, 1):.2f} per row"]
        for name, count in self.funnel.items():
            lines.append(f"  {name:<20} {count:>12,}  {100 * count / retrieved:6.2f} %")
        for name in ("ranks", "negative_scores", "positive_scores", "margins", "gradient_shares"):
            values = getattr(self, name)
            if values:
                listed = "  ".join(f"{int(100 * q)}%: {value:.4g}" for q, value in values.items())
                lines.append(f"  {name:<20} {listed}")
        lines.append(f"  {'sources':<20} " + ", ".join(f"{name}: {count:,}" for name, count in self.sources.items()))
        if self.hardness.compared:
            lines.append(f"  against the best positive of the query: {self.hardness}")
        unknown = "not estimated; scores of retrieval cannot tell, a cross-encoder or a judge can"
        lines.append(f"  false negatives      {self.false_negatives or unknown}")
        lines.append(f"  short rows {self.short_rows:,}, of which empty {self.empty_rows:,}")
        if self.repeated_negatives:
            lines.append(f"  rows with a repeated negative {self.repeated_negatives:,}")
        if self.inconsistent_rows is not None:
            lines.append(f"  rows whose positives are probably noise {self.inconsistent_rows:,}")
        if self.marked or self.merged:
            lines.append(f"  found relevant by a judge {self.marked:,} marked, {self.merged:,} merged into positives")
        if self.search_recall is not None:
            lines.append(f"  recall of approximate search {self.search_recall:.4f}")
        if self.synthesis:
            listed = ", ".join(f"{name}: {count:,}" for name, count in self.synthesis.items() if count)
            lines.append(f"  {SYNTHESIS:<20} {listed}")
        return shown("\n".join(lines))

    @property
    def inconsistent_rows(self) -> int | None:
        """How many rows have positives that many documents outscore; `None` where `ConsistentPositive` counted none.

        Rows that it left out are not among them.
        """
        return self.pictured.inconsistent_rows

    @property
    def marked(self) -> int:
        """How many documents a judge found relevant that stand in the column `pseudo_positives`."""
        return self.pictured.marked

    @property
    def merged(self) -> int:
        """How many documents a judge found relevant that are among the positives, named in the column `promoted`."""
        return self.pictured.merged

    @property
    def scores(self) -> Histogram | None:
        """The histogram of the negatives' scores; `None` where none has one."""
        return self.pictured.scores

    @property
    def zone(self) -> Histogram | None:
        """The histogram of relative margins, with what is moderate shaded; `None` where no negative was compared."""
        if not self.hardness.compared:
            return None
        return Histogram(
            title="Negatives against the best positive of their query",
            x_label="(positive - negative) / |positive|",
            edges=EDGES,
            counts=self.hardness.counts,
            marked=MODERATE,
        )

    @checked
    def html(self, path: Folder) -> Path:
        """Write an HTML page with charts and examples that needs nothing else, and return its path.

        Args:
            path (`str` or `Path`): replaced where it exists.

        Raises:
            StoreError: the disk refuses it.

        Example:
            >>> report(mined).html("report.html").name
            'report.html'
        """
        charts = [chart for chart in (self.zone, self.scores) if chart is not None]
        layers = {layer: [each for each in self.pictured.examples if each.layer == layer] for layer in LAYERS}
        figures = str(self).splitlines()[1 + len(self.funnel) :]
        content = rendered("reports/report.html.jinja", report=self, charts=charts, layers=layers, figures=figures)
        return save_page(Path(path), content)

    def plot(self) -> Figure:
        """Draw the funnel, the scores and the relative margins with matplotlib, and return the figure.

        Raises:
            MissingExtraError: matplotlib is not installed.

        Example:
            >>> figure = report(mined).plot()
            >>> figure.savefig("report.png")
        """
        return drawn_figure(self.funnel, [chart for chart in (self.scores, self.zone) if chart is not None])


@checked
def report(dataset: Dataset, *, temperature: AboveZero | None = None) -> Report:
    """Compute the figures of a mined dataset.

    Args:
        dataset (`Dataset`): what `mine()` or `HardNegatives` returned, in the `list` layout.
        temperature (`float`, *optional*): that of the InfoNCE loss to come, for `gradient_shares`. By default 0.05
            where all scores lie in [-1, 1] as cosines do, and no shares for others.

    Raises:
        ColumnError: it lacks the columns of mined data.
        ConfigError: it is no `Dataset`, or the temperature is not above 0.

    Example:
        >>> print(report(mined))
        4 rows, 8 negatives, 2.00 per row
          retrieved                      19  100.00 %
          known_positive                  4   21.05 %
          duplicate                       0    0.00 %
          not_a_number                    0    0.00 %
          blank                           0    0.00 %
          near_query                      0    0.00 %
          too_similar                     0    0.00 %
          not_chosen                      7   36.84 %
          kept                            8   42.11 %
          ranks                5%: 0  25%: 0.75  50%: 1  75%: 2  95%: 2
          negative_scores      5%: 0.5442  25%: 0.5945  50%: 0.7552  75%: 0.9751  95%: 1.237
          positive_scores      5%: 0.5549  25%: 0.7065  50%: 1.295  75%: 1.906  95%: 2.113
          margins              5%: -0.2652  25%: -0.05593  50%: 0.4155  75%: 0.9606  95%: 1.449
          sources              bm25: 8
          against the best positive of the query: easy 25.00 %, moderate 25.00 %, hard 50.00 % (25.00 % above it), of 8
          false negatives      not estimated; scores of retrieval cannot tell, a cross-encoder or a judge can
          short rows 0, of which empty 0
    """
    check_mined(dataset, "report()")
    names = [*NEEDED, *({SYNTHESIS} & set(dataset.column_names))]
    parts = [_figures(table) for table in dataset.with_format("arrow", columns=names).iter(BATCH)]
    figures = _joined(parts or [_figures(dataset.data.select(names).slice(0, 0))], temperature)
    places = _first_places(parts)
    recipe = readable_recipe(dataset)
    examples = tuple(read_examples(dataset, places, PairColumns.of(None if recipe is None else recipe.columns)))
    marked, merged = (_documents(dataset, names[0]) for names in (PSEUDO, PROMOTED))
    pictured = replace(figures.pictured, examples=examples, marked=marked, merged=merged)
    return replace(figures, false_negatives=false_negatives(dataset, recipe), pictured=pictured)


def _documents(dataset: Dataset, name: str) -> int:
    """Count the documents in a column of lists; 0 where there is none, or one of the user's that holds no lists."""
    if name not in dataset.column_names or not is_listed(dataset.features.arrow_schema.field(name).type):
        return 0
    parts = dataset.with_format("arrow", columns=[name]).iter(BATCH)
    return sum(len(combined(part.column(name)).flatten()) for part in parts)


def check_mined(dataset: Dataset, what: str) -> None:
    """Raise for rows without the columns of mined data, which `what` needs.

    Raises:
        ColumnError: naming those that are missing.
    """
    missing = [name for name in NEEDED if name not in dataset.column_names]
    if missing:
        raise ColumnError(
            f"{what} needs the columns of mined data and {', '.join(map(repr, missing))} are missing; it has "
            f"{', '.join(map(repr, dataset.column_names))}. Give what mine() returned, before to_format(): "
            "layouts are made from it."
        )


def readable_recipe(dataset: Dataset) -> Recipe | None:
    """Return the recipe that the dataset carries; `None` where that is no single one that can be read."""
    try:
        return recipe_of(dataset)
    except DataError:
        return None


def _first_places(parts: Sequence[_BatchFigures]) -> Places:
    """Join the places of batches: the first of each layer, rows counted from the first batch on."""
    places: Places = {layer: [] for layer in LAYERS}
    start = 0
    for part in parts:
        for layer, chosen in part.places.items():
            room = SHOWN - len(places[layer])
            places[layer] += [(start + row, place) for row, place in chosen[:room]]
        start += len(part.per_row)
    return places


@dataclass(frozen=True, kw_only=True)
class _BatchFigures:
    """The figures of a batch: counts to add up, and the numbers whose quantiles are asked."""

    per_row: np.ndarray
    short: np.ndarray
    counts: dict[str, int]
    sources: Counter[str]
    numbers: dict[str, np.ndarray]
    compared: np.ndarray
    hardness: HardnessHistogram
    places: Places
    repeated: int
    inconsistent: int | None
    synthesis: dict[str, int]


def _figures(table: pa.Table) -> _BatchFigures:
    columns = {name: combined(table.column(name)) for name in table.column_names}
    counts = _fields(columns["mining"])
    recalls = counts.pop(RECALL, pa.nulls(0, pa.float32()))
    inconsistent = counts.pop(INCONSISTENT, None)
    sources = pc.value_counts(columns["negative_sources"].flatten()).to_pylist()
    (row, anchors), (owner, scores) = (_flat(columns[f"{side}_scores"]) for side in ("positive", "negative"))
    compared = compare(best_scores(table.num_rows, row, anchors), owner, scores)
    per_row = pc.list_value_length(columns["negatives"]).to_numpy(zero_copy_only=False)
    return _BatchFigures(
        per_row=per_row,
        short=counts["short"].to_numpy(zero_copy_only=False),
        counts={name: _total(values) for name, values in counts.items() if name != "short"},
        sources=Counter({entry["values"]: entry["counts"] for entry in sources}),
        numbers={
            "ranks": _numbers(columns["negative_ranks"]),
            **{side: _numbers(columns[side]) for side in SCORES},
            "margins": compared.margin,
            RECALL: recalls.drop_null().to_numpy(zero_copy_only=False).astype(np.float64),
        },
        compared=np.bincount(compared.row, minlength=table.num_rows),
        hardness=HardnessHistogram.of(compared.relative),
        places=first_places(compared, np.append(0, np.cumsum(per_row))),
        repeated=_repeated(columns["negatives"]),
        inconsistent=None if inconsistent is None else _total(inconsistent),
        synthesis={name: _total(values) for name, values in _fields(columns.get(SYNTHESIS)).items()},
    )


def _fields(structs: pa.StructArray | None) -> dict[str, pa.Array]:
    if structs is None:
        return {}
    return {field.name: values for field, values in zip(structs.type, structs.flatten(), strict=True)}


def _total(counts: pa.Array) -> int:
    return int(pc.sum(counts).as_py() or 0)


def _joined(parts: list[_BatchFigures], temperature: float | None) -> Report:
    """Add up the figures of batches, and take quantiles over all of them."""
    per_row, short = (np.concatenate([getattr(part, name) for part in parts]) for name in ("per_row", "short"))
    numbers = {name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers}
    sources = sum((part.sources for part in parts), Counter[str]())
    counted = [part.inconsistent for part in parts if part.inconsistent is not None]
    compared = np.concatenate([part.compared for part in parts])
    margin, recalls = numbers["margins"], numbers.pop(RECALL)
    if temperature is None and all((np.abs(numbers[side]) < 1.001).all() for side in SCORES):
        temperature = TEMPERATURE
    if temperature is not None:
        rows = np.repeat(np.arange(len(compared)), compared)
        numbers["gradient_shares"] = infonce(np.zeros(len(compared)), -margin, rows, temperature=temperature)[1]
    quantiles_of: dict[str, Any] = {name: quantiles(values) for name, values in numbers.items()}
    return Report(
        rows=len(per_row),
        negatives=int(per_row.sum()),
        funnel={name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
        sources=dict(sorted(sources.items())),
        **quantiles_of,
        hardness=sum((part.hardness for part in parts), HardnessHistogram()),
        short_rows=int((short > 0).sum()),
        empty_rows=int((per_row == 0).sum()),
        repeated_negatives=sum(part.repeated for part in parts),
        search_recall=float(recalls.mean()) if len(recalls) else None,
        synthesis={name: sum(part.synthesis[name] for part in parts) for name in parts[0].synthesis},
        pictured=Pictured(
            scores=_scores(numbers["negative_scores"], quantiles_of["positive_scores"]),
            inconsistent_rows=sum(counted) if len(counted) == len(parts) else None,
        ),
    )


def _scores(scores: np.ndarray, positives: dict[float, float]) -> Histogram | None:
    """Count the finite scores of negatives in bins that also hold the middle half of the positives' scores."""
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return None
    outer = (OUTER, 1 - OUTER) if len(scores) >= MANY else (0, 1)
    ends = [*(positives[q] for q in (0.25, 0.75) if positives), *np.quantile(scores, outer).tolist()]
    edges = round_edges(min(ends), max(ends), BINS)
    below, above = bool(scores.min() < edges[0]), bool(scores.max() > edges[-1])
    edges = [*[-np.inf] * below, *edges, *[np.inf] * above]
    return Histogram(
        title="Scores of negatives",
        x_label="score",
        edges=tuple(edges),
        counts=tuple(np.histogram(scores, edges)[0].tolist()),
        marked=Marked(positives[0.25], positives[0.75], "middle half of the positives") if positives else None,
    )


def _flat(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Lay lists end to end: the list that each number is in, (n,) int64, and the numbers, (n,) float64."""
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return owner, lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)


def _numbers(lists: pa.ListArray) -> np.ndarray:
    return lists.flatten().drop_null().to_numpy(zero_copy_only=False).astype(np.float64)


def quantiles(values: np.ndarray) -> dict[float, float]:
    """Return the quantiles `QUANTILES` of the finite values; empty without values."""
    values = values[np.isfinite(values)]
    return {q: float(np.quantile(values, q)) for q in QUANTILES} if len(values) else {}


def _repeated(negatives: pa.ListArray) -> int:
    pairs = pa.table({"row": pc.list_parent_indices(negatives), "text": negatives.flatten()})
    counts = pairs.group_by(["row", "text"]).aggregate([([], "count_all")])
    return len(pc.unique(counts.filter(pc.field("count_all") > 1).column("row")))
