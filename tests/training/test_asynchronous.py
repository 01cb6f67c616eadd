"""A second process mines beside the training: what it makes, when it is taken, and what its death does."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hf_hardneg.errors import ConfigError, HardNegWarning, RanksError, StoreError
from hf_hardneg.models.live import weights_digest
from hf_hardneg.training import AsyncRefresher, Schedule, asynchronous
from tests.training.loop import Run
from tests.training.test_ranks import contents, launch, results
from tests.training.test_trainers import STEPS, trainer
from tests.training.world import copied, live_model, refresher, shift
from tests.worlds import encode

pytestmark = pytest.mark.slow

TEN, LAG = Schedule(every=10), 3
ENDS_WITHIN = 5
"""Seconds from the end of a process until the one it started has ended too."""


@pytest.fixture
def made(tmp_path):
    return AsyncRefresher(refresher(tmp_path / "beside", live_model()), lag=LAG)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The generation of a refresh that waits, with the weights that `begun` leaves behind."""
    made = refresher(tmp_path_factory.mktemp("waits"), live_model())
    shift(made.encoder, 1)
    made.at(10, TEN)
    return contents(made.generations.directory)


def begun(made):
    """A refresh has begun, and training has gone on; its process."""
    shift(made.refresher.encoder, 1)
    assert made.at(10, TEN) is False
    shift(made.refresher.encoder, 2)
    assert made.generations.current == 0
    return made._process


def visible(directory):
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def test_a_generation_has_the_bytes_of_a_refresh_that_waits(made, expected, caplog):
    process = begun(made)
    assert not made.due(11, TEN) and not made.due(12, TEN)
    assert made.at(11, TEN) is False and made._process is process
    with caplog.at_level(logging.INFO, "hf_hardneg"):
        assert made.at(10 + LAG, TEN)
    assert process.returncode == 0
    assert contents(made.generations.directory) == expected
    assert visible(made.generations.directory) == ["CURRENT", "cache", "gen-000001", "index-000001"]
    assert "generation 1 of the weights after step 10 serves from step 13 on" in caplog.text


def test_a_killed_process_costs_time_and_nothing_else(made, expected):
    process = begun(made)
    process.send_signal(signal.SIGKILL)
    assert made.at(12, TEN) is False and made.generations.current == 0
    with pytest.warns(HardNegWarning, match="ended with exit code -9; all ranks mine it now"):
        assert made.at(10 + LAG, TEN)
    assert contents(made.generations.directory) == expected


def test_what_nobody_can_mine_is_raised_by_the_training(made):
    """The error of mining itself; the old generation still serves."""
    begun(made).kill()
    (weights,) = made.generations.directory.glob("weights-000001/encoder-*/model/config.json")
    weights.write_text("{}")
    with pytest.warns(HardNegWarning, match="code -9"), pytest.raises(StoreError, match="config.json is truncated"):
        made.at(10 + LAG, TEN)
    assert made.generations.current == 0


def test_a_run_that_goes_on_between_the_two_steps(made, expected, tmp_path):
    """The process of the first run is gone; another starts with the saved weights, not with those of the moment."""
    begun(made).kill()
    directory = copied(made.generations.directory, tmp_path / "copy")
    again = AsyncRefresher(refresher(directory, live_model(seed=5)), lag=LAG)
    assert again.at(11, TEN) is False and again._process.poll() is None
    assert again.at(10 + LAG, TEN) and again._process.returncode == 0
    assert contents(directory) == expected


