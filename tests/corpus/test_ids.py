import datetime
import decimal
import json
import re
import sqlite3
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, load_dataset

from hf_hardneg import HardNegatives, mine
from hf_hardneg.corpus.documents import dataset_digest, id_column_of, open_corpus
from hf_hardneg.corpus.ids import as_text, flat_texts, named_columns, usual_names
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.corpus.queries import PairColumns, Reader
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.formats.inputs import load_table

TEXTS = ["Basalt is a dark volcanic rock.", "Granite is pale.", "Pumice is a light volcanic rock."]
NAMES = ["_id", "id", "ID", "docid", "doc_id", "DocID", "pid", "passage_id", "document_id", "corpus-id", "docno", "UID"]
UUIDS = [str(uuid.UUID(int=number)) for number in (3, 1, 2)]
VALUES = {
    "int": [2, 0, 1],
    "letters": ["b", "c", "a"],
    "zeros": ["002", "000", "010"],
    "classes": ["1", "0", "2"],
    "uuid": UUIDS,
    "float": [2.0, 0.0, 1.0],
    "holes": [2, None, 1],
}
LOADERS = ["parquet", "csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "sql", "pandas"]


def frame(loader):
    columns = {f"{kind}|{name}": values for kind, values in VALUES.items() for name in [*NAMES, "positive_ids"]}
    made = pd.DataFrame({**columns, "text": TEXTS, "query": ["one", "two", "three"]})
    classes = [name for name in made.columns if name.startswith("classes")]
    return made.astype(dict.fromkeys(classes, "category")) if loader in ("parquet", "pandas") else made


def written(table, loader, path):
    if loader == "parquet":
        rows = Dataset.from_pandas(table)
        for name in [name for name in rows.column_names if name.startswith("classes")]:
            rows = rows.cast_column(name, ClassLabel(names=["2", "1", "0"]))
        rows.to_parquet(path)
    elif loader.startswith("jsonl"):
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if loader == "tsv" else ",")


@pytest.fixture(scope="module", params=LOADERS)
def rows(request, tmp_path_factory):
    """One table with a column for each name and kind, once through each loader."""
    table, folder = frame(request.param), tmp_path_factory.mktemp("rows")
    if request.param == "pandas":
        return Dataset.from_pandas(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        if request.param == "sql":
            with sqlite3.connect(folder / "rows.db") as connection:
                kinds = table.rename(columns={f"{kind}|id": kind for kind in VALUES})[[*VALUES, "text", "query"]]
                kinds.to_sql("rows", connection, index=False)
                wanted = [f'"{name.partition("|")[0]}" as "{name}"' for name in table.columns]
                return Dataset.from_sql(f"select {', '.join(wanted)} from rows", connection)
        path = folder / f"rows.{request.param}"
        written(table, request.param, path)
        return load_table(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", VALUES)
def test_ids_are_right_or_refused_whatever_their_column_and_file(kind, rows, tmp_path):
    pairs = rows.select_columns([f"{kind}|positive_ids", "query"]).rename_column(f"{kind}|positive_ids", "positive_ids")
    right = [str(value).removesuffix(".0") for value in VALUES[kind]]
    for name in NAMES:
        corpus = rows.select_columns([f"{kind}|{name}", "text"]).rename_column(f"{kind}|{name}", name)
        if kind == "holes":
            with pytest.raises(DataError, match=f"Column '{re.escape(name)}' is null in row 1 of the dataset"):
                open_corpus(corpus, cache_dir=str(tmp_path))
            continue
        opened = open_corpus(corpus, cache_dir=str(tmp_path))
        ids = opened.ids(np.arange(3)).to_pylist()
        as_written = kind == "float" and corpus.features[name].dtype == "string"
        assert ids == (["2.0", "0.0", "1.0"] if as_written else right)
    if kind != "holes":
        reader = Reader(corpus=opened, keys=corpus_keys(opened, "normalized"), columns=PairColumns())
        assert reader.listed_positives(named_columns(pairs.with_format("arrow")[:])).row.tolist() == [0, 1, 2]
    else:
        with pytest.raises(DataError, match="Column 'positive_ids' is null in row 1 of the dataset"):
            dataset_digest(pairs, ["positive_ids"])


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array(["01", None], pa.large_string()), ["01", None]),
        (pa.array(["01", "a"], pa.string_view()), ["01", "a"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
        (pa.array([7, 12]).dictionary_encode(), ["7", "12"]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([1.0, None, float("nan"), -(2.0**53)]), ["1", None, None, str(-(2**53))]),
        (pa.array([decimal.Decimal(12345678901234567890)], pa.decimal128(20, 0)), ["12345678901234567890"]),
        (pa.array([uuid.UUID(int=5).bytes], pa.uuid()), [str(uuid.UUID(int=5))]),
        (pa.array([[1, 2], None, [], [3]]), [["1", "2"], None, [], ["3"]]),
        (pa.array([[1.0, None]], pa.list_(pa.float64(), 2)), [["1", None]]),
        (pa.array(['"007"', "7", '["a", 1]', None], pa.json_()), [["007"], ["7"], ["a", "1"], None]),
        (pa.array(["1", "007", '"a"'], pa.json_()), ["1", "007", "a"]),
    ],
)
def test_ids_of_any_type_are_texts(array, texts):
    assert as_text(pa.chunked_array([array]), "id").to_pylist() == texts
    assert as_text(array.slice(1), "id").to_pylist() == texts[1:]


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        (pa.array([1.0, 2.5]), DataError, "holds floats, such as 2.5"),
        (pa.array([2.0**53 + 2]), DataError, "floats above 2[*][*]53 have lost digits"),
        (pa.array([True]), ColumnError, "holds bool; ids and texts are strings or whole numbers"),
        (pa.array([datetime.date(2021, 1, 2)]), ColumnError, "look like dates or times were probably taken for such"),
        (pa.array([b"x"]), ColumnError, "holds binary"),
        (pa.array([{"a": 1}]), ColumnError, "holds struct"),
        (pa.array(["[1.5]"], pa.json_()), ColumnError, "several types, such as 1.5, .* casting the column would write"),
    ],
)
def test_what_is_no_id_is_refused_by_name(array, error, text):
    with pytest.raises(error, match=f"Column 'id' {text}" if text.startswith("holds") else text):
        as_text(array, "id")


