"""What every retriever keeps, ours and one of a stranger; and what runs on one that can do less."""

import pickle
import re
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

from hf_hardneg import (
    BM25,
    HardNegatives,
    Hybrid,
    LateInteraction,
    Random,
    RelativeMargin,
    Strategy,
    mine,
    plan,
    recipe_of,
)
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters import Denoised, Disagreement, NearQuery, TooSimilar
from hf_hardneg.retrievers import RETRIEVERS, Dense, Reranked, Searcher, Sources, Sparse, bound, rows_of, vector_part
from hf_hardneg.samplers import TopicNegatives
from hf_hardneg.strategies import STRATEGIES, resolve
from tests.retrievers.toy import Nearby, NearbySearcher
from tests.worlds import ENCODERS, encode, shared_words, split, weigh, world

PAGE = Path(__file__).parents[2] / "docs/write_your_own_retriever.md"


def embed(texts):
    vectors = encode(texts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class SearcherAlone(NearbySearcher):
    score, vectors = Searcher.score, Searcher.vectors

    def search(self, queries, k):
        return NearbySearcher(self.identity, self.documents, self.embed).search(queries, k)


@dataclass(frozen=True)
class Searching(Nearby):
    """Finds, and can neither score what it has not found nor show a vector."""

    name = "searching"
    can_score = has_vectors = False

    def bind(self, sources):
        return SearcherAlone(**vars(super().bind(sources)))


class ScoringSearcher(NearbySearcher):
    vectors = Searcher.vectors


@dataclass(frozen=True)
class Scoring(Nearby):
    """Scores any pair, and has no vector to show."""

    name = "scoring"
    has_vectors = False

    def bind(self, sources):
        return ScoringSearcher(**vars(super().bind(sources)))


TOYS = {toy.name: toy(embed) for toy in (Nearby, Searching, Scoring)}
EVERY = {**{name: kind() for name, kind in RETRIEVERS.items()}, **TOYS}
EVERY["reranked"] = Reranked(BM25(20), shared_words, depth=20)
EVERY["reranked vectors"] = Reranked(Dense(20), shared_words, depth=20, as_probabilities=False)
EVERY["sparse beside dense"] = Hybrid([Dense(), Sparse(encoder=weigh)])
EVERY["tokens by encodings"] = LateInteraction(search="encodings", recall=0.5)
EVERY["tokens beside dense"] = Hybrid([Dense(), LateInteraction(encoder=split)])
EVERY["sparse beside words"] = Hybrid([BM25(), Sparse()])
EVERY["reranked sparse"] = Reranked(Sparse(20), shared_words, depth=20)
EVERY["a union with a toy"] = Hybrid([BM25(), Searching(embed)])

COMPARING = {"margin", "positive_aware", "st", "semi_hard", "simans"}
OF_VECTORS = {"distance_weighted", "unremix", "topic_negatives"}
REFUSED = {"nearby": set(), "scoring": OF_VECTORS, "searching": COMPARING | OF_VECTORS}


@pytest.fixture(scope="module")
def rows():
    return world(5)


@pytest.fixture(scope="module", params=EVERY)
def retriever(request):
    return EVERY[request.param]


@pytest.fixture
def sources(retriever, rows, tmp_path):
    takes = {part.takes for part in retriever.parts if part.uses_vectors} or {"dense"}
    encoder = ENCODERS[takes.pop()]
    return Sources(dataset=rows[1], corpus=open_corpus(rows[1], cache_dir=tmp_path), encoder=encoder)


@pytest.fixture
def queries(rows, tmp_path):
    pairs, corpus = rows
    reader = HardNegatives(corpus, "random", cache_dir=tmp_path).retrieval.reader
    return reader.read(named_columns(pairs.with_format("arrow")[:]))


def test_contract(retriever, sources, queries):
    """Hits are best first, the same for any batch, and scored as `score` scores; what is said of it is true."""
    searcher = bound(retriever, sources)
    assert isinstance(searcher.identity, str) and searcher.identity == bound(retriever, sources).identity
    assert searcher.sources and searcher.score_kind == retriever.score_kind
    assert searcher.recall is None or 0 < searcher.recall <= 1
    assert (searcher.can_score, searcher.has_vectors) == (retriever.can_score, retriever.has_vectors)
    prepared, size, k = searcher.prepare(queries), len(sources.corpus), np.arange(len(queries)) % 9
    hits = searcher.search(prepared, k)
    assert (np.diff(hits.query) >= 0).all() and (np.bincount(hits.query, minlength=len(k)) <= k).all()
    assert len(np.unique(hits.query * size + hits.doc)) == len(hits.doc) and hits.doc.max() < size
    if hits._fields == ("query", "doc", "score") and searcher.score_kind != "none":
        assert np.lexsort((hits.doc, -hits.score, hits.query)).tolist() == list(range(len(hits.doc)))
    some = np.array([3, 8])
    alone = pickle.loads(pickle.dumps(searcher)).search(rows_of(prepared, some), k[some])
    for place, query in enumerate(some):
        assert alone.doc[alone.query == place].tolist() == hits.doc[hits.query == query].tolist()
        assert alone.score[alone.query == place].tolist() == hits.score[hits.query == query].tolist()
    scores = searcher.score(prepared, hits.query, hits.doc)
    assert scores.tolist() == hits.score.tolist() if searcher.can_score else np.isnan(scores).all()


def test_vectors_are_there_where_it_is_said(retriever, sources, queries):
    searcher = bound(retriever, sources)
    part = vector_part(searcher)
    assert (part is not None) == retriever.has_vectors
    if part is None:
        with pytest.raises(ConfigError, match="has no vectors of documents"):
            searcher.vectors(np.zeros(1, np.int64))
        return
    vectors, prepared = part.vectors(np.array([4, 0, 4])), part.prepare(queries)
    assert np.isfinite(vectors).all() and (vectors[0] == vectors[2]).all()
    assert prepared.shape == (len(queries), vectors.shape[1])


def served(name, toy, cache):
    strategy = replace(STRATEGIES[name], retrievers=[TOYS[toy]])
    if name == "topic_negatives":
        strategy = replace(strategy, sampler=TopicNegatives(2))
    if name == "denoised":
        strategy = replace(strategy, filters=[Denoised(shared_words)])
    return {"strategy": strategy, "cache_dir": cache}


@pytest.mark.slow
@pytest.mark.parametrize("toy", TOYS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_it_runs_under_what_it_can_serve_and_is_refused_by_name_before_work(name, toy, rows, tmp_path):
    pairs, corpus = rows
    if name not in REFUSED[toy]:
        mined = mine(pairs, corpus, **served(name, toy, tmp_path))
        sources = {source for row in mined["negative_sources"] for source in row}
        assert sources <= {"nearby"} and (sources or name == "st")
        return
    with pytest.raises(ConfigError, match=f"{type(TOYS[toy]).__name__}|{toy}"):
        mine(pairs, corpus, **served(name, toy, tmp_path))
    assert not list(tmp_path.iterdir())


def test_vectors_beside_it_serve_what_it_cannot(rows):
    pairs, corpus = rows
    for name in ("unremix", "topic_negatives"):
        mined = mine(pairs, corpus, encoder=encode, **served(name, "searching", None))
        assert sum(map(len, mined["negatives"]))


@pytest.mark.parametrize(
    ("stage", "text"), [(TooSimilar(), "searching does not"), (RelativeMargin(), "searching retr")]
)
def test_filters_that_need_scores_name_it(stage, text):
    with pytest.raises(ConfigError, match=text):
        Strategy([Searching(embed)], [stage])


def test_the_second_view_of_a_stranger_is_by_words(rows):
    pairs, corpus = rows
    assert len(mine(pairs, corpus, Strategy([Searching(embed)], [Disagreement(0.7, 10)]))) == len(pairs)


@pytest.mark.parametrize(
    ("toy", "guards"), [("nearby", [NearQuery, TooSimilar, Disagreement]), ("searching", [NearQuery])]
)
def test_registered_by_an_entry_point_it_is_a_strategy_with_the_safeguards_it_serves(toy, guards, rows, monkeypatch):
    pairs, corpus = rows
    monkeypatch.setattr("tests.retrievers.test_contract.registered", lambda: TOYS[toy], raising=False)
    point = EntryPoint(toy, "tests.retrievers.test_contract:registered", "hf_hardneg.retrievers")
    monkeypatch.setattr("hf_hardneg.strategies.entry_points", lambda group: EntryPoints([point]))
    assert [type(stage) for stage in resolve(toy).filters] == guards
    assert len(mine(pairs, corpus, f"{toy}+rank_zone")) == len(pairs)
    with pytest.raises(ConfigError, match=f"Unknown strategy 'neraby'.*{toy}"):
        resolve("neraby")


def test_plans_recipes_and_paddings_work_for_a_stranger(rows):
    pairs, corpus = rows
    mined = mine(pairs, corpus, Strategy([Nearby(embed)], [RelativeMargin(0.5)]), on_shortage="pad_random")
    assert min(map(len, mined["negatives"])) == 4
    index = recipe_of(mined).indexes[0]
    assert (index["kind"], index["scores"]) == ("nearby", "cosine")
    assert plan(pairs, corpus, Strategy([Nearby(embed)])).seconds >= 0


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Strategy([type("Bare", (), {"bind": lambda self, sources: None})()]), "Bare is not derived from"),
        (lambda: Hybrid([Searching(embed), Random()]), "none of which scores the others' documents"),
        (lambda: Strategy([replace_bind(Nearby(embed), None)]), r"bind\(\) returned a NoneType"),
        (lambda: Strategy([replace_bind(Nearby(embed), SearcherAlone)]), r"does not define score\(\)"),
    ],
)
def test_what_is_no_retriever_is_refused(build, text, rows, tmp_path):
    with pytest.raises(ConfigError, match=text):
        HardNegatives(rows[1], build(), cache_dir=tmp_path)


def replace_bind(toy, kind):
    class Lying(Nearby):
        def bind(self, sources):
            return kind and kind(**vars(super().bind(sources)))

    return Lying(toy.embed)


def test_the_page_shows_the_toy_and_its_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks[0].strip() in Path(__file__).with_name("toy.py").read_text()
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["mined"]["negative_sources"][0][0] == "nearby"
