from dataclasses import replace

import numpy as np
import pytest

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError, HardNegWarning, UnknownNameError
from hf_hardneg.filters import FILTERS, AbsoluteMargin, RankWindow, RelativeMargin, ScoreBounds, SemiHard

SCORES = [0.90, 0.84, 0.80, 0.78, 0.77, 0.755, 0.72, 0.60, 0.45, 0.20, -0.10]


def table(scores, positive, excluded=()):
    """One query's candidates; documents are named by their raw rank from 1, as in the published vectors."""
    ranks = [rank for rank in range(len(scores)) if rank not in excluded]
    found = Candidates.of(
        [[scores[rank] for rank in ranks]], positive=[positive], docs=[[rank + 1 for rank in ranks]], ranks=[ranks]
    )
    return replace(found, positive_rank=np.array([min(excluded, default=-1)], np.int32))


def kept(candidates, *filters):
    for stage in filters:
        candidates = candidates.take(stage.keep(candidates))
    return candidates.doc.tolist()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([AbsoluteMargin(0.05)], [7, 8, 9, 10, 11]),
        ([RelativeMargin(0.05)], [6, 7, 8, 9, 10, 11]),
        ([AbsoluteMargin(0.0)], [4, 5, 6, 7, 8, 9, 10, 11]),
        ([SemiHard(0.1)], [4, 5, 6, 7]),
        ([RankWindow(2, 6, "raw"), AbsoluteMargin(0.05)], []),
        ([RankWindow(2, 6, "no_positives"), AbsoluteMargin(0.05)], [7]),
        ([RankWindow(0, 7, "raw"), AbsoluteMargin(0.05), RankWindow(2, 6, "survivors")], []),
        ([RankWindow(2, 10, "raw"), AbsoluteMargin(0.05)], [7, 8, 9, 10]),
        ([RankWindow(2, 10, "no_positives"), AbsoluteMargin(0.05)], [7, 8, 9, 10, 11]),
        ([AbsoluteMargin(0.05), RankWindow(2, 10, "survivors")], [9, 10, 11]),
        ([ScoreBounds(min_score=0.2, max_score=0.77)], [5, 6, 7, 8, 9, 10]),
    ],
)
def test_published_vectors(filters, expected):
    assert kept(table(SCORES, 0.80, excluded=(2,)), *filters) == expected


def test_relative_margin_with_two_positives():
    assert kept(table(SCORES, 0.70, excluded=(2,)), RelativeMargin(0.05)) == [8, 9, 10, 11]
    assert kept(table(SCORES, 0.80, excluded=(2,)), RelativeMargin(0.05)) == [6, 7, 8, 9, 10, 11]


def test_relative_margin_shrinks_downwards_for_a_negative_positive_score():
    assert kept(table([-0.49, -0.51, -0.53, -0.80], -0.50), RelativeMargin(0.05)) == [3, 4]


def test_the_boundary_is_kept_and_the_next_float_removed():
    above = np.nextafter(0.375, 1)
    assert kept(table([above, 0.375], 0.5), RelativeMargin(0.25)) == [2]
    assert kept(table([0.5, 0.375], 0.5), AbsoluteMargin(0.125)) == [2]


def test_positive_aware_top_two():
    candidates = table(SCORES, 0.80, excluded=(2,))
    assert kept(candidates, RelativeMargin(0.05))[:2] == [6, 7]
    assert kept(candidates, AbsoluteMargin(0.05))[:2] == [7, 8]


@pytest.mark.parametrize("stage", [AbsoluteMargin(0.05), RelativeMargin(0.1), SemiHard(0.3), ScoreBounds(0.1, 0.7)])
def test_score_filters_commute_and_are_idempotent(stage):
    candidates = table(SCORES, 0.80, excluded=(2,))
    assert kept(candidates, stage, stage) == kept(candidates, stage)
    for other in (AbsoluteMargin(0.2), ScoreBounds(max_score=0.5)):
        assert kept(candidates, stage, other) == kept(candidates, other, stage)


def test_survivor_windows_do_neither_and_say_so():
    candidates = table(SCORES, 0.80, excluded=(2,))
    window = RankWindow(1, 5, "survivors")
    assert kept(candidates, window, window) != kept(candidates, window)
    assert "neither commute" in RankWindow.__doc__


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: RankWindow(5, 5), ConfigError, "keeps nothing"),
        (
            lambda: RankWindow(-1),
            ConfigError,
            r"RankWindow\(first=-1\) of type int: allowed is a whole number of at least 0\. Give .* such as 0",
        ),
        (lambda: RankWindow(0, 5, "raww"), UnknownNameError, "Unknown basis 'raww'.*Did you mean 'raw'"),
        (
            lambda: AbsoluteMargin(float("nan")),
            ConfigError,
            r"AbsoluteMargin\(margin=nan\) of type float: allowed is a number\. Give .* such as 0.05",
        ),
        (lambda: SemiHard(float("nan")), ConfigError, "above 0"),
        (lambda: ScoreBounds(float("nan")), ConfigError, r"min_score=nan\) .* allowed is a number or None"),
        (
            lambda: RelativeMargin(1.5),
            ConfigError,
            r"RelativeMargin\(margin=1.5\) .* a number of at least 0 and up to 1\.",
        ),
        (lambda: SemiHard(0), ConfigError, "above 0"),
        (lambda: ScoreBounds(), ConfigError, "bounds nothing"),
        (lambda: ScoreBounds(0.5, 0.1), ConfigError, "give min below max"),
    ],
)
def test_what_cannot_work(build, error, text):
    with pytest.raises(error, match=text):
        build()


@pytest.mark.parametrize("name", FILTERS)
def test_contract(name):
    """Every filter is named as its table says and gives a mask and a depth."""
    stage = ScoreBounds(max_score=0.7) if name == "score_bounds" else FILTERS[name]()
    candidates = table(SCORES, 0.80, excluded=(2,))
    read = [signal.name for signal in stage.signals] or [name]
    candidates = candidates.with_signals({signal: np.linspace(0, 1, 10) for signal in read})
    assert stage.name == name
    assert stage.keep(candidates).shape == (10,) and stage.keep(candidates).dtype == bool
    assert stage.depth(3) >= 3
    assert stage.keep(candidates.take(np.zeros(10, bool))).shape == (0,)


def test_a_negative_margin_is_warned_of():
    with pytest.warns(HardNegWarning, match="lets candidates through that score above the positive"):
        margin = AbsoluteMargin(-0.125)
    assert margin.keep(Candidates.of([[0.625, 0.5]], positive=[0.5])).tolist() == [True, True]


@pytest.mark.parametrize("given", [{"first": 1.5}, {"last": 9.0}, {"first": "2"}, {"first": True}])
def test_ranks_are_whole_numbers(given):
    with pytest.raises(ConfigError, match=r"RankWindow\((first|last)=.* allowed is a whole number of at least"):
        RankWindow(**given)
