"""One small dataset for each check, with a defect planted in it so often; and around it what is none."""

import math

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg import audit, to_format
from hf_hardneg.audits import CHECKS
from hf_hardneg.errors import ColumnError

LONG = " ".join(f"word{number}" for number in range(30))
CORPUS = Dataset.from_dict({"_id": ["p", "n", "m"], "text": ["pos", "neg", "more"]})


def row(number=0, **changed):
    """A row with nothing wrong."""
    return {"query": f"question {number}", "positive": [f"right {number}"], "negatives": [f"wrong {number}"]} | changed


def rows(*changed):
    made = [row(number, **one) for number, one in enumerate(changed)]
    names = dict.fromkeys(name for one in made for name in one)
    return Dataset.from_list([{name: one.get(name) for name in names} for one in made])


def with_ids(**changed):
    ids = {"query_id": "q", "positive": ["pos"], "positive_ids": ["p"], "negatives": ["neg"], "negative_ids": ["n"]}
    return Dataset.from_list([row(**(ids | changed))])


PLANTED = {
    "positive_id": ({"dataset": with_ids(positive_ids=["p"], negatives=["neg", "more"], negative_ids=["p", "m"])}, 1),
    "positive_text": ({"dataset": rows({"negatives": ["right 0", "right 0 too"]}, {"negatives": ["right 1"]})}, 2),
    "positive_normalized": ({"dataset": rows({"positive": ["Fluß"], "negatives": [" FLUSS", "Flus"]}, {})}, 1),
    "positive_elsewhere": ({"dataset": rows({}, {"query": "Question  0", "negatives": ["right 0", "x", "y"]}, {})}, 1),
    "query_as_negative": ({"dataset": rows({"negatives": ["QUESTION 0", "question"]}, {})}, 1),
    "judged_relevant": (
        {"dataset": with_ids(), "qrels": {"q": {"n": 1, "m": 0}, "r": {"m": 2}}},
        1,
    ),
    "leaked_query": ({"dataset": rows({}, {}, {}), "test_queries": ["question  1", "Question 2", "question 3"]}, 2),
    "leaked_document": (
        {
            "dataset": rows({}, {"negatives": ["unique"]}, {"positive": ["unique", "other"]}),
            "test_queries": Dataset.from_list([{"query": "unseen", "positive": ["unique"]}]),
        },
        2,
    ),
    "bad_score": (
        {
            "dataset": rows(
                {"positive_scores": [math.inf], "negative_scores": [None]},
                {"positive_scores": [0.5], "negative_scores": [math.nan]},
                {"positive_scores": [0.5], "negative_scores": [-math.inf]},
            )
        },
        3,
    ),
    "misaligned": (
        {"dataset": rows({"negative_scores": [0.1, 0.2]}, {"negative_scores": [0.1]}, {"negative_scores": None})},
        2,
    ),
    "missing_query": ({"dataset": rows({"query": " \n"}, {"query": None}, {})}, 2),
    "missing_text": ({"dataset": rows({"negatives": ["", None, " \u00a0", "x"]}, {"positive": [""]})}, 4),
    "unknown_id": ({"dataset": with_ids(negatives=["neg", "more"], negative_ids=["n", "z"]), "corpus": CORPUS}, 1),
    "unknown_text": ({"dataset": rows({"positive": ["pos"], "negatives": ["NEG", "mor"]}), "corpus": CORPUS}, 1),
    "other_text": ({"dataset": with_ids(negatives=["Neg", "more"], negative_ids=["n", "m"]), "corpus": CORPUS}, 1),
    "repeated_negative": ({"dataset": rows({"negatives": ["a", "b", "A ", "a"]}, {})}, 2),
    "repeated_positive": ({"dataset": rows({"positive": ["a", "b", "a"]}, {})}, 1),
    "near_duplicate": ({"dataset": rows({"positive": [LONG], "negatives": [f"{LONG}!", f"{LONG} more", "word0"]})}, 2),
    "above_positive": (
        {
            "dataset": rows(
                {"positive_scores": [0.5], "negative_scores": [0.6]},
                {"positive": ["a", "b"], "positive_scores": [1.0, 0.3], "negative_scores": [0.6]},
            )
        },
        1,
    ),
    "no_positive": ({"dataset": rows({"positive": []}, {})}, 1),
    "no_negative": ({"dataset": rows({"negatives": []}, {})}, 1),
    "short_row": ({"dataset": rows({"negatives": ["a", "b"]}, {"negatives": ["a", "b"]}, {}, {"negatives": []})}, 1),
    "positive_of_another": ({"dataset": rows({}, {"negatives": ["right 0"]})}, 1),
    "repeated_query": ({"dataset": rows({}, {"query": "question 0"}, {})}, 2),
    "frequent_negative": ({"dataset": rows(*[{"negatives": ["all over"]}] * 12, {})}, 12),
}


