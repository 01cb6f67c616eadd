"""What is said of positives and negatives that do not read alike, and that nothing is said where they do."""

import warnings

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg import HardNegatives, from_format, mine, recipe_of, sweep
from hf_hardneg.corpus.sides import difference
from hf_hardneg.errors import HardNegWarning
from tests.worlds import world

NAMES = [
    "basalt",
    "granite",
    "pumice",
    "chalk",
    "marble",
    "slate",
    "gneiss",
    "shale",
    "flint",
    "jade",
    "opal",
    "quartz",
]


def rocks():
    """A titled corpus, and pairs whose positives are the texts alone."""
    texts = [f"{name} is a rock of kind {number}" for number, name in enumerate(NAMES)]
    corpus = Dataset.from_dict({"_id": NAMES, "title": [name.title() for name in NAMES], "text": texts})
    queries = [f"which kind of rock is {name}" for name in NAMES]
    return Dataset.from_dict({"query": queries, "positive": texts}), corpus


def said(pairs, corpus, **options):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mined = mine(pairs, corpus, num_negatives=2, **options)
    return mined, [str(one.message) for one in seen if one.category is HardNegWarning]


def edited(pairs, edit):
    return pairs.map(lambda row: {"positive": edit(row["positive"])})


def test_positives_without_the_title_of_their_document():
    pairs, corpus = rocks()
    mined, (message,) = said(pairs, corpus)
    assert message.startswith("0% of 12 positives in the column 'positive' stand in the corpus as they are. Negatives")
    assert message.endswith("Others are the column 'text' alone: pass columns={'text': 'text'}.")
    mined, messages = said(pairs, corpus, columns={"text": "text"})
    assert not messages and {text for row in mined["negatives"] for text in row} <= set(corpus["text"])


def test_positives_with_a_title_that_negatives_lack():
    pairs, corpus = rocks()
    titled = Dataset.from_dict(
        {
            "query": pairs["query"],
            "positive": [f"{row['title']} {row['text']}" for row in corpus],
            "positive_ids": NAMES,
        }
    )
    assert said(titled, corpus)[1] == said(titled.remove_columns("positive_ids"), corpus)[1] == []
    for rows in (titled, titled.remove_columns("positive_ids")):
        _, (message,) = said(rows, corpus, columns={"text": "text"})
        assert message.endswith("Others are the columns 'title' and 'text': pass columns={'text': ['title', 'text']}.")


def test_some_documents_have_a_title_and_no_positive_has():
    pairs, corpus = rocks()
    some = corpus.map(lambda row, place: {"title": row["title"] if place % 3 else ""}, with_indices=True)
    _, (message,) = said(pairs, some)
    assert message.startswith("33% of 12") and message.endswith("pass columns={'text': 'text'}.")


def test_positives_of_another_column():
    pairs, corpus = rocks()
    corpus = corpus.add_column("short", [f"short {name}" for name in NAMES])
    rows = Dataset.from_dict({"query": pairs["query"], "positive": corpus["short"]})
    assert "the column 'short' alone: pass columns={'text': 'short'}" in said(rows, corpus)[1][0]


@pytest.mark.parametrize("edit", [lambda text: f"passage: {text}", str.upper, lambda text: text.replace(" ", "\n")])
def test_positives_that_are_edited(edit):
    pairs, corpus = rocks()
    _, messages = said(edited(pairs, edit), corpus, columns={"text": "text"})
    assert messages[0].startswith("0% of 12 positives") and "Give the corpus that they are from" in messages[0]


def test_a_mark_is_named():
    pairs, corpus = rocks()
    (message,) = said(edited(pairs, "passage: {}".format), corpus, columns={"text": "text"})[1][:1]
    assert "100% of the others begin with 'passage: ', and 0% of the documents." in message


def test_half_may_be_from_elsewhere():
    pairs, corpus = rocks()
    elsewhere = pairs.map(lambda row, place: {"positive": row["positive"] + " indeed" * (place % 2)}, with_indices=True)
    assert said(elsewhere, corpus, columns={"text": "text"})[1] == []
    most = pairs.map(lambda row, place: {"positive": row["positive"] + " indeed" * (place > 2)}, with_indices=True)
    assert said(most, corpus, columns={"text": "text"})[1][0].startswith("25% of 12")


