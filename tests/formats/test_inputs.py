import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg.errors import DataError
from hf_hardneg.formats.inputs import load_table

ROWS = Dataset.from_dict({"_id": ["a", "b"], "text": ["x", "y"]})


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "folder", "saved", "saved dict"])
def test_what_can_be_given(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        ROWS.to_parquet(path)
    elif kind == "jsonl":
        ROWS.to_json(path)
    elif kind == "csv":
        ROWS.to_csv(path)
    elif kind == "folder":
        (path / "deep").mkdir(parents=True)
        ROWS.to_parquet(path / "deep" / "part.parquet")
    elif kind == "saved":
        ROWS.save_to_disk(path)
    else:
        DatasetDict({"train": ROWS}).save_to_disk(path)
    assert load_table(str(path)).to_dict() == ROWS.to_dict()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: (path / "x.txt").write_text("hello") and path / "x.txt", "has the suffix '.txt'; give a Parquet"),
        (lambda path: (path / "x.parquet").write_bytes(b"PAR1 cut") and path / "x.parquet", "cannot be read"),
        (lambda path: "nowhere.parquet", "There is no file or folder nowhere.parquet. Give a Parquet"),
        (lambda path: path / "nowhere", "There is no file or folder .*nowhere"),
        (lambda path: "./nowhere", "There is no file or folder ./nowhere"),
        (lambda path: "nobody/nothing", "nobody/nothing cannot be read"),
    ],
)
def test_what_cannot_be_read(make, text, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=text):
        load_table(str(make(tmp_path)))


def test_a_split_that_is_not_there(tmp_path):
    DatasetDict({"dev": ROWS}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="has no split 'train'; it has dev. Name one with --split"):
        load_table(str(tmp_path / "saved"))
    assert len(load_table(str(tmp_path / "saved"), split="dev")) == 2


@pytest.mark.parametrize("form", ["lines", "array"])
def test_texts_that_look_like_times_stay_texts(form, tmp_path):
    rows = [{"_id": f"2021-01-{day:02}", "passages": [{"text": f"2020-02-{day:02} 10:00:00"}]} for day in range(1, 20)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "x.json").write_text("\n".join(lines) if form == "lines" else f"[{','.join(lines)}]")
    assert load_table(str(tmp_path / "x.json")).to_list() == rows


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.tsv", "rows.tsv.gz"])
def test_cells_are_texts_as_they_stand_and_empty_ones_are_null(name, tmp_path):
    lines = "docid,text,day,label,score\n007,NA,2021-01-02,1,0.5\n1.0,,x,0,2\n"
    lines = lines.replace(",", "\t") if ".tsv" in name else lines
    (tmp_path / name).write_bytes(gzip.compress(lines.encode()) if name.endswith("gz") else lines.encode("utf-8-sig"))
    assert load_table(str(tmp_path / name)).to_dict() == {
        "docid": ["007", "1.0"],
        "text": ["NA", None],
        "day": ["2021-01-02", "x"],
        "label": [1, 0],
        "score": [0.5, 2.0],
    }


def test_quotes_are_of_csv_and_text_in_tsv(tmp_path):
    (tmp_path / "x.csv").write_text('id,text\n01,"a, ""b""\nc"\n')
    (tmp_path / "x.tsv").write_text('id\ttext\n01\t"a" b\n02\t"c\n')
    assert load_table(str(tmp_path / "x.csv")).to_list() == [{"id": "01", "text": 'a, "b"\nc'}]
    assert load_table(str(tmp_path / "x.tsv"))["text"][:] == ['"a" b', '"c']


def test_packed_json_is_read_as_the_plain_one_is(tmp_path):
    lines = '{"id": "2021-01-02", "text": "x"}\n{"id": "2021-01-03", "text": "y"}\n'
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert load_table(str(tmp_path / "x.jsonl.gz"))["id"][:] == ["2021-01-02", "2021-01-03"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (
            "x.jsonl",
            '{"_id": "a"}\n\n{"_id": \n',
            'Line 3 of .*x.jsonl is no JSON .*: \'{"_id": .*mend or drop that line',
        ),
        ("x.jsonl", "", "x.jsonl has no rows, and one is needed at least. Give a Parquet"),
        ("x.jsonl", "\n\n", "x.jsonl has no rows"),
        ("x.json", "[]", "x.json has no rows"),
        ("x.csv", "", "x.csv is empty; a CSV or TSV file has one row at least"),
        ("x.csv", "_id,text\n", "x.csv has no rows"),
        ("x.zip", "", "has the suffix '.zip'; give a Parquet"),
    ],
)
def test_broken_and_empty_files(name, content, text, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=text):
        load_table(str(tmp_path / name))