def test_a_null_in_a_list_is_named_by_its_row():
    with pytest.raises(DataError, match="Column 'positive_ids' is null in row 12 of the dataset"):
        flat_texts(pa.array([["a", "b"], [], ["c", None]]), "positive_ids", first_row=10)
    with pytest.raises(DataError, match="Column 'positive_ids' is null in row 1 of the batch"):
        flat_texts(pa.array([["a"], None]), "positive_ids")


def test_classes_are_their_names_also_in_lists():
    features = Features({"id": ClassLabel(names=["10", "07"]), "ids": List(ClassLabel(names=["x", "y"]))})
    rows = Dataset.from_dict({"id": [1, 0, -1], "ids": [[1, 0], [], None]}, features=features)
    columns = named_columns(rows.with_format("arrow")[:])
    assert columns["id"].to_pylist() == ["07", "10", None]
    assert columns["ids"].to_pylist() == [["y", "x"], [], None]


def test_the_digest_of_classes_is_that_of_their_names():
    def digest(names, ids):
        classes = Features({"id": ClassLabel(names=names)})
        return dataset_digest(Dataset.from_dict({"id": ids}, features=classes), ["id"])

    assert digest(["a", "b"], [0, 1]) == digest(["b", "a"], [1, 0]) != digest(["b", "a"], [0, 1])
    assert digest(["a", "b"], [0, 1]) == dataset_digest(Dataset.from_dict({"id": ["a", "b"]}), ["id"])


@pytest.mark.parametrize("name", ["doc-id", "Document ID", "passageId", "psg_id", "text_id", "chunk_id", "GUID"])
def test_names_of_id_columns(name):
    assert usual_names([name, "text", "query_id", "parent_id", "paid", "title", "label"]) == [name]


def test_the_one_column_of_different_values_is_taken():
    corpus = Dataset.from_dict({"doc_id": ["a", "a"], "chunk_id": ["0", "1"], "text": TEXTS[:2]})
    assert id_column_of(corpus) == "chunk_id"
    assert HardNegatives(corpus, "bm25").columns == {"id": "chunk_id"}
    assert "columns={'id': 'chunk_id'}" in repr(HardNegatives(corpus, "bm25"))


