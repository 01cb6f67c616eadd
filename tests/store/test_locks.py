"""Locks: one holder at a time, none outlives it, and who waits says for whom."""

import errno
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from hf_hardneg.errors import ConfigError, HardNegWarning, StoreError
from hf_hardneg.store import locks
from hf_hardneg.store.locks import Holder, Lock, StillHeld, holder_of

FORK = multiprocessing.get_context("fork")
HOLD = """
import signal, sys, time
from pathlib import Path
from hf_hardneg.store.locks import Lock
signal.signal(signal.SIGINT, signal.default_int_handler)
lock = Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_elsewhere(path, program=HOLD):
    """A process that holds a lock until it is killed; what is started in the background ignores SIGINT, unless told."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".thing.lock"


def test_a_file_that_says_who_holds_it_is_there_while_it_is_held(path):
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        assert holder_of(path) == Holder.this() and not Holder.this().has_ended()
        assert not Lock(path).try_acquire()
    assert not path.exists() and holder_of(path) is None
    assert Lock(path).try_acquire()


def test_an_error_in_time_names_the_file_and_the_process(path, monkeypatch):
    with held_elsewhere(path) as process:
        with pytest.raises(
            StillHeld, match=rf"{path} is held by process {process.pid} on .*; 0 s are allowed"
        ) as caught:
            Lock(path).acquire(timeout=0)
        assert caught.value.holder.pid == process.pid
        monkeypatch.setenv(locks.TIMEOUT, "0.3")
        with pytest.raises(StoreError, match=r"0.3 s are allowed. Let that process finish, end it, or set HF_HARDNEG_"):
            Lock(path).acquire()


@pytest.mark.parametrize("said", ["soon", "-1", "nan"])
def test_a_time_that_is_none_is_refused(path, monkeypatch, said):
    monkeypatch.setenv(locks.TIMEOUT, said)
    with pytest.raises(ConfigError, match=f"HF_HARDNEG_LOCK_TIMEOUT='{said}' is no time to wait; allowed are seconds"):
        Lock(path).acquire()


def test_a_wait_is_told_of_again_and_again_and_ends_with_the_holder(path, monkeypatch):
    assert locks.FIRST < 5 and locks.AGAIN <= 60
    monkeypatch.setattr(locks, "FIRST", 0.2)
    monkeypatch.setattr(locks, "AGAIN", 0.3)
    with held_elsewhere(path) as process:
        threading.Timer(1.0, process.kill).start()
        with pytest.warns(HardNegWarning, match=f"Waiting for {path}, which process {process.pid} on ") as told:
            Lock(path).acquire()
    assert len(told) > 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_dead_process_held_is_free_at_once(path, end):
    with held_elsewhere(path) as process:
        process.send_signal(end)
        process.wait()
        if end is signal.SIGKILL:
            assert holder_of(path).has_ended()
        lock = Lock(path)
        lock.acquire(timeout=5)
        assert holder_of(path) == Holder.this()
        lock.release()


WITH_A_CHILD = HOLD.replace("print(", "import os\nif os.fork() == 0:\n    time.sleep(600)\nprint(")


def test_a_child_holds_nothing_when_its_parent_is_killed(path):
    """The child was forked while its parent held the lock, and lives on."""
    with held_elsewhere(path, WITH_A_CHILD) as process:
        (child,) = children_of(process.pid)
        process.kill()
        process.wait()
        try:
            Lock(path).acquire(timeout=5)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as stream:
        return list(map(int, stream.read().split()))


def _leaves(lock, queue):
    with lock:
        queue.put(lock.is_held)


def test_a_child_that_leaves_the_block_of_its_parent_frees_nothing(path):
    queue = FORK.Queue()
    with Lock(path) as lock:
        child = FORK.Process(target=lock.release)
        child.start()
        child.join()
        assert lock.is_held and path.exists() and not Lock(path).try_acquire()
        child = FORK.Process(target=_leaves, args=(lock, queue))
        child.start()
        time.sleep(0.3)
        assert queue.empty()
    assert queue.get(timeout=30) is True
    child.join()


def test_a_lock_in_the_name_of_a_dead_process_is_taken_away_from_whoever_has_it(path, monkeypatch):
    """As of a worker that another program's lock was copied into."""
    monkeypatch.setattr(locks, "ENDED", 0.3)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    other = Lock(path)
    other.acquire()
    record = {**json.loads(path.read_text()), "pid": dead.pid}
    path.write_text(json.dumps(record))
    lock = Lock(path)
    lock.acquire(timeout=10)
    other.release()
    assert path.exists() and holder_of(path) == Holder.this() and not Lock(path).try_acquire()
    lock.release()


@pytest.mark.parametrize("change", [{"machine": "another"}, {"pid": -1}, {"pid": "1"}, None])
def test_a_process_of_which_nothing_is_known_is_waited_for(path, change, monkeypatch):
    monkeypatch.setattr(locks, "ENDED", 0.3)
    with Lock(path):
        said = json.loads(path.read_text())
        path.write_text("[" * 3000 if change is None else json.dumps({**said, **change}))
        with pytest.raises(StillHeld):
            Lock(path).acquire(timeout=0.8)


def test_a_number_that_another_process_has_now_is_not_the_holder():
    assert Holder(**{**vars(Holder.this()), "started": "1"}).has_ended()


def test_threads_of_a_process_wait_for_each_other(path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with Lock(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def _count(path, number, rounds):
    for _ in range(rounds):
        with Lock(path):
            number.write_text(str(int(number.read_text()) + 1))


def test_processes_that_come_and_go_lose_no_count(path, tmp_path):
    """The file goes and comes with each holder, so that nobody may lock one that is gone."""
    number = tmp_path / "number"
    number.write_text("0")
    children = [FORK.Process(target=_count, args=(path, number, 50)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert number.read_text() == "200"


def test_a_process_has_one_shared_lock_of_a_path(path):
    first, second = locks.shared(path), locks.shared(path)
    first.acquire()
    second.acquire()
    assert first is second and not Lock(path).try_acquire()
    del first, second
    assert Lock(path).try_acquire()


def test_where_there_is_no_flock_the_file_is_the_lock(path, monkeypatch):
    """As the clients of some parallel file systems answer."""

    def flock(*_):
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr(locks, "ENDED", 0.3)
    with Lock(path):
        assert not Lock(path).try_acquire()
    record = {**vars(Holder.this()), "started": "1"}
    path.write_text(json.dumps(record))
    Lock(path).acquire(timeout=10)


def test_what_cannot_be_locked_is_named_with_the_way_out(path):
    os.mkfifo(path)
    with pytest.raises(StoreError, match=rf"{path} cannot be locked: .*no regular file.*cache_dir="):
        Lock(path).try_acquire()
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(StoreError, match="cannot be locked"):
        Lock(path).try_acquire()


def test_what_another_user_left_behind_is_no_hindrance(path, monkeypatch):
    path.write_text("")
    path.chmod(stat.S_IRUSR)
    real = os.open

    def not_mine(where, flags, *mode):
        if where == path and flags & os.O_RDWR and path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "there")
            raise PermissionError(errno.EACCES, "not yours")
        return real(where, flags, *mode)

    monkeypatch.setattr("os.open", not_mine)
    Lock(path).acquire(timeout=5)
