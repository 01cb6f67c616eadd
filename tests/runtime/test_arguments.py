"""Odd values in every field of every part and every argument of every public function: refused as a `HardNegError`,
or accepted where they may be meant."""

import inspect
from dataclasses import InitVar, fields
from typing import get_args

import datasets
import numpy as np
import pytest
from datasets import Dataset

import hf_hardneg
import hf_hardneg.compat
import hf_hardneg.generate
import hf_hardneg.hard_negatives
import hf_hardneg.hub
import hf_hardneg.models
import hf_hardneg.training
from hf_hardneg import BM25Config, HardNegatives, RankWindow, RelativeMargin, report
from hf_hardneg.errors import ConfigError, HardNegError
from hf_hardneg.filters import FILTERS
from hf_hardneg.generate import Validation
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.runtime.arguments import AtLeastOne, Range, fit
from hf_hardneg.samplers import SAMPLERS
from hf_hardneg.training import CrossBatchLoss, MoCHi, Schedule
from hf_hardneg.training.denoiser import Training
from tests.calls import CALLS, Given

pytestmark = pytest.mark.slow

ODD = (None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**12, 10**30, "", "no such", [], {}, object())
PARTS = (BM25Config, Training, CrossBatchLoss, MoCHi, Schedule, Validation)
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
    for options in ({"columns": {"query": name}}, {"cache_dir": name}):
        with pytest.raises(ConfigError, match="that is not blank and holds no NUL"):
            HardNegatives(_corpus(), **options)


def _corpus():
    return Dataset.from_dict({"_id": ["a", "b"], "text": ["cat", "dog"]})


def test_a_range_says_its_bounds():
    assert str(Range(above=0, most=1)) == "above 0 and up to 1" and 1 in Range(above=0, most=1)
    assert str(Range(least=1, most=1_000_000)) == "of at least 1 and up to 1,000,000"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return Given(tmp_path_factory.mktemp("calls"))


ODD_ARGUMENTS = (None, True, -1, 0, 1.5, float("nan"), 10**12, "", "no such", [], {}, object(), b"x")
UNREAD = {"Denoised.model", "Reranked.model", "Sparse.encoder", "LateInteraction.encoder"}
"""Arguments that may be any object: what they are is looked at when they are bound."""
ON_THE_HUB = {"hub.push_mined_dataset", "hub.reproduce"}
"""Calls that need a Hub; `tests/hub/test_push.py` walks them."""


@pytest.mark.filterwarnings("ignore::hf_hardneg.errors.HardNegWarning")
@pytest.mark.parametrize("name", sorted(CALLS.keys() - ON_THE_HUB))
def test_odd_arguments_are_refused_by_every_public_callable(name, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    walk(name, given)


def walk(name, given):
    """Call `name` with every odd value in every argument."""
    for argument, value in odd_arguments(*CALLS[name](given)):
        function, valid = CALLS[name](given)
        try:
            function(**{**valid, argument: value})
        except HardNegError:
            continue
        assert f"{name}.{argument}" in UNREAD or may_mean(function, argument, value), (argument, value)


def odd_arguments(function, valid):
    """The pairs of a name and an odd value that `function` is called with."""
    parameters = inspect.signature(function).parameters.values()
    named = [each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return [(name, value) for name in named for value in ODD_ARGUMENTS]


def may_mean(function, argument, value):
    """Whether a value of this type is one that the annotation of an argument names."""
    if isinstance(value, float):
        return value == 1.5 and "float" in annotated(function, argument)
    if isinstance(value, bool):
        return "bool" in annotated(function, argument)
    return type(value) not in (object, bytes)


def annotated(function, argument):
    """The names of the types that an argument takes."""
    owner = function.__init__ if inspect.isclass(function) else function
    owner = inspect.unwrap(getattr(owner, "__func__", owner))
    kind = inspect.signature(function).parameters[argument].annotation
    names = {**vars(datasets), **vars(hf_hardneg.hard_negatives), **owner.__globals__}
    kind = eval(kind, names) if isinstance(kind, str) else kind
    return _names(kind.type if isinstance(kind, InitVar) else kind)


def _names(kind):
    return {getattr(kind, "__name__", str(kind))}.union(*(_names(part) for part in get_args(kind)))


def test_every_public_name_has_a_call():
    public = {*hf_hardneg.__all__, *hf_hardneg.generate.__all__, *hf_hardneg.models.__all__}
    public |= {f"training.{name}" for name in hf_hardneg.training.__all__}
    public -= {"Columns", "training.BatchColumns", "Filter", "Retriever", "Sampler", "Signal"}  # types alone
    public |= {f"hub.{name}" for name in hf_hardneg.hub.__all__}
    public |= {f"compat.{name}" for name in hf_hardneg.compat.__all__}
    parts = [name.replace("()", "").split(".") for name in CALLS]
    called = {".".join(path[: 2 if path[0] in ("training", "hub", "compat") else 1]) for path in parts}
    assert sorted(public - called) == [], "add a call of each to tests/calls.py"