def test_every_check_is_planted():
    assert set(PLANTED) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_it_is_found_so_often(name):
    given, count = PLANTED[name]
    found = audit(**given)
    assert found.counts[name] == count, str(found)
    one = found[name]
    assert (one.severity, one.says) == (CHECKS[name].severity, CHECKS[name].says)
    assert one.examples and 0 < one.share == one.rows / found.rows
    assert (
        found.ok == bool(found) == (one.severity != "error" and not any(f.severity == "error" for f in found.findings))
    )


def test_nothing_is_found_in_clean_rows():
    found = audit(rows({}, {}, {}))
    assert found and not found.findings and "nothing found" in str(found)
    needing = ["positive_id", "judged_relevant", "leaked_query", "leaked_document", "bad_score", "unknown_id"]
    assert list(found.unchecked) == [*needing, "unknown_text", "other_text", "above_positive"]


def test_examples_say_where():
    scores = {"negative_scores": [0.25, 0.5], "positive_scores": [1.0]}
    given = rows({"positive_scores": [1.0]}, {"negatives": ["x", "right 1"], **scores})
    assert audit(given)["positive_text"].examples == (
        {
            "row": 1,
            "query": "question 1",
            "positive": "right 1",
            "positive_score": 1.0,
            "negative": "right 1",
            "negative_score": 0.5,
        },
    )
    triplets = to_format(rows({"negatives": ["a", "b"]}, {"negatives": ["right 1"]}), "triplet")
    assert audit(triplets)["positive_text"].examples[0]["row"] == 2
    frequent = audit(rows(*[{"negatives": [f"{one}", "all over"]} for one in range(12)], {}))["frequent_negative"]
    assert frequent.examples == ({"row": 0, "count": 12, "negative": "all over"},)


@pytest.mark.parametrize(
    "qrels",
    [
        {"q": ["n", "m"], "other": ["p"]},
        Dataset.from_dict({"query-id": ["q", "q", "r"], "corpus-id": ["n", "p", "n"], "score": [1, 0, 1]}),
    ],
)
def test_judgements_and_texts_are_brought_together(qrels):
    """Rows of texts alone, judgements of ids alone: the tables between them are looked up by text."""
    given = rows({"positive": ["pos"], "negatives": ["Neg", "unknown"]})
    queries = Dataset.from_dict({"_id": ["q"], "text": ["QUESTION 0"]})
    found = audit(given, CORPUS, qrels, queries=queries)
    assert found.counts == {"judged_relevant": 1, "unknown_text": 1}
    again = audit(rows({"positive": ["pos"], "negatives": ["pos"]}), CORPUS)
    assert again.counts == {"positive_text": 1} and "positive_id" in again.unchecked


def test_other_splits_are_test_sets():
    splits = DatasetDict({"train": rows({}, {}, {"negatives": ["kept"]}), "test": rows({"positive": ["kept"]})})
    found = audit(splits)
    assert (found.counts["leaked_query"], found.counts["leaked_document"]) == (1, 1)
    assert found["leaked_query"].examples[0]["row"] == 0
    assert audit(splits, split="test").ok
    tables = {"dev": Dataset.from_dict({"_id": ["t"], "text": ["question 0"]}), "corpus": CORPUS, "train_2": rows({})}
    assert audit({"train": splits["train"], **tables}).counts["leaked_query"] == 1
    assert audit({"train": rows({}, {}), "corpus": CORPUS, "train_2": rows({})}).ok


