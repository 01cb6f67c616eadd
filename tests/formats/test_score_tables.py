"""Scores of an outside table beside mined rows, and test sets cut to what is hard."""

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import evaluation_set, from_format, join_scores, mine, to_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning
from tests.worlds import world


@pytest.fixture(scope="module")
def data():
    return world(1)


@pytest.fixture(scope="module")
def mined(data):
    return mine(*data, "bm25", num_negatives=5, safeguards=False)


def score(query, document):
    return float(len(query) * 100 + len(document) + hash_of(query + document) % 97 / 7)


def hash_of(text):
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def every_pair(mined):
    pairs = {(row["query_id"], name) for row in mined for name in [*row["positive_ids"], *row["negative_ids"]]}
    return sorted(pairs)


@pytest.mark.parametrize("shape", ["rows", "lists"])
def test_scores_of_a_table_stand_beside_their_documents(mined, shape):
    pairs = every_pair(mined)
    scored = {
        "query_id": [q for q, _ in pairs],
        "corpus_id": [d for _, d in pairs],
        "score": [score(*p) for p in pairs],
    }
    if shape == "lists":
        queries = sorted({q for q, _ in pairs})
        of_query = [[d for q, d in pairs if q == query] for query in queries]
        scores = [[score(query, d) for d in listed] for query, listed in zip(queries, of_query, strict=True)]
        scored = {"qid": queries, "doc_id": of_query, "score": scores}
    rows = join_scores(mined, Dataset.from_dict(scored), "teacher")
    for row in rows:
        for side in ("positive", "negative"):
            expected = [np.float32(score(row["query_id"], name)) for name in row[f"{side}_ids"]]
            assert row[f"{side}_teacher_scores"] == expected
    assert rows.column_names == [*mined.column_names, "positive_teacher_scores", "negative_teacher_scores"]
    taught = to_format(rows, "labeled-list", scores="teacher")
    assert taught[0]["scores"] == rows[0]["positive_teacher_scores"][:1] + rows[0]["negative_teacher_scores"]


def test_triplets_of_ids_become_rows_with_scores():
    triplets = Dataset.from_dict(
        {"query": [7, 8], "positive": [70, 80], "negative_1": [71, 81], "negative_2": [72, 82], "negative_10": [73, 83]}
    )
    table = Dataset.from_dict(
        {
            "query_id": [8, 7],
            "corpus_id": [[80, 81, 82, 83], [73, 72, 71, 70]],
            "score": [[4.0, 3, 2, 1], [1.0, 2, 3, 4]],
        }
    )
    rows = join_scores(triplets, table, "ce")
    assert rows["query_id"][:] == ["7", "8"] and rows["negative_ids"][0] == ["71", "72", "73"]
    assert rows["positive_ce_scores"][:] == [[4.0], [4.0]]
    assert rows["negative_ce_scores"][:] == [[3.0, 2.0, 1.0]] * 2


def test_what_the_table_lacks_is_null_and_counted(mined):
    pairs = every_pair(mined)
    some = pairs[::2]
    table = Dataset.from_dict(
        {"query-id": [q for q, _ in some], "corpus-id": [d for _, d in some], "score": [score(*p) for p in some]}
    )
    with pytest.warns(HardNegWarning, match=f"{len(pairs) - len(some)} of {len(pairs)} pairs have no score"):
        rows = join_scores(mined, table, "teacher")
    for row in rows:
        for name, value in zip(row["negative_ids"], row["negative_teacher_scores"], strict=True):
            assert (value is None) == ((row["query_id"], name) not in some)


def test_tables_that_do_not_fit_are_refused(mined):
    table = {"query_id": ["none"], "corpus_id": ["none"], "score": [1.0]}
    with pytest.raises(DataError, match="has none of the .* pairs of the rows.*such as query"):
        join_scores(mined, Dataset.from_dict(table), "teacher")
    query, document = every_pair(mined)[0]
    twice = {"query_id": [query] * 2, "corpus_id": [document] * 2, "score": [1.0, 2.0]}
    with pytest.raises(DataError, match="two different scores for one pair"):
        join_scores(mined, Dataset.from_dict(twice), "teacher")
    with pytest.raises(ColumnError, match="The table of scores has 'query_id'.* one of 'corpus_id'"):
        join_scores(mined, Dataset.from_dict({"query_id": [query]}), "teacher")
    with pytest.raises(ConfigError, match="name='retriever' would write"):
        join_scores(mined, Dataset.from_dict(twice), "retriever")
    with pytest.raises(ColumnError, match="needs 'query_id', 'positive_ids' and 'negative_ids', or ids in 'query'"):
        join_scores(Dataset.from_dict({"a": [1]}), Dataset.from_dict(table), "teacher")


def test_a_test_set_holds_what_was_mined_and_every_positive(data, mined):
    pairs, corpus = data
    tables = evaluation_set(mined, corpus)
    named = {name for row in mined for name in [*row["positive_ids"], *row["negative_ids"]]}
    assert set(tables["corpus"]["_id"]) == named
    assert tables["corpus"]["_id"][:] == [name for name in corpus["_id"] if name in named]
    judged = {(row["query-id"], row["corpus-id"]) for row in tables["qrels"]}
    assert judged == {(row["query_id"], name) for row in pairs for name in row["positive_ids"]}
    assert len(judged) == len(tables["qrels"]) and set(tables["qrels"]["score"]) == {1}
    assert dict(zip(tables["queries"]["_id"], tables["queries"]["text"], strict=True)) == dict(
        zip(pairs["query_id"], pairs["query"], strict=True)
    )
    again = mine(from_format(tables).select_columns(["query_id", "query", "positive_ids"]), tables["corpus"], "bm25")
    assert len(again) == len(set(pairs["query_id"]))


def test_some_queries_are_drawn_by_keys(data, mined):
    _, corpus = data
    few, whole = evaluation_set(mined, corpus, queries=4), evaluation_set(mined, corpus)
    assert len(few["queries"]) == 4 and len(few["corpus"]) < len(whole["corpus"])
    order = [name for name in whole["queries"]["_id"] if name in set(few["queries"]["_id"])]
    assert few["queries"]["_id"][:] == order and set(few["qrels"]["query-id"]) == set(order)
    shuffled = evaluation_set(mined.shuffle(seed=1), corpus, queries=4)
    assert set(shuffled["queries"]["_id"]) == set(order)
    assert set(evaluation_set(mined, corpus, queries=4, seed=7)["queries"]["_id"]) != set(order)


def test_positives_are_found_by_their_text_and_other_names_of_columns_stay_readable(data, mined):
    pairs, corpus = data
    other = corpus.rename_columns({"_id": "key", "text": "body"})
    names = {"id": "key", "text": "body"}
    rows = mine(pairs, other, "bm25", num_negatives=5, safeguards=False, columns=names)
    tables = evaluation_set(rows, other)
    assert tables["corpus"].column_names == ["_id", "text"]
    assert tables["corpus"][:] == evaluation_set(mined, corpus)["corpus"][:]
    with pytest.raises(DataError, match="documents of the rows are not in the corpus, such as"):
        evaluation_set(mined, corpus.select(range(5)))
    with pytest.raises(ColumnError, match="needs 'query'"):
        evaluation_set(Dataset.from_dict({"a": [1]}), corpus)
