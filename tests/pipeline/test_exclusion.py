"""Why hits are left out, against dictionaries of texts."""

import unicodedata
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.corpus.queries import PairColumns, Reader
from hf_hardneg.index.hits import Hits
from hf_hardneg.pipeline.exclusion import ALLOWED, BLANK, EXCLUDED, REPEATED, UNSCORED, best_positive_rank, judged
from hf_hardneg.text.keys import Dedupe

TEXTS = ["red fox", "Red  Fox", "red fox", "ＲＥＤ fox", "hen", "HEN", "dog", "straße", "STRASSE", "", " ", "cat"]  # noqa: RUF001
QUERIES = ["red FOX", "red fox", "hen", "nothing like it", "Straße", "cat"]


def seen(text, dedupe):
    if dedupe != "normalized":
        return text
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def expected_reasons(rows, hits, dedupe):
    reasons, before = [], {}
    for query, doc, score in zip(*hits, strict=True):
        text, row = seen(TEXTS[doc], dedupe), rows[query]
        known = {seen(TEXTS[int(one)], dedupe) for one in row["positive_ids"] + row["banned"]}
        known |= {seen(one, dedupe) for one in row["positive"]}
        if dedupe != "off":
            known.add(seen(row["query"], dedupe))
        if not text.strip() and (np.isnan(score) or text not in known):
            reasons.append(BLANK)
        elif np.isnan(score):
            reasons.append(UNSCORED)
        elif text in known:
            reasons.append(EXCLUDED)
        elif dedupe != "off" and text in before.setdefault(query, set()):
            reasons.append(REPEATED)
        else:
            reasons.append(ALLOWED)
        before.setdefault(query, set()).add(text)
    return reasons


def expected_ranks(rows, hits, dedupe):
    best = [-1] * len(rows)
    for number, row in enumerate(rows):
        positives = {seen(TEXTS[int(one)], dedupe) for one in row["positive_ids"]}
        positives |= {seen(one, dedupe) for one in row["positive"]}
        docs = hits.doc[hits.query == number].tolist()
        ranks = [rank for rank, doc in enumerate(docs) if seen(TEXTS[doc], dedupe) in positives]
        best[number] = min(ranks, default=-1)
    return best


ids = st.lists(st.sampled_from([str(row) for row in range(len(TEXTS))]), max_size=2)
row = st.fixed_dictionaries(
    {
        "query": st.sampled_from(QUERIES),
        "positive_ids": ids,
        "positive": st.lists(st.sampled_from([*TEXTS, "outside the corpus", "rED fox"]), max_size=2),
        "banned": ids,
        "hits": st.permutations(range(len(TEXTS))),
        "depth": st.integers(0, len(TEXTS)),
        "nan": st.sets(st.integers(0, len(TEXTS) - 1), max_size=2),
    }
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return open_corpus(Dataset.from_dict({"text": TEXTS}), columns={"id": "row_number"}, cache_dir=str(folder))


@pytest.mark.parametrize("dedupe", get_args(Dedupe))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=4))
def test_reasons_and_ranks_are_those_of_the_dictionaries(dedupe, corpus, rows):
    keys = corpus_keys(corpus, dedupe)
    reader = Reader(corpus=corpus, keys=keys, columns=PairColumns(exclude_ids="banned"))
    strings = pa.list_(pa.string())
    table = {
        "query": pa.chunked_array([pa.array([one["query"] for one in rows])]),
        **{
            name: pa.chunked_array([pa.array([one[name] for one in rows], strings)])
            for name in ("positive_ids", "positive", "banned")
        },
    }
    found = [one["hits"][: one["depth"]] for one in rows]
    scores = [
        np.where(np.isin(docs, list(one["nan"])), np.nan, -np.arange(len(docs)))
        for one, docs in zip(rows, found, strict=True)
    ]
    hits = Hits(
        np.repeat(np.arange(len(rows)), [len(docs) for docs in found]),
        np.concatenate([np.array(docs, np.int64) for docs in found]),
        np.concatenate(scores).astype(np.float32),
    )
    queries = reader.read(table)
    assert judged(queries, hits, keys).tolist() == expected_reasons(rows, hits, dedupe)
    assert best_positive_rank(queries, hits.query, hits.doc, keys).tolist() == expected_ranks(rows, hits, dedupe)
