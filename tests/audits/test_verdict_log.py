"""Verdicts are on the disk before anybody is told so, and what is read back is what was last said."""

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_hardneg.audits import verdict_log
from hf_hardneg.audits.verdict_log import HumanVerdict, VerdictLog, keys_of_pairs, read_verdicts
from hf_hardneg.errors import ConfigError, DataError, StoreError


def verdict(number, score, **options):
    texts = {"query": f"query {number}", "document": f"document {number}"}
    return HumanVerdict(
        query_id=f"q{number}", corpus_id=f"d{number}", score=score, row=number, place=0, **texts, **options
    )


def add(log, number, score):
    said = verdict(number, score)
    log.add(int(keys_of_pairs([said.query], [said.document])[0]), said)


def scores(log):
    return {each.row: each.score for each in log.last.values()}


@given(steps=st.lists(st.one_of(st.just("undo"), st.tuples(st.integers(0, 3), st.integers(0, 1))), max_size=20))
def test_the_last_verdict_of_a_pair_counts_and_undo_takes_back_what_stands(steps, tmp_path_factory):
    """Against a list of what was said, from which undo drops the last; reopened in between."""
    path = tmp_path_factory.mktemp("log") / "verdicts.jsonl"
    said, lines = [], 0
    log = VerdictLog(path)
    for number, step in enumerate(steps):
        if number % 3 == 2:
            log.close()
            log = VerdictLog(path)
        if step == "undo":
            undone = log.undo()
            assert (undone is None) == (not said)
            lines += undone is not None
            if said:
                assert (undone.row, undone.score) == said.pop()
        else:
            add(log, *step)
            said.append(step)
            lines += 1
        assert scores(log) == dict(said) and log.counts == {
            "judged": len(dict(said)),
            "relevant": sum(dict(said).values()),
        }
    log.close()
    assert len(read_verdicts(path)) == lines


WRITER = """
import sys
from pathlib import Path
from tests.audits.test_verdict_log import add
from hf_hardneg.audits.verdict_log import VerdictLog
log = VerdictLog(Path(sys.argv[1]))
for number in range(10_000):
    add(log, number, number % 2)
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [1, 7, 40])
def test_nothing_that_was_told_to_be_kept_is_lost_when_the_process_is_killed(wanted, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    for _ in range(wanted):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    told = wanted + len(writer.stdout.read().splitlines())
    writer.wait()
    writer.stdout.close()
    log = VerdictLog(path)
    assert told <= len(log.last) <= told + 1
    assert all(score == number % 2 for number, score in scores(log).items())
    log.close()


def test_a_line_without_its_end_is_left_out_and_taken_away(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    log = VerdictLog(path)
    add(log, 1, 1)
    log.close()
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert len(read_verdicts(path)) == 1
    log = VerdictLog(path)
    add(log, 2, 0)
    log.close()
    assert path.read_bytes().startswith(whole) and scores(VerdictLog(path)) == {1: 1, 2: 0}


def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "verdicts.jsonl"
    log = VerdictLog(path)
    add(log, 1, 1)
    whole = path.read_bytes()
    write = os.write
    monkeypatch.setattr(verdict_log.os, "write", lambda file, line: write(file, line[:10]))
    with pytest.raises(StoreError, match="no room left.*Make room there, or name another place with verdicts="):
        add(log, 2, 1)
    monkeypatch.undo()
    assert path.read_bytes() == whole and scores(log) == {1: 1}
    add(log, 3, 0)
    assert scores(log) == {1: 1, 3: 0}


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"7", b"not JSON", b'{"query": 5}', b"\xff", b"[" * 5000, verdict(1, 5).line().strip()]
)
def test_a_line_that_is_no_verdict_is_named(line, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(verdict(1, 1).line() + line + b"\n")
    with pytest.raises(DataError, match=r"Line 2 of .* is no verdict .* take that line out, or give another file"):
        VerdictLog(path)
    path.write_bytes(verdict(1, 1).line())
    VerdictLog(path).close()


def test_a_file_has_one_review_at_a_time(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    log = VerdictLog(path)
    with pytest.raises(ConfigError, match=r"being written by process \d+ .* one review at a time\. End that one"):
        VerdictLog(path)
    log.close()
    VerdictLog(path).close()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="verdicts= .* cannot be written"):
        VerdictLog(tmp_path / "file" / "verdicts.jsonl")


def test_texts_come_back_as_they_were(tmp_path):
    said = verdict(1, 1)
    texts = {"query": "a\u2028b\n\"'\\ \x00", "document": "\U0001f469\u200d\U0001f52c", "query_id": "\x1b[2J"}
    line = HumanVerdict(**{**vars(said), **texts}).line()
    assert line.count(b"\n") == 1 and line.isascii()
    assert HumanVerdict.read(line) == HumanVerdict(**{**vars(said), **texts})
    assert json.loads(line)["query-id"] == "\x1b[2J"
