"""Hits are best first, by query, with ties in the order of the corpus."""

import numpy as np

from hf_hardneg.index.hits import Hits, best_first


def test_the_best_hits_of_each_query_come_first_and_ties_stand_in_corpus_order():
    hits = Hits(
        query=np.array([1, 0, 0, 1, 0]),
        doc=np.array([5, 7, 2, 6, 9]),
        score=np.array([0.1, 0.9, 0.5, 0.8, 0.9], np.float32),
    )
    best = best_first(hits, np.array([2, 2]))
    assert best.query.tolist() == [0, 0, 1, 1]
    assert best.doc.tolist() == [7, 9, 6, 5]
    assert best.score.tolist() == np.float32([0.9, 0.9, 0.8, 0.1]).tolist()


def test_fewer_hits_than_asked_are_all_of_them():
    hits = Hits(query=np.array([2]), doc=np.array([4]), score=np.array([0.5], np.float32))
    assert best_first(hits, np.array([3, 0, 3])).doc.tolist() == [4]
    assert best_first(hits, np.array([3, 3, 0])).doc.tolist() == []
