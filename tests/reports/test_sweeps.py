import pytest

from hf_hardneg import Dense, RankWindow, RelativeMargin, Strategy, mine, report, sweep
from hf_hardneg.errors import ConfigError, UnknownNameError
from tests.worlds import encode, world


def test_a_sweep_equals_mining_with_each_setting():
    pairs, corpus = world(6)
    start = Strategy([Dense(60)])
    settings = sweep(pairs, corpus, start, options={"encoder": encode}, relative_margin=[0.0, 0.5], rank_window=[0, 3])
    assert len(settings) == 4
    for setting, (margin, first) in zip(settings, [(0.0, 0), (0.0, 3), (0.5, 0), (0.5, 3)], strict=True):
        strategy = Strategy([Dense(60)], [RelativeMargin(margin), RankWindow(first)])
        assert setting.filters == (RelativeMargin(margin), RankWindow(first))
        assert setting.report == report(mine(pairs, corpus, strategy, encoder=encode))
    assert settings[0].report.negatives > settings[2].report.negatives
    assert "RelativeMargin(margin=0.5), RankWindow(first=3" in str(settings[3])


def test_a_sweep_encodes_nothing_twice():
    pairs, corpus = world(6)
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return encode(texts)

    counted.digest = "counted"
    sweep(pairs, corpus, "dense", options={"encoder": counted}, relative_margin=[0.0])
    before = sum(calls)
    sweep(pairs, corpus, "dense", options={"encoder": counted}, relative_margin=[0.0, 0.1, 0.2, 0.3])
    assert sum(calls) <= before + len(pairs) + 60


def test_what_cannot_be_swept():
    pairs, corpus = world(6)
    with pytest.raises(UnknownNameError, match="Unknown filter 'margin'; known are absolute_margin"):
        sweep(pairs, corpus, "bm25", margin=[0.1])
    with pytest.raises(ConfigError, match="got no settings to try"):
        sweep(pairs, corpus, "bm25")
