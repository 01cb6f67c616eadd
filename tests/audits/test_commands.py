"""The command line: a review beside the folder, what it leads to, and what ends it."""

import json
import re
import signal
import subprocess
import sys

import pytest
from datasets import load_from_disk

from hf_hardneg.cli import main
from tests.audits.pages import asked
from tests.worlds import world

pytestmark = pytest.mark.slow


def mined(folder):
    for name, data in zip(("pairs", "corpus"), world(1), strict=True):
        data.to_parquet(folder / f"{name}.parquet")
    files = [f"--{name}={folder}/{name}.parquet" for name in ("pairs", "corpus")]
    assert main(["mine", *files, "--strategy=bm25", "--num-negatives=3", f"--out={folder}/mined"]) == 0
    return files


def reviewed(folder, *options, stop=signal.SIGINT):
    """Start a review, judge the first negatives of two rows, and end it: its status and what it printed."""
    command = [sys.executable, "-m", "hf_hardneg.cli", "review", f"{folder}/mined", "--no-browser", *options]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stream = started.stderr if "--json" in options else started.stdout
    url = next(match[0] for line in stream if (match := re.search(r"http://\S+", line)))
    for row, score in ((0, 1), (20, 0)):
        assert asked(url, "verdict", method="POST", body={"row": row, "place": 0, "score": score})[0] == 200
    started.send_signal(stop)
    out, error = started.communicate(timeout=60)
    return started.returncode, out, error


def test_a_review_leads_the_next_mining_and_the_report(tmp_path, capsys):
    files = mined(tmp_path)
    status, out, error = reviewed(tmp_path)
    verdicts = tmp_path / "mined.verdicts.jsonl"
    assert f"2 negatives judged, 1 of them relevant: {verdicts}" in out, (status, out, error)
    assert "Traceback" not in error
    row = load_from_disk(tmp_path / "mined")[0]
    options = ["--strategy=bm25", "--num-negatives=3", f"--verdicts={verdicts}", f"--out={tmp_path}/again"]
    assert main(["mine", *files, *options]) == 0
    again = load_from_disk(tmp_path / "again")
    assert row["negatives"][0] not in [
        text for each in again if each["query"] == row["query"] for text in each["negatives"]
    ]
    capsys.readouterr()
    page = tmp_path / "report.html"
    assert main(["report", f"{tmp_path}/mined", f"--html={page}"]) == 0
    shown = capsys.readouterr().out
    assert "that people judged are relevant" in shown and "█" in shown and f"Written to {page}" in shown
    assert "that people judged are relevant" in page.read_text()
    assert main(["report", f"{tmp_path}/again"]) == 0
    assert "people judged" not in capsys.readouterr().out
    assert main(["report", f"{tmp_path}/again", f"--verdicts={tmp_path}/none"]) == 2
    assert "There is no file of verdicts" in capsys.readouterr().err


def test_records_of_argilla_and_json(tmp_path, capsys):
    mined(tmp_path)
    status, out, _ = reviewed(tmp_path, "--json", f"--verdicts={tmp_path}/v.jsonl", stop=signal.SIGTERM)
    assert json.loads(out) == {"verdicts": f"{tmp_path}/v.jsonl", "judged": 2, "relevant": 1, "argilla": None}, status
    capsys.readouterr()
    options = [f"--verdicts={tmp_path}/v.jsonl", f"--argilla={tmp_path}/records.jsonl"]
    assert main(["review", f"{tmp_path}/mined", *options]) == 0
    assert f"1 of them relevant: {tmp_path}/records.jsonl" in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert sum(bool(record["responses"]) for record in records) == 2 < len(records)
    assert main(["review", f"{tmp_path}/mined", f"--argilla={tmp_path}/records.jsonl"]) == 2
    assert "There is no file of verdicts" in capsys.readouterr().err
