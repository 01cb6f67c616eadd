from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from hf_hardneg import HardNegatives, Strategy, training
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters import FILTERS, AbsoluteMargin, Filter, TooSimilar
from hf_hardneg.retrievers import BM25
from hf_hardneg.samplers import SAMPLERS, SimANS, Uniform
from hf_hardneg.strategies import ALIASES, STRATEGIES, TRAINING_TIME, concise, resolve, table
from tests.worlds import needed, shared_words, world

OFFLINE = [name for name, target in ALIASES.items() if target in STRATEGIES]
TRAINING = [*TRAINING_TIME, *(name for name, target in ALIASES.items() if target in TRAINING_TIME)]


def test_every_name_is_of_one_table():
    others = {name for name, target in ALIASES.items() if target in FILTERS or target == "synthetic"}
    assert set(OFFLINE) | set(TRAINING) | others == set(ALIASES) | set(TRAINING_TIME)
    assert not set(ALIASES) & (set(STRATEGIES) | set(TRAINING_TIME)) and not set(STRATEGIES) & set(TRAINING_TIME)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFLINE)
def test_an_alias_is_its_strategy(name):
    assert resolve(name, safeguards=False) == STRATEGIES[ALIASES[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_training_names_refuse_and_name_what_comes_nearest(name):
    _, corpus = world(0)
    _, near, instead = TRAINING_TIME[ALIASES.get(name, name)]
    assert resolve(near) and instead in training.__all__
    ends = f"Use '{near}', which comes nearest, or train with hf_hardneg.training.{instead}.$"
    with pytest.raises(ConfigError, match=f"^Strategy '{name}' .* a miner takes ance_offline, .* {ends}"):
        HardNegatives(corpus, name)
    with pytest.raises(ConfigError, match=f"^Strategy '{name}' "):
        HardNegatives(corpus, f"bm25+{name}")


@pytest.mark.parametrize("name", ["synthetic", "syneg", "llm"])
def test_written_negatives_are_mapped_over_mined_ones(name):
    with pytest.raises(ConfigError, match=f"^Strategy '{name}' retrieves nothing.*mined.map\\(SyntheticNegatives"):
        resolve(name)


def test_names_bring_safeguards_but_for_what_another_tool_does():
    assert resolve("topk_marginpos").filters[-1] == AbsoluteMargin(0.05)
    for name in ("bm25", "dense", "hybrid", "simans"):
        assert TooSimilar() in resolve(name).filters and TooSimilar() not in resolve(name, safeguards=False).filters
    assert resolve("st") == resolve("sentence_transformers") == STRATEGIES["st"]
    assert resolve("dense+too_similar").filters.count(TooSimilar()) == 1


@pytest.fixture(scope="module")
def rows():
    return world(5, documents=150, queries=110)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_name_mines_as_it_is(name, rows):
    pairs, corpus = rows
    options = {"cross_encoder": shared_words} if name == "denoised" else {}
    miner = HardNegatives(corpus, name, **needed(name), known_positives=[pairs], **options)
    assert sum(map(len, miner(pairs[:40])["negatives"])) > 0
    assert type(resolve(name).sampler).__name__ in repr(miner.strategy)


def test_what_needs_vectors_says_so():
    assert not resolve("bm25").uses_vectors
    for name in ("dense", "hybrid", "bm25+unremix", "bm25+topic_negatives"):
        assert resolve(name).uses_vectors


def test_a_part_that_holds_an_array_is_shown():
    @dataclass(frozen=True, eq=False, repr=False)
    class Listed(Filter):
        name: ClassVar[str] = "listed"
        values: np.ndarray = field(default_factory=lambda: np.zeros(2))

        def keep(self, candidates):
            return np.isin(candidates.doc, self.values)

        __repr__ = concise

    assert "values=array([1, 2])" in repr(Strategy([BM25()], [Listed(np.array([1, 2]))]))


def test_samplers_are_strategies_and_compose():
    assert {"simans", "importance", "distance_weighted", "rank_zone"} <= set(SAMPLERS) & set(STRATEGIES)
    composed = resolve("bm25+positive_aware+simans", safeguards=False)
    assert composed == Strategy([BM25()], STRATEGIES["positive_aware"].filters, SimANS(score_scale="auto"))
    assert repr(composed).endswith("sampler=SimANS(score_scale='auto'))")
    assert resolve("simans+ance_offline").sampler == Uniform(200)
    with pytest.raises(ConfigError, match="'bm25', not 'cosine'"):
        resolve("bm25+distance_weighted")


def test_the_table_has_a_full_row_for_each():
    rows = [line.strip("| ").split(" | ") for line in table().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"`{name}`" for name in STRATEGIES]
    assert all(len(row) == 5 and all(row) for row in rows)
