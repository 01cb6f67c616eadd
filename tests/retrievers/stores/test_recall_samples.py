"""What recall of an approximate search is measured on: queries of the job, else documents without themselves."""

import numpy as np
import pytest

from hf_hardneg import HardNegatives, Strategy
from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.retrievers import Sources
from hf_hardneg.retrievers.stores.drivers import document_store
from hf_hardneg.retrievers.stores.job_queries import job_queries
from hf_hardneg.retrievers.stores.store_opening import _hits, _least, opened_store
from tests.retrievers.stores.contract import LancePlace, OpenSearchPlace
from tests.worlds import encode, world

pytestmark = pytest.mark.slow
PAIRS, CORPUS = world(7, documents=80)
TEXTS = CORPUS["text"][:]


def sources(pairs, **columns):
    return Sources(dataset=CORPUS, corpus=open_corpus(CORPUS), pairs=pairs, columns=columns)


class Encoder:
    def encode(self, texts, kind):
        assert kind == "query"
        return encode(texts)


def test_a_sample_of_queries_is_the_same_in_any_order_of_rows():
    texts = set(PAIRS["query"])
    for most in (4, 1000):
        chosen = job_queries(sources([PAIRS]), Encoder(), most)
        assert len(chosen) == min(most, len(texts))
        for rows in ([PAIRS.shuffle(seed=1)], [PAIRS.select(range(20)), PAIRS.select(range(10, len(PAIRS)))]):
            np.testing.assert_array_equal(job_queries(sources(rows), Encoder(), most), chosen)
    vectored = PAIRS.add_column("mine", encode(PAIRS["query"][:]).tolist())
    np.testing.assert_array_equal(job_queries(sources([vectored], query_vector="mine"), None, 1000), chosen)


def test_there_is_no_sample_where_no_query_is_known():
    for pairs in ([], [PAIRS.rename_column("query", "other")]):
        assert len(job_queries(sources(pairs), Encoder(), 9)) == 0
    assert len(job_queries(sources([PAIRS]), None, 9)) == 0


def test_documents_are_not_among_their_own_hits(tmp_path):
    vectors, rows, depth = encode(TEXTS), np.arange(0, 80, 3), 20
    index = opened_store(
        document_store(LancePlace(tmp_path).fill("docs", CORPUS["_id"][:], TEXTS, vectors)), open_corpus(CORPUS)
    )
    asked = index.queries(vectors[rows])
    scores = asked @ index.queries(vectors).T
    scores[np.arange(len(rows)), rows] = -np.inf
    hits = _hits(index, asked, depth, rows)
    assert (hits.doc != rows[hits.query]).all() and (np.bincount(hits.query) == depth).all()
    np.testing.assert_allclose(_least(index, asked, depth, rows), np.sort(scores, axis=1)[:, -depth], atol=1e-5)
    np.testing.assert_allclose(hits.score.reshape(-1, depth)[:, -1], np.sort(scores, axis=1)[:, -depth], atol=1e-6)


@pytest.mark.parametrize(("known", "sample"), [([PAIRS], "given"), ([], "documents")])
def test_the_recall_of_a_job_is_that_of_its_queries(tmp_path, known, sample):
    place = OpenSearchPlace(tmp_path)
    try:
        address = place.fill("docs", CORPUS["_id"][:], TEXTS, encode(TEXTS)) + "&exact=false"
        miner = HardNegatives(CORPUS, Strategy([document_store(address)]), encoder=encode, known_positives=known)
        measured = miner.retrieval.searcher.index.measured
        assert (measured.sample, measured.recall) == (sample, 1)
        assert measured.queries == (len(set(PAIRS["query"])) if known else 80)
    finally:
        place.close()