def test_beir_is_read_as_mining_reads_it():
    _, corpus = rocks()
    corpus = corpus.map(lambda row, place: {"title": row["title"] if place % 2 else None}, with_indices=True)
    queries = Dataset.from_dict({"_id": ["q1", "q2"], "text": ["kind of granite", "kind of pumice"]})
    judged = {"query-id": ["q1", "q2", "q2"], "corpus-id": ["granite", "pumice", "chalk"], "score": [1, 1, 0]}
    rows = from_format({"corpus": corpus, "queries": queries, "qrels": Dataset.from_dict(judged)})
    assert rows["positive"] == [["Granite granite is a rock of kind 1"], ["pumice is a rock of kind 2"]]
    mined, messages = said(rows.select_columns(["query", "positive", "positive_ids"]), corpus)
    by_id = dict(
        zip(NAMES, mine(rows.select_columns(["query", "positive_ids"]), corpus, num_negatives=2), strict=False)
    )
    assert not messages and mined["positive"] == [row["positive"] for row in by_id.values()]
    for row in mined:
        for name, text in zip(row["negative_ids"], row["negatives"], strict=True):
            title = name.title() + " " if NAMES.index(name) % 2 else ""
            assert text == f"{title}{name} is a rock of kind {NAMES.index(name)}"
    assert recipe_of(mined).columns["text"] == ["title", "text"]
    assert recipe_of(mined).corpus.columns == ("_id", "title", "text")


def test_each_is_said_once_for_a_call_also_of_splits_and_from_the_cache():
    pairs, corpus = rocks()
    splits = DatasetDict({"train": pairs.select(range(8)), "dev": pairs.select(range(8, 12))})
    for _ in range(2):
        assert len(said(splits, corpus)[1]) == 1
    with pytest.warns(HardNegWarning, match="'text': 'text'") as seen:
        sweep(pairs, corpus, "bm25", rank_window=[0, 1])
    assert len(seen) == 1
    with pytest.warns(HardNegWarning, match="'text': 'text'"):
        HardNegatives(corpus, "bm25", known_positives=[pairs])


def test_nothing_was_retrieved():
    corpus = Dataset.from_dict({"text": [f"document {i}" for i in range(30)]})
    pairs = Dataset.from_dict({"query": list("bcdefghjklmnopqrstuvwx"), "positive": corpus["text"][:22]})
    with pytest.warns(
        HardNegWarning, match="No document was retrieved for any query, so no row has a negative. Look at columns="
    ):
        mine(pairs, corpus)


def test_pairs_that_may_hold_in_both_directions():
    corpus = Dataset.from_dict({"text": [f"how is {name}" for name in NAMES]})
    pairs = Dataset.from_dict({"query": corpus["text"][:4], "positive": corpus["text"][1:5]})
    with pytest.warns(HardNegWarning, match="100% of the queries are documents of the corpus too.*pass symmetric=True"):
        mine(pairs, corpus)
    for choice in (True, False):
        assert said(pairs, corpus, symmetric=choice)[1] == []
    themselves = Dataset.from_dict({"query": corpus["text"], "positive": corpus["text"]})
    assert said(themselves, corpus)[1] == []


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_said_of_ordinary_data(seed):
    assert said(*world(seed), strategy="random")[1] == []


TEXTS = [f"{first} {second} of the {third}" for first in NAMES for second in NAMES[:3] for third in NAMES[3:7]]


@pytest.mark.parametrize(
    ("positives", "negatives", "words"),
    [
        (
            [f"Title: {text}" for text in TEXTS],
            TEXTS,
            "100% of the positives begin with 'Title: ', and 0% of the negatives",
        ),
        (
            TEXTS,
            [f"{text} [SEP]" for text in TEXTS],
            "100% of the negatives end with ' [SEP]', and 0% of the positives",
        ),
        ([f"query: {text}" for text in TEXTS[:4]], TEXTS[4:], "begin with 'query: "),
        ([text.replace(" of ", "\n") for text in TEXTS], TEXTS, "have line breaks"),
        (TEXTS, [text.capitalize() for text in TEXTS], "100% of the positives have no upper case"),
        ([text.title() for text in TEXTS], [text.upper() for text in TEXTS], "negatives have no lower case"),
        ([text * 5 for text in TEXTS], TEXTS, "half of the positives have"),
    ],
)
def test_a_difference_in_words(positives, negatives, words):
    assert words in difference(positives, negatives)


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [
        (TEXTS, TEXTS),
        (TEXTS[::3], TEXTS[1::3]),
        (
            ["The sky is blue", "The sea is wet", "The cat is in", "The dog is out"],
            ["A sky", "A sea", "My cat", "My dog"],
        ),
        (["(a) x", "(a) y", "(a) z"], TEXTS),
        ([f"Title: {text}" for text in TEXTS], [*TEXTS[:99], *(f"Title: {text}" for text in TEXTS[99:])]),
        ([f"Title: {text}" for text in TEXTS], [f"Title: {text}" for text in TEXTS]),
        (["passage: the same"] * 50, TEXTS),
        ([], TEXTS),
    ],
)
def test_no_difference(positives, negatives):
    assert difference(positives, negatives) is None
