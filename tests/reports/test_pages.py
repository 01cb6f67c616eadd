"""What a report shows besides its figures: examples by layer, a page, a plot."""

import math
import sys

import pytest
from datasets import Dataset

from hf_hardneg import mine, report
from hf_hardneg.errors import ConfigError, MissingExtraError
from hf_hardneg.reports.layers import LAYERS, LENGTH, SHOWN
from tests.hub.mined import mined
from tests.worlds import world


def layer_of(margin):
    return next(layer for layer, (low, high) in LAYERS.items() if low <= margin < high or margin == high == math.inf)


def expected(rows):
    """By loops: of each layer the first negative of each of the first three rows that have one."""
    chosen = {layer: {} for layer in LAYERS}
    for number, row in enumerate(rows):
        anchors = [score for score in row["positive_scores"] if score is not None]
        for text, score in zip(row["negatives"], row["negative_scores"], strict=True):
            if not anchors or score is None:
                continue
            best, difference = max(anchors), max(anchors) - score
            margin = (
                0.0 if not difference else math.copysign(math.inf, difference) if not best else difference / abs(best)
            )
            chosen[layer_of(margin)].setdefault(number, (text, score, best))
    return {layer: dict(list(found.items())[:SHOWN]) for layer, found in chosen.items()}


@pytest.mark.parametrize("seed", range(4))
def test_examples_are_the_first_of_each_layer(seed, monkeypatch):
    monkeypatch.setattr("hf_hardneg.reports.report.BATCH", 5)
    rows = mine(*world(seed, documents=80), num_negatives=4, safeguards=False)
    shown = {layer: {} for layer in LAYERS}
    for each in report(rows).pictured.examples:
        shown[each.layer][each.row] = (each.negative, each.negative_score, each.positive_score)
        row = rows[each.row]
        best = max(range(len(row["positive"])), key=lambda place: row["positive_scores"][place])
        assert (each.query, each.positive) == (row["query"], row["positive"][best])
    assert shown == expected(rows)


def test_examples_are_cut_and_need_texts():
    long = mined().map(lambda row: {"query": row["query"] + "x" * LENGTH})
    assert {len(each.query) for each in report(long).pictured.examples} == {LENGTH + 1}
    assert report(mined().rename_column("query", "question")).pictured.examples == ()


def test_the_histogram_of_scores_is_not_widened_by_a_few():
    scores = [[float(number % 100)] for number in range(1000)] + [[1e6], [-1e6]]
    rows = {"negatives": [["x"]] * 1002, "negative_ranks": [[0]] * 1002, "negative_sources": [["bm25"]] * 1002}
    counts = [{"retrieved": 1, "kept": 1, "short": 0}] * 1002
    drawn = report(
        Dataset.from_dict({**rows, "negative_scores": scores, "positive_scores": [[50.0]] * 1002, "mining": counts})
    )
    assert drawn.scores.edges[0] == -math.inf and drawn.scores.edges[-1] == math.inf
    assert drawn.scores.edges[1] >= 0 and drawn.scores.edges[-2] <= 100 and sum(drawn.scores.counts) == 1002


def test_the_page_holds_every_figure(tmp_path):
    figures = report(mined())
    page = figures.html(tmp_path / "report.html").read_text(encoding="utf-8")
    for line in str(figures).splitlines()[1:]:
        assert all(word in page for word in line.split() if word.isidentifier()), line
    assert page.count("<svg") == 2 and "<script" not in page and "prefers-color-scheme: dark" in page
    assert all(f"<h3>{layer}</h3>" in page for layer in ("above the positive", "hard", "moderate", "easy"))
    empty = report(mined().select([])).html(tmp_path / "empty.html").read_text(encoding="utf-8")
    assert "<svg" not in empty and "Examples" not in empty
    with pytest.raises(ConfigError, match=r"Report.html\(path=5\)|html\(path=5\)"):
        figures.html(5)


def test_a_plot_draws_the_same_numbers():
    figures = report(mined())
    funnel, scores, zone = figures.plot().axes
    steps = {
        label.get_text(): bar.get_width() for label, bar in zip(funnel.get_yticklabels(), funnel.patches, strict=True)
    }
    assert steps == figures.funnel
    for axis, chart in ((scores, figures.scores), (zone, figures.zone)):
        bars = [patch for patch in axis.patches if patch.get_width() == pytest.approx(0.94)]
        assert [bar.get_height() for bar in bars] == list(chart.counts) and axis.get_title() == chart.title
        assert axis.get_legend().get_texts()[0].get_text() == chart.marked.label
    assert len(report(mined().select([])).plot().axes) == 1


class NotInstalled:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_plot_needs_matplotlib(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    said = r"Report.plot\(\) needs the package 'matplotlib', .*hf-hardneg\[plot\]"
    with pytest.raises(MissingExtraError, match=said):
        report(mined()).plot()
