"""Ctrl-C and SIGTERM: no traceback, a line that says what is kept, and a rerun that repeats a twentieth at most."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from datasets import concatenate_datasets, load_from_disk

from hf_hardneg.cli import main
from hf_hardneg.cli.stopping import Stopped, stoppable
from tests.worlds import world

pytestmark = pytest.mark.slow

SLOW = """
import sys, time
from hf_hardneg.cli import main
from hf_hardneg.pipeline.retrieval import Retrieval

class Slow:
    def __call__(self, batch, search=Retrieval.__call__):
        with open(sys.argv[1], "a") as log:
            log.write(f"{batch.num_rows}\\n")
        time.sleep(float(sys.argv[2]))
        return search(self, batch)

Retrieval.__call__ = Slow.__call__
sys.exit(main(sys.argv[3:]))
"""
WITHIN = 120
"""Seconds, on a busy machine, for what takes a few."""


def rows_searched(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def job(tmp_path, *more):
    pairs, corpus = world(1)
    concatenate_datasets([pairs] * 40).to_parquet(tmp_path / "pairs.parquet")
    corpus.to_parquet(tmp_path / "corpus.parquet")
    files = [f"--{name}={tmp_path}/{name}.parquet" for name in ("pairs", "corpus")]
    return ["mine", *files, "--strategy=bm25", f"--cache-dir={tmp_path}/cache", f"--out={tmp_path}/out", "-q", *more]


@pytest.mark.parametrize("num_proc", [1, 2])
@pytest.mark.parametrize(("end", "called"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_stopped_command_says_what_is_kept_and_goes_on(end, called, num_proc, tmp_path):
    arguments, log = job(tmp_path, f"--num-proc={num_proc}"), tmp_path / "log"
    command = [sys.executable, "-W", "ignore", "-c", SLOW, str(log), "0.3", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + WITHIN
    while len(rows_searched(log)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    (os.killpg if end is signal.SIGINT else os.kill)(process.pid, end)
    _, said = process.communicate(timeout=WITHIN)
    assert process.returncode == 128 + end
    assert "Traceback" not in said and "Exception" not in said
    searching = r"stopped at Searching \(bm25\): [0-9,]+ of 1,440 rows\."
    assert re.search(
        rf"^{called}: {searching} What is finished is kept in the cache: the same command goes on", said, re.M
    )
    before = sum(rows_searched(log))
    log.unlink()
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", SLOW, str(log), "0", *arguments]).returncode == 0
    assert before + sum(rows_searched(log)) - 1440 <= 1440 / 20
    assert main([*arguments, f"--cache-dir={tmp_path}/undisturbed", f"--out={tmp_path}/other"]) == 0
    assert load_from_disk(str(tmp_path / "out"))[:] == load_from_disk(str(tmp_path / "other"))[:]


def test_a_signal_in_code_that_swallows_errors_is_delivered_again():
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    try:
        with stoppable() as stop, pytest.raises(Stopped, match="SIGTERM"):
            swallows = Swallows()
            del swallows
            time.sleep(5)
        assert stop.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else before[0])
    assert sys.unraisablehook is before[1]


def test_handlers_are_as_before_after_a_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--version"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
