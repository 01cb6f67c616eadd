import os
import subprocess
import sys

import pytest
from datasets import Dataset, load_from_disk

from hf_hardneg.cli import main
from hf_hardneg.demo import standard_library
from tests.worlds import world


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_mine(suffix, tmp_path, capsys):
    for name, data in zip(("pairs", "corpus"), world(1), strict=True):
        (data.to_parquet if suffix == "parquet" else data.to_json)(tmp_path / f"{name}.{suffix}")
    files = [f"--{name}={tmp_path}/{name}.{suffix}" for name in ("pairs", "corpus")]
    status = main(["mine", *files, "--strategy=bm25", "--num-negatives=3", f"--out={tmp_path}/out"])
    shown = capsys.readouterr().out
    assert status == 0
    assert "negative   " in shown and "kept" in shown and f"Written to {tmp_path}/out" in shown
    assert len(load_from_disk(str(tmp_path / "out"))["negatives"][0]) == 3
    main(["mine", *files, "--strategy=bm25", f"--out={tmp_path}/triplets", "--format=triplet"])
    assert load_from_disk(str(tmp_path / "triplets")).column_names == ["query", "positive", "negative"]


def test_what_was_wrong_is_said_without_a_traceback(tmp_path, capsys):
    Dataset.from_dict({"q": ["x"]}).to_parquet(tmp_path / "pairs.parquet")
    Dataset.from_dict({"text": ["x"]}).to_parquet(tmp_path / "corpus.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    assert main(["mine", *files, "--strategy=bm25", f"--out={tmp_path}/out"]) == 2
    assert capsys.readouterr().err.startswith("error: The dataset has no column 'query'; it has 'q'.")
    assert main(["mine", *files, "--strategy=bm26", f"--out={tmp_path}/out"]) == 2
    assert "Did you mean 'bm25'" in capsys.readouterr().err


def test_demo(tmp_path, capsys):
    assert main(["demo", f"--out={tmp_path}/mined"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("query      ") == 3 and "Next, " in shown
    assert len(load_from_disk(str(tmp_path / "mined"))) > 2000


def test_the_standard_library_is_the_same_in_every_process():
    code = (
        "from hf_hardneg.demo import standard_library; from hf_hardneg.corpus import open_corpus; "
        "pairs, corpus = standard_library(); print(open_corpus(corpus).digest, hash(str(pairs[:])) and pairs[7])"
    )
    outputs = {
        subprocess.check_output(
            [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_standard_library_is_a_fair_retrieval_set():
    pairs, corpus = standard_library()
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    assert len(texts) == len(corpus) > 6000 and len(pairs) > 2000
    assert len(set(pairs["query"])) == len(pairs)
    assert not any(" at 0x" in text.partition("\n")[0] for text in texts.values())
    for row in pairs:
        assert row["positive_ids"] and all(
            row["query"].lower() not in texts[one].lower() for one in row["positive_ids"]
        )