def test_a_table_of_queries_has_names_of_its_own():
    given = Dataset.from_list([{"query_id": "1", "positive_ids": ["p0"], "negative_ids": ["n0"]}])
    corpus = Dataset.from_dict({"pid": ["p0", "n0"], "passage": ["a text", "question 7"]})
    for text, key in (("query", "query_id"), ("question", "qid"), ("text", "query-id")):
        queries = Dataset.from_dict({key: [1], text: ["Question 7"]})
        found = audit(given, corpus, queries=queries, layout="list", columns={"text": "passage"})
        assert found.counts["query_as_negative"] == 1
    words = Dataset.from_dict({"qid": [1], "words": ["x"]})
    with pytest.raises(ColumnError, match="The table of queries has the columns 'qid', 'words'; one of query, text"):
        audit(given, corpus, queries=words, layout="list", columns={"text": "passage"})


def test_documents_relevant_to_test_queries_by_judgements():
    tests = Dataset.from_dict({"_id": ["t"], "text": ["something else"]})
    found = audit(with_ids(), qrels={"t": ["n"], "u": ["p"]}, test_queries=tests)
    assert found.counts == {"leaked_document": 1}


@pytest.mark.parametrize("layout", ["flagembedding", "labeled-list", "tevatron"])
def test_lists_of_other_lengths_in_layouts(layout):
    scored = {"positive_scores": [1.0], "negative_scores": [0.5], "positive_ids": ["p"], "negative_ids": ["n"]}
    made = to_format(rows(scored, scored, scored), layout, scores="retriever" if layout == "flagembedding" else None)
    if layout == "flagembedding":
        broken = made.map(lambda one, place: {"neg_scores": [0.5] * (1 + place % 2)}, with_indices=True)
    elif layout == "labeled-list":
        broken = made.map(lambda one, place: {"labels": [1, 0, 0][: 2 + place % 2]}, with_indices=True)
    else:
        broken = made
    found = audit(broken)
    assert found.counts.get("misaligned", 0) == (0 if layout == "tevatron" else 1)
    if layout == "labeled-list":
        assert found["misaligned"].examples[0]["row"] == 1
        assert (found.counts["no_positive"], found.negatives) == (1, 2)


def test_ids_that_the_tables_beside_lack():
    rows_of = Dataset.from_dict({"query_id": ["1"], "document_ids": [["p", "n", "z"]], "scores": [[1.0, 0.5, 0.25]]})
    queries = Dataset.from_dict({"query_id": ["1", "2"], "text": ["question", "other"]})
    documents = Dataset.from_dict({"document_id": ["p", "n"], "text": ["yes", "YES"]})
    found = audit(DatasetDict({"train": rows_of, "queries": queries, "documents": documents}))
    assert (found.layout, found.counts) == ("pylate-kd", {"unknown_id": 1, "positive_normalized": 1})
    tests = audit(DatasetDict({"train": rows_of, "test": rows_of, "queries": queries, "documents": documents}))
    assert (tests.counts["leaked_query"], tests.counts["leaked_document"]) == (1, 1)
    alone = audit(rows_of)
    assert alone and "missing_text" in alone.unchecked


@pytest.mark.parametrize(
    ("columns", "counts"),
    [
        ({"_id": ["t"], "title": [""], "text": ["question 1"]}, {"leaked_query": 1}),
        ({"query": ["question 1"], "answer": ["right 0"]}, {"leaked_query": 1, "leaked_document": 1}),
        ({"query": ["none"], "pos": [["right 0"]], "neg": [["right 1"]]}, {"leaked_document": 1}),
        (
            {"query_id": ["t"], "query": ["question  0"], "positive": [["wrong 1"]]},
            {"leaked_query": 1, "leaked_document": 1},
        ),
        ({"question": ["question 1"], "score": [1.0]}, {"leaked_query": 1}),
    ],
)
def test_forms_of_a_test_set(columns, counts):
    assert audit(rows({}, {}, {}), test_queries=Dataset.from_dict(columns)).counts == counts
