import json

import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg.errors import DataError
from hf_hardneg.inputs import load_table

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
        (lambda path: path / "nowhere.parquet", "nowhere.parquet cannot be read"),
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
