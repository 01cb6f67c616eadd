from functools import partial
from itertools import islice

import pytest
import torch

from hf_hardneg.errors import ConfigError
from hf_hardneg.training.schedule import Schedule, beside, chunk


def used(jobs, step):
    """The generation a trainer uses at a step, and the age of its weights."""
    ready = [job for job in jobs if job.ready <= step]
    return (ready[-1].number, step - ready[-1].checkpoint) if ready else (0, None)


@pytest.mark.parametrize(("first", "every"), [(0, 1), (0, 3), (4, 3), (1000, 500), (2, 7)])
def test_due_and_numbers_agree_with_counting(first, every):
    schedule, number = Schedule(first=first, every=every), 0
    for step in range(3000):
        due = step >= first and (step - first) % every == 0
        number += due
        assert schedule.due(step) == due
        assert schedule.number(step) == number
        if due:
            assert schedule.step_of(number) == step


def test_the_first_refresh_is_one_interval_in():
    schedule = Schedule(every=10)
    assert [step for step in range(31) if schedule.due(step)] == [10, 20, 30]


def test_latency_below_the_interval():
    jobs = list(islice(beside(Schedule(first=1000, every=500), 120), 4))
    assert [used(jobs, step) for step in (0, 999, 1119)] == [(0, None)] * 3
    assert [used(jobs, step) for step in (1120, 1619)] == [(1, 120), (1, 619)]
    assert used(jobs, 1620)[0] == 2


def test_latency_above_the_interval_skips_to_the_newest_checkpoint():
    jobs = list(islice(beside(Schedule(first=1000, every=500), 700), 3))
    assert jobs == [(1, 1000, 1000, 1700), (2, 1500, 1700, 2400), (3, 2000, 2400, 3100)]
    slow = list(islice(beside(Schedule(first=1000, every=500), 1700), 3))
    assert slow == [(1, 1000, 1000, 2700), (2, 2500, 2700, 4400), (3, 4000, 4400, 6100)]


def test_chunks_of_eleven_queries():
    found = [chunk(11, 5, number) for number in range(1, 7)]
    assert found == [range(0, 2), range(2, 4), range(4, 6), range(6, 8), range(8, 11), range(0, 2)]


def test_more_chunks_than_queries():
    assert sorted(row for number in range(1, 6) for row in chunk(3, 5, number)) == [0, 1, 2]


def test_rewarming_as_a_scheduler():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = Schedule(first=4, every=5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(schedule.rewarm, over=4))
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 0.25, 0.5]


@pytest.mark.parametrize(("given", "text"), [({"every": 0}, "every=0"), ({"first": -1}, "first=-1")])
def test_what_cannot_be_a_schedule(given, text):
    with pytest.raises(ConfigError, match=text):
        Schedule(**given)
