"""Odd values in every field of every part: refused as a `HardNegError`, or accepted where they may be meant."""

from dataclasses import fields

import numpy as np
import pytest
from datasets import Dataset

import hf_hardneg
from hf_hardneg import BM25Config, HardNegatives, RankWindow, RelativeMargin, report
from hf_hardneg.arguments import AtLeastOne, Range, fit
from hf_hardneg.errors import ConfigError, HardNegError
from hf_hardneg.filters import FILTERS
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.samplers import SAMPLERS
from hf_hardneg.score.training import Training
from hf_hardneg.training import CrossBatchLoss, MoCHi, Schedule

ODD = (None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**12, 10**30, "", "no such", [], {}, object())
PARTS = (BM25Config, Training, CrossBatchLoss, MoCHi, Schedule, hf_hardneg.CrossEncoderDenoiser, hf_hardneg.Validation)
NEEDED = {"ScoreBounds": {"min_score": 0.1}}


@pytest.mark.filterwarnings("ignore::hf_hardneg.errors.HardNegWarning")
@pytest.mark.parametrize("part", [*FILTERS.values(), *SAMPLERS.values(), *RETRIEVERS.values(), *PARTS])
def test_odd_numbers_are_refused_by_every_part(part):
    for field in fields(part):
        for value in ODD:
            try:
                made = part(**{**NEEDED.get(part.__name__, {}), field.name: value})
            except HardNegError:
                continue
            if isinstance(value, float) and field.name != "model":
                assert value == 1.5, (field.name, value, made)
            if value == 10**30 and type(value) is int:
                assert field.name == "model", (field.name, value, made)


def test_scalars_of_numpy_are_numbers_and_become_pythons():
    window, margin = RankWindow(np.int64(5), np.int32(9)), RelativeMargin(np.float32(0.5))
    assert (type(window.first), type(window.last), type(margin.margin)) == (int, int, float)
    assert window == RankWindow(5, 9) and margin == RelativeMargin(0.5)
    with pytest.raises(ConfigError):
        RankWindow(np.bool_(True))


@pytest.mark.parametrize("k1", [float("nan"), float("inf"), -0.1, True, "1.5"])
def test_weights_of_terms_are_finite(k1):
    with pytest.raises(ConfigError, match=r"BM25Config\(k1=.*: allowed is a number of at least 0\. Give .* 1\.5"):
        BM25Config(k1=k1)


def test_an_error_says_what_was_given_what_is_allowed_and_what_to_do():
    with pytest.raises(ConfigError, match=r"^f\(x=0\) of type int: allowed is a whole number of at least 1\. Give"):
        fit("f", "x", 0, AtLeastOne)
    with pytest.raises(ConfigError, match=r"report\(temperature='a'\) of type str: allowed is a number above 0 or"):
        report(_corpus(), temperature="a")


def test_a_value_whose_text_fails_is_named_by_its_type():
    with pytest.raises(ConfigError, match="<int>.*of type int"):
        fit("f", "x", 10**5000, AtLeastOne)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800"])
def test_names_and_folders_can_be_written(name):
    for field in ("query_column", "cache_dir"):
        with pytest.raises(ConfigError, match="that is not blank and holds no NUL"):
            HardNegatives(_corpus(), **{field: name})


def _corpus():
    return Dataset.from_dict({"_id": ["a", "b"], "text": ["cat", "dog"]})


def test_a_range_says_its_bounds():
    assert str(Range(above=0, most=1)) == "above 0 and up to 1" and 1 in Range(above=0, most=1)
    assert str(Range(least=1, most=1_000_000)) == "of at least 1 and up to 1,000,000"