def test_a_corpus_of_several_columns_of_ids_is_asked_about():
    corpus = Dataset.from_dict({"_id": ["a", "b"], "pid": [1, 2], "text": ["x", "y"]})
    with pytest.raises(ColumnError, match="'_id', 'pid', each with values that are all different"):
        open_corpus(corpus)
    assert open_corpus(corpus, columns={"id": "pid"}).id_column == "pid"


@pytest.mark.parametrize("column", ["_id", "doc_id"])
def test_ids_that_repeat_are_refused_with_the_column_and_the_way_out(column):
    corpus = Dataset.from_dict({column: ["a", "a"], "text": TEXTS[:2]})
    with pytest.raises(
        DataError, match=f"repeat the id of another in '{column}', such as 'a'.*'row_number' stands for row"
    ):
        HardNegatives(corpus, "bm25", columns={"id": column} if column != "_id" else None)


@pytest.mark.parametrize("columns", [{"doc_id": ["a", "a", "b"]}, {"id": [1, None, 1], "pid": list("aab")}])
def test_values_that_repeat_are_no_ids_unless_they_are_said_to_be(columns):
    """Chunks repeat the id of their document: pairs of texts need no ids, and those with ids are asked for them."""
    corpus = Dataset.from_dict({**columns, "text": TEXTS})
    by_text = Dataset.from_dict({"query": ["dark volcanic rock"], "positive": [TEXTS[0]]})
    assert mine(by_text, corpus, "bm25", num_negatives=1)[0]["negative_ids"] == ["row-2"]
    by_id = Dataset.from_dict({"query": ["dark volcanic rock"], "positive_ids": [["a"]]})
    with pytest.raises(ColumnError, match="is called as id columns are and repeats no value. Name it with columns="):
        mine(by_id, corpus, "bm25")


def test_digits_are_no_row_numbers_unless_they_are_said_to_be():
    corpus = Dataset.from_dict({"text": TEXTS})
    by_id = Dataset.from_dict({"query": ["dark volcanic rock"], "positive_ids": [[1]]})
    by_text = Dataset.from_dict({"query": ["dark volcanic rock"], "positive": [TEXTS[0]]})
    refusal = "'positive_ids' of the dataset names documents by their ids, and none of the columns of the corpus"
    with pytest.raises(ColumnError, match=refusal):
        mine(by_id, corpus, "bm25")
    with pytest.raises(ColumnError, match=refusal):
        by_id.map(HardNegatives(corpus, "bm25"), batched=True)
    with pytest.raises(ColumnError, match="'no' of the dataset names documents"):
        mine(by_text.add_column("no", [["1"]]), corpus, "bm25", columns={"exclude_ids": "no"})
    mined = mine(by_text, corpus, "bm25", num_negatives=2, safeguards=False)[0]
    assert mined["negative_ids"] == ["row-2", "row-1"][: len(mined["negative_ids"])]
    asked = mine(by_id, corpus, "bm25", num_negatives=2, safeguards=False, columns={"id": "row_number"})[0]
    assert asked["positive"] == [TEXTS[1]]
    assert asked["negative_ids"][0] == "0"


def test_an_id_column_that_nobody_named_is_not_passed_over():
    corpus = Dataset.from_dict({"docid": ["2", "0", "1"], "text": TEXTS})
    pairs = Dataset.from_dict({"query": ["dark volcanic rock"], "positive_ids": [["2"]]})
    mined = mine(pairs, corpus, "bm25", num_negatives=1)[0]
    assert mined["positive"] == [TEXTS[0]]
    assert mined["negative_ids"] == ["1"]


def test_texts_of_several_types_say_why_casting_does_not_help(tmp_path):
    lines = map(json.dumps, [{"query": 1, "positive": "x"}, {"query": "b", "positive": "y"}])
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    rows = load_dataset("json", data_files=str(tmp_path / "pairs.jsonl"), split="train")
    with pytest.raises(ColumnError, match="values of several types, which datasets keeps as JSON: casting them would"):
        rows.map(HardNegatives(Dataset.from_dict({"text": TEXTS}), "bm25"), batched=True)
