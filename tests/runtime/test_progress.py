"""The progress of a step: a line in 80 columns where a terminal is, and a line a minute in a log."""

import os
import pty
import subprocess
import sys

import pytest
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from hf_hardneg.runtime import progress

SHOWN = """
from hf_hardneg.runtime.progress import bar
with bar(total=831_790, desc="Searching (bm25+dense)", unit=" rows") as step:
    step.update(400_000)
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests turn."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # which other tests import
    disabled = are_progress_bars_disabled()
    enable_progress_bars()
    yield seconds
    if disabled:
        disable_progress_bars()


def test_a_log_gets_a_line_a_minute(clock, capsys):
    with progress.bar(total=60_000, initial=10_000, desc="Searching (bm25)") as step:
        for _ in range(100):
            clock[0] += 3
            step.update(300)
        assert (step.n, str(step)) == (40_000, "Searching (bm25): 40,000 of 60,000 rows")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Searching (bm25): 16,000 of 60,000 rows, 100.0 rows/s, 7 min 20 s left"
    assert len(lines) == 6 and lines[-1] == "Searching (bm25): 40,000 of 60,000 rows, 100.0 rows/s, 3 min 20 s left"
    with progress.bar(total=5, desc="A short step") as step:
        step.update(5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("silence", ["datasets", "hidden", "rank"])
def test_it_can_be_silenced(silence, clock, capsys, monkeypatch):
    def step():
        with progress.bar(total=10, desc="Searching") as shown:
            clock[0] += 100
            shown.update(5)

    if silence == "datasets":
        disable_progress_bars()
        try:
            step()
        finally:
            enable_progress_bars()
    elif silence == "hidden":
        with progress.alone(hidden=True):
            step()
    else:
        monkeypatch.setenv("RANK", "1")
        step()
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("RANK", raising=False)
    with progress.alone():
        step()
    assert "Searching: 5 of 10 rows" in capsys.readouterr().err


def test_what_a_signal_stopped_is_told(clock, monkeypatch):
    monkeypatch.setattr(progress, "_steps", [])
    assert progress.standing() == ""
    with pytest.raises(KeyboardInterrupt), progress.bar(total=10, desc="Searching") as step:
        step.update(3)
        raise KeyboardInterrupt
    assert progress.standing() == "Searching: 3 of 10 rows"


def test_a_line_fits_a_terminal_of_80_columns():
    main, terminal = pty.openpty()
    size = "import fcntl, struct, termios; fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", f"{size}\n{SHOWN}"], stderr=terminal, check=True)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(main, 10_000):
            shown += block
    except OSError:  # how Linux says that nobody has the terminal open
        pass
    lines = shown.decode().replace("\n", "\r").split("\r")
    last = [line for line in lines if "Searching" in line][-1]
    assert len(last) <= 80
    for part in ("Searching (bm25+dense)", "48%", "400k/832k rows", "rows/s", "left"):
        assert part in last


def test_what_takes_seconds_to_import_is_said_before_and_only_where_it_is_imported_then():
    code = (
        "import sys; from hf_hardneg.runtime.progress import before_import; before_import('datasets', 'Loading it'); "
        "before_import('sys', 'Loading sys'); print('datasets' in sys.modules)"
    )
    for off, said in (("0", "Loading it\n"), ("1", "")):
        environment = {**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": off}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("False\n", said)
