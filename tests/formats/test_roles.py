"""Which column is what where sentence-transformers' layouts are read."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from hf_hardneg import audit, from_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning
from hf_hardneg.formats.loading import load_pairs

READ = {"query": "boil an egg", "positive": ["Seven minutes."], "negatives": ["Hens lay eggs."]}
TRIPLET = {"anchor": "boil an egg", "positive": "Seven minutes.", "negative": "Hens lay eggs."}
LISTS = {"query": "boil an egg", "positive": ["Seven minutes."], "negative": ["Hens lay eggs."]}


def read(row, layout=None):
    return from_format(Dataset.from_list([row]), layout)[0]


@pytest.mark.parametrize("order", [("anchor", "negative", "positive"), ("negative", "positive", "anchor")])
def test_names_decide_before_order(order):
    assert read({name: TRIPLET[name] for name in order}) == READ


@pytest.mark.parametrize("names", [("Anchor", "Positive", "Negative"), ("sent0", "sent1", "hard_neg")])
def test_names_decide_in_any_case_and_as_simcse_has_them(names):
    row = dict(zip(names, TRIPLET.values(), strict=True))
    assert read(dict(reversed(row.items()))) == READ


@pytest.mark.parametrize("place", ["first", "last"])
def test_ids_by_name_are_ids_wherever_they_stand(place):
    ids = {"query_id": 9, "positive_id": "a", "negative_id": "b"}
    row = ids | TRIPLET if place == "first" else TRIPLET | ids
    assert read(row) == READ | {"query_id": "9", "positive_ids": ["a"], "negative_ids": ["b"]}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("more", ["id", "_id", "source", "language", "notes", "score"])
def test_what_is_no_role_is_left_out_aloud(more, place):
    value = {more: 0.5 if more == "score" else "x"}
    row = value | TRIPLET if place == "first" else TRIPLET | value
    with pytest.warns(HardNegWarning, match=f"columns '{more}' are neither query"):
        assert read(row) == READ


def test_order_decides_where_names_say_nothing_and_that_is_said():
    with pytest.warns(HardNegWarning, match="'a' is taken for the query, 'b' for the positive, 'c', 'd' for negatives"):
        assert read({"a": "x", "b": "y", "c": "z", "d": "w"}) == {
            "query": "x",
            "positive": ["y"],
            "negatives": ["z", "w"],
        }


def test_several_negatives_and_their_ids():
    row = {"query_id": "q", "question": "x", "answer": "y", "negative_1": "z", "negative_2": "w"}
    found = read(row | {"negative_1_id": "1", "negative_2_id": "2"})
    assert found["negatives"] == ["z", "w"] and found["negative_ids"] == ["1", "2"] and found["query_id"] == "q"


@pytest.mark.parametrize("write", [str, json.dumps])
def test_lists_and_lists_in_strings(write):
    assert read(LISTS) == READ
    assert read({name: write(text) if isinstance(text, list) else text for name, text in LISTS.items()}) == READ
    inline = {"query": "boil an egg", "pos": write(["Seven minutes."]), "neg": write(["Hens lay eggs."])}
    assert read(inline) == READ


@pytest.mark.parametrize("negatives", ['["Hens lay eggs."]', "['Hens lay eggs.']"])
def test_lists_in_strings_under_the_names_of_mined_data(negatives):
    assert read({"query": "boil an egg", "positive": "['Seven minutes.']", "negatives": negatives}) == READ


def test_arrays_as_numpy_prints_them_are_refused():
    printed = str(np.array(["Hens lay eggs.", "An egg."]))
    with pytest.raises(DataError, match="an array as NumPy prints it.*tolist"):
        read({"query": "boil an egg", "positive": "Seven minutes.", "negatives": printed})


def test_missing_negatives_are_none():
    rows = [{**TRIPLET, "negative_2": "An egg."}, {**TRIPLET, "anchor": "fry an egg", "negative_2": None}]
    assert from_format(Dataset.from_list(rows))["negatives"] == [["Hens lay eggs.", "An egg."], ["Hens lay eggs."]]


@pytest.mark.parametrize("name", ["is_duplicate", "relevance", "gold_label"])
def test_judgements_under_another_name_are_not_passed_over(name):
    rows = {"query": ["x", "x"], "document": ["y", "z"], name: [1, 0]}
    with pytest.raises(ColumnError, match=f"'{name}' says by its name which 'document' are relevant.*Rename it"):
        from_format(Dataset.from_dict(rows))


def test_a_text_in_brackets_is_a_text():
    assert read({"query": "q", "positive": "[1]", "negative": "[sic]"})["positive"] == ["[1]"]


def test_flagembedding_without_negatives():
    assert read({"query": "q", "pos": ["p"]}) == {"query": "q", "positive": ["p"], "negatives": []}
    with pytest.warns(HardNegWarning, match="'flagembedding' has no 'notes'"):
        assert read({"query": "q", "pos": ["p"], "neg": ["n"], "notes": "x", "prompt": "y"})["negatives"] == ["n"]


def test_queries_that_are_lists_are_refused():
    with pytest.raises(DataError, match="Queries are list.*Join an instruction and its query"):
        read({"query": ["Represent:", "x"], "pos": ["p"], "neg": ["n"]})


def test_tevatron_without_negatives():
    passages = {"positive_passages": [{"docid": "a", "text": "p"}], "negative_passages": []}
    found = read({"query_id": "1", "query": "q", **passages})
    assert found["positive"] == ["p"] and found["negatives"] == [] and found["negative_ids"] == []


LABELS = {
    "integers": [1, 0],
    "grades": [3, -1],
    "floats": [1.0, 0.0],
    "booleans": [True, False],
    "digits": ["1", "0"],
    "words": ["relevant", "irrelevant"],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels(labels):
    pair = {"query_id": ["q", "q"], "query": ["x", "x"], "doc_id": ["1", "2"], "passage": ["y", "z"], "label": labels}
    expected = {"query_id": "q", "query": "x", "positive": ["y"], "positive_ids": ["1"]}
    assert from_format(Dataset.from_dict(pair))[0] == expected | {"negatives": ["z"], "negative_ids": ["2"]}
    lists = {"query": ["x"], "docs": [["y", "z"]], "labels": [labels]}
    assert from_format(Dataset.from_dict(lists))[0] == {"query": "x", "positive": ["y"], "negatives": ["z"]}


def test_labels_that_do_not_say_what_is_relevant():
    def pairs(labels):
        return Dataset.from_dict({"query": ["x", "x"], "passage": ["y", "z"], "label": labels})

    with pytest.raises(ConfigError, match="such as 0.13 are scores"):
        from_format(pairs([0.13, 1.0]))
    with pytest.raises(DataError, match="1 values of 'label' are missing"):
        from_format(pairs([1, None]))
    with pytest.raises(DataError, match="has the label 'maybe'"):
        from_format(pairs(["maybe", "yes"]))
    classes = pairs([0, 1]).cast_column("label", ClassLabel(names=["entailment", "contradiction"]))
    with pytest.raises(ConfigError, match="'entailment', 'contradiction', and 0 must stand for what is not relevant"):
        from_format(classes)
    words = pairs([0, 1]).cast_column("label", ClassLabel(names=["irrelevant", "relevant"]))
    assert from_format(words)[0]["positive"] == ["z"]


@pytest.mark.parametrize("place", ["first", "last"])
def test_an_audit_reads_the_same_columns(place):
    bad = TRIPLET | {"negative": TRIPLET["positive"]}
    row = {"query_id": "q"} | bad if place == "first" else bad | {"query_id": "q"}
    assert audit(Dataset.from_list([row])).counts["positive_text"] == 1


def test_mteb_has_other_names_for_ids_and_judgements_in_splits():
    qrels = Dataset.from_dict({"query-id": ["q", "q"], "corpus-id": ["a", "b"], "score": [1, 0]})
    tables = {"corpus": {"id": ["a", "b"], "text": ["x", "y"]}, "queries": {"id": ["q"], "text": ["z"]}}
    given = {name: Dataset.from_dict(columns) for name, columns in tables.items()}
    for judged in (qrels, DatasetDict({"test": qrels}), DatasetDict({"train": qrels, "test": qrels})):
        (row,) = from_format(given | {"qrels": judged})
        assert (row["positive_ids"], row["negatives"]) == (["a"], ["y"])
    with pytest.raises(ConfigError, match="'qrels' has the splits dev, test"):
        from_format(given | {"qrels": DatasetDict({"dev": qrels, "test": qrels})})


@pytest.mark.parametrize("labels", [[0, 1, 2], [2, 0, 1, -1]])
def test_three_numbers_of_sentence_pairs_may_be_classes_or_grades_and_are_refused(labels):
    texts = {name: [f"{name} {row}" for row in range(len(labels))] for name in ("sentence1", "sentence2")}
    pairs = Dataset.from_dict({**texts, "label": labels})
    with pytest.raises(DataError, match="the numbers 0, 1 and 2 as 'label', without names: in NLI 0 is entailment"):
        load_pairs(pairs)
    two = Dataset.from_dict({**texts, "label": [min(label, 1) for label in labels]})
    assert load_pairs(two).rows["label"] == [label for label in two["label"] if label > 0]
