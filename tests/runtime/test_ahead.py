"""Items that a thread prepares while the ones before are used."""

import threading

import pytest

from hf_hardneg.runtime import process
from hf_hardneg.runtime.process import ahead


@pytest.fixture(params=[1, 2])
def several(request, monkeypatch):
    """Whether this process may use several threads."""
    monkeypatch.setattr(process, "threads", lambda: request.param)
    return request.param > 1


def test_items_come_in_order_and_where_threads_are_allowed_from_another(several):
    prepared = ((number, threading.current_thread() is threading.main_thread()) for number in range(5))
    assert list(ahead(prepared)) == [(number, not several) for number in range(5)]
    assert list(ahead(iter([]))) == []


def test_what_preparing_raises_comes_after_the_items_before(several):
    def items():
        yield 1
        raise ValueError("broken")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        next(taken)


def test_no_thread_is_left_where_not_all_is_taken(several):
    before = threading.active_count()
    taken = ahead(iter(range(100)))
    assert next(taken) == 0
    taken.close()
    assert threading.active_count() == before
