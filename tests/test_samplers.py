from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import HardNegatives, Random, RankZone, Strategy, Top, Uniform
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError
from hf_hardneg.samplers import SAMPLERS
from tests.test_filters import table

NAMES = "abcdefghijklmnopqrstuvwxyz"


def uniforms(salt, candidates):
    pairs = zip(candidates.query, candidates.doc, strict=True)
    return np.array([keyed_uniforms(42, salt, f"q{query}", NAMES[doc])[0] for query, doc in pairs])


def test_rank_zone_pools_of_the_published_vector():
    candidates = table(np.linspace(1, 0.1, 10), 0.5, excluded=(4,))
    raw = candidates.take(RankZone(3, 7, "raw").choose(candidates, 99, uniforms))
    assert raw.rank.tolist() == [3, 5, 6]
    counted = candidates.take(RankZone(3, 7, "no_positives").choose(candidates, 99, uniforms))
    assert counted.rank.tolist() == [3, 5, 6, 7]


def test_rank_zone_can_start_at_the_positive():
    candidates = table(np.linspace(1, 0.1, 10), 0.5, excluded=(4,))
    zone = RankZone(1, 3, "raw", "positive_rank")
    assert candidates.take(zone.choose(candidates, 99, uniforms)).rank.tolist() == [5, 6]
    unseen = replace(candidates, positive_rank=np.array([-1], np.int32))
    assert len(zone.choose(unseen, 99, uniforms)) == 0


def test_uniform_draws_from_the_best_of_the_pool_only():
    candidates = table(np.linspace(1, 0.1, 10), 0.5)
    assert set(Uniform(4).choose(candidates, 3, uniforms)) <= {0, 1, 2, 3}
    assert len(Uniform(4).choose(candidates, 9, uniforms)) == 4


def test_random_matches_the_published_vector():
    corpus = Dataset.from_dict({"_id": list("abcde"), "text": ["t a", "t b", "t c", "t d", "t e"]})
    pairs = Dataset.from_dict({"query_id": ["q1"], "query": ["who"], "positive_ids": [["d"]]})
    mined = pairs.map(HardNegatives(corpus, "random", num_negatives=2), batched=True)
    assert mined[0]["negative_ids"] == ["e", "c"]
    assert mined[0]["negative_scores"] == [None, None]


def test_random_stream_of_a_large_corpus_is_the_keyed_one():
    corpus = Dataset.from_dict({"text": [f"text {i}" for i in range(400)]})
    pairs = Dataset.from_dict({"query": ["who"], "positive_ids": [["7"]]})
    mined = pairs.map(HardNegatives(corpus, Strategy([Random()]), num_negatives=5), batched=True)
    stream = [int(keyed_uniforms(42, f"random#{t}", "who", [""])[0] * 400) for t in range(40)]
    expected = [str(doc) for doc in dict.fromkeys(stream) if doc != 7][:5]
    assert mined[0]["negative_ids"] == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_contract(name):
    """Every sampler gives ascending positions, at most as many as asked, and does not look at the candidates' order."""
    sampler = {"rank_zone": RankZone(0, 50)}.get(name) or SAMPLERS[name]()
    candidates = table(np.linspace(1, 0.1, 20), 0.5)
    chosen = sampler.choose(candidates, 5, uniforms)
    assert sampler.name == name and len(chosen) == 5 and (np.diff(chosen) > 0).all()
    assert len(sampler.choose(candidates, 100, uniforms)) == 20
    assert len(sampler.choose(candidates.take(np.zeros(20, bool)), 5, uniforms)) == 0
    unchosen = np.setdiff1d(np.arange(20), chosen)[-1]
    without = candidates.take(np.arange(20) != unchosen)
    again = without.take(sampler.choose(without, 5, uniforms))
    assert again.doc.tolist() == candidates.take(chosen).doc.tolist()
    assert sampler.depth(5) >= 5


def test_what_cannot_work():
    with pytest.raises(ConfigError, match="RankZone\\(start=5, end=5\\) is empty"):
        RankZone(5, 5)
    with pytest.raises(ConfigError, match="allowed are 'absolute' and 'positive_rank'"):
        RankZone(anchor="middle")
    with pytest.raises(ConfigError, match="give a pool of at least 1"):
        Uniform(0)
    assert Top() == Top()
