"""The plugin in a loop: who sees which generation, and what a resumed run does."""

import pytest
from accelerate import Accelerator
from torch.utils.data import DataLoader

from hf_hardneg.errors import ConfigError
from hf_hardneg.training import HardNegativePlugin, Schedule
from tests.training.loop import EVERY, FIRST, STEPS, Run
from tests.training.world import copied, live_model, refresher

pytestmark = pytest.mark.slow

SCHEDULE = Schedule(every=EVERY, first=FIRST)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that saves its state after every step."""
    folder = tmp_path_factory.mktemp("unbroken")
    run = Run(folder / "negatives").train(save=range(1, STEPS), folder=folder)
    return folder, run


def generations(run):
    return {step: {row[1] for batch in batches for row in batch} for step, batches in run.seen.items()}


def test_each_step_sees_the_generation_that_is_due_before_it(unbroken):
    _, run = unbroken
    assert generations(run) == {step: {SCHEDULE.number(step)} for step in range(STEPS)}


def test_every_epoch_visits_every_row_once_in_another_order(unbroken):
    _, run = unbroken
    size = len(run.refresher.pairs)
    rows = [row[0] for step in range(STEPS) for batch in run.seen[step] for row in batch]
    assert sorted(rows[:size]) == sorted(run.refresher.pairs["query_id"])
    assert rows[:8] != rows[size : size + 8] != run.refresher.pairs["query_id"][:8]


@pytest.mark.parametrize("step", [2, 3, 4, 7, 10, 11, 12])
def test_a_resumed_run_follows_the_unbroken_one_exactly(tmp_path, unbroken, step):
    """From checkpoints before, at and after a refresh, and from the end of an epoch; later generations are there."""
    folder, whole = unbroken
    copied(folder, tmp_path / "copy")
    again = Run(tmp_path / "copy/negatives").resume(tmp_path / "copy", step).train()
    later = {number: losses for number, losses in whole.losses.items() if number >= step}
    assert again.losses == later
    assert again.seen == {number: rows for number, rows in whole.seen.items() if number >= step}


def test_workers_that_read_ahead_change_nothing(tmp_path, unbroken):
    _, whole = unbroken
    run = Run(tmp_path / "negatives", workers=2).train()
    assert run.losses == whole.losses and run.seen == whole.seen


def test_micro_batches_do_not_count(tmp_path):
    run = Run(tmp_path / "negatives", accumulate=2).train(6)
    assert generations(run) == {step: {SCHEDULE.number(step)} for step in range(6)}
    assert {len(batches) for step, batches in run.seen.items()} <= {1, 2}
    assert run.plugin.steps == 6 and len(run.seen[0]) == 2


def test_a_refresh_before_training(tmp_path):
    run = Run(tmp_path / "negatives")
    run.plugin.schedule = Schedule(every=5, first=0)
    assert generations(run.train(6)) == {step: {1 + (step == 5)} for step in range(6)}


def test_an_order_that_cannot_be_repeated_is_refused(tmp_path):
    accelerator = Accelerator(cpu=True)
    made = refresher(tmp_path, live_model())
    plugin = HardNegativePlugin(accelerator, made, refresh_every=2)
    loader = accelerator.prepare(DataLoader(made.pairs, shuffle=True))
    with pytest.raises(ConfigError, match="RandomSampler, which draws another order .*use_seedable_sampler=True"):
        next(plugin.batches(loader))


def test_a_loader_that_is_not_prepared_is_refused(tmp_path):
    made = refresher(tmp_path, live_model())
    plugin = HardNegativePlugin(Accelerator(cpu=True), made, refresh_every=2)
    with pytest.raises(
        ConfigError, match="a DataLoader that is not prepared; .* Give the one that accelerator.prepare"
    ):
        next(plugin.batches(DataLoader(made.pairs)))