def test_going_back_behind_the_weights_takes_new_ones(made):
    process = begun(made)
    assert made.at(9, TEN) is False
    shift(made.refresher.encoder, 3)
    made.at(10, TEN)
    assert process.poll() == -signal.SIGKILL and made._process is not process
    assert len(list(made.generations.directory.glob("weights-000001/encoder-*"))) == 1
    made._process.kill()


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_the_process_ends_with_the_one_that_started_it(tmp_path):
    def work(rank):
        made = AsyncRefresher(refresher(tmp_path / "run", live_model()), lag=LAG)
        made.at(10, TEN)
        if rank == 0:
            (tmp_path / "pid").write_text(str(made._process.pid))
            os.kill(os.getpid(), signal.SIGKILL)
        made.at(10 + LAG, TEN)

    codes, _ = launch(tmp_path / "log", work)
    died = time.monotonic()
    assert codes == [-signal.SIGKILL, 1]
    assert f"{RanksError.__name__}: Rank 1 of 2 cannot reach another" in (tmp_path / "log" / "error-1").read_text()
    pid = int((tmp_path / "pid").read_text())
    while alive(pid):
        assert time.monotonic() - died < ENDS_WITHIN
        time.sleep(0.1)


def trained(rank, folder, start=None):
    """A run that is saved while its first generation is being mined, or goes on from there."""
    run = Run(folder / "negatives", lag=2)
    if start is not None:
        run.resume(folder, start)
    run.train(7, save=(4,) if start is None else (), folder=folder)
    (folder / f"{start}-{rank}.json").write_text(json.dumps({"losses": run.losses, "seen": run.seen}))


def test_two_ranks_switch_at_the_same_step_and_resume_in_between(tmp_path):
    """Weights of step 3; their negatives from step 5 on."""
    assert launch(tmp_path / "log", trained, tmp_path)[0] == [0, 0]
    assert launch(tmp_path / "log", trained, tmp_path, 4)[0] == [0, 0]
    for whole, again in zip(results(tmp_path, None), results(tmp_path, 4), strict=True):
        for step, batches in whole["seen"].items():
            assert {row[1] for batch in batches for row in batch} == {int(int(step) >= 5)}
        later = {step for step in whole["losses"] if int(step) >= 4}
        assert again == {key: {step: whole[key][step] for step in later} for key in whole}


MINED_HERE = pytest.mark.filterwarnings("ignore:.* ended with exit code 1:hf_hardneg.errors.HardNegWarning")


@pytest.fixture
def no_process(monkeypatch):
    """Every process fails at once, so that all is mined at its step by the training."""
    monkeypatch.setattr(asynchronous, "PROGRAM", ("false",))


@MINED_HERE
def test_trainers_take_it_as_they_take_a_refresher(tmp_path, no_process):
    run = trainer(tmp_path, live_model(), save_strategy="no", lag=2)
    run.train()
    assert [{row[1] for row in rows} for rows in run.seen] == [{(s >= 5) + (s >= 9)} for s in range(STEPS)]


@MINED_HERE
def test_a_lag_above_the_interval_takes_the_newest_weights(made, no_process):
    made.lag, schedule, taken, weights = 6, Schedule(first=3, every=4), [], []
    for step in range(17):
        shift(made.refresher.encoder, step)
        weights.append(weights_digest(made.refresher.encoder.model))
        if made.due(step, schedule):
            made.at(step, schedule)
        taken.append(made.generations.current)
        waiting = {json.loads(path.read_text())["parameters"]["weights"] for path in manifests(made)}
        assert waiting == {weights[at] for at, until in ((3, 9), (7, 15), (15, 21)) if at <= step < until}
    assert taken == [0] * 9 + [1] * 6 + [2] * 2


def manifests(made):
    return made.generations.directory.glob("weights-*/encoder-*/manifest.json")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lag": 0}, r"lag=0\) .* a whole number of at least 1"),
        ({"lag": 1, "encoder": encode}, "encoder=function; another process can load the weights of a SentenceTr"),
    ],
)
def test_what_cannot_be_mined_beside(tmp_path, options, text):
    encoder = options.pop("encoder", live_model())
    with pytest.raises(ConfigError, match=text):
        AsyncRefresher(refresher(tmp_path, encoder), **options)


def test_options_that_cannot_be_sent_are_refused_at_once(tmp_path):
    made = refresher(tmp_path, live_model())
    made.options["odd"] = sys._getframe()
    with pytest.raises(ConfigError, match="cannot be sent to another process: .*Allowed are options that pickle"):
        AsyncRefresher(made, lag=1)
