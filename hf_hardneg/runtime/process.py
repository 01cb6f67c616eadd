"""Workers limit their threads before they compute, and end with their parent.

A child forked after its parent searched with several threads hangs for ever in its first FAISS or torch call, and is
killed by numba's OpenMP layer, unless it sets those libraries to one thread first.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from hf_hardneg.runtime.units import processors

T = TypeVar("T")

_IMPORTED_IN = os.getpid()
_limited_in: set[int] = set()
_watching_in: set[int] = set()


def in_child() -> bool:
    """Say whether this process is a worker: forked from, or spawned by, the process that holds the dataset."""
    spawned = any(module.parent_process() is not None for module in _process_modules())
    return os.getpid() != _IMPORTED_IN or spawned


def single_thread_in_child() -> None:
    """Limit FAISS and torch to one thread when this process is a worker; do nothing in the main process.

    Only libraries that are already loaded are touched by their own setter; those loaded later read the environment.
    """
    pid = os.getpid()
    if pid in _limited_in or not in_child():
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    for name, setter in (("faiss", "omp_set_num_threads"), ("torch", "set_num_threads")):
        module = sys.modules.get(name)
        if module is not None:
            getattr(module, setter)(1)
    _limited_in.add(pid)


def end_with(parent: int) -> None:
    """Have this process end within a second of the one that started it, in whatever way that one ends."""

    def watch() -> None:
        above = os.getppid()
        while os.getppid() == above and _is_there(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_pool() -> None:
    """Have a worker of a pool end with the process that holds the pool, so that none computes for nobody."""
    pid = os.getpid()
    if pid in _watching_in or not in_child():
        return
    _watching_in.add(pid)
    for module in _process_modules():
        if module.parent_process() is not None and module.current_process().daemon:
            end_with(module.parent_process().pid)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _process_modules() -> list[Any]:
    """List what is loaded of the two modules of processes: the standard library's, and the one `datasets` uses."""
    return [sys.modules[name] for name in ("multiprocess.process", "multiprocessing.process") if name in sys.modules]


def threads() -> int:
    """Return how many threads a search may use here: one in a worker, else all of the machine's.

    `OMP_NUM_THREADS` may say fewer: so Ray, Spark and Dask tell a worker its share of a machine.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    return 1 if in_child() else min(processors(), max(int(said), 1)) if said.isdecimal() else processors()


def in_threads(work: Callable[[slice], T], size: int, *, at_least: int) -> list[T]:
    """Run `work` over consecutive parts of `size` things, one part in each thread, and list what it returns.

    Args:
        work (`Callable[[slice], T]`): gets a part; threads pay where it spends its time outside the interpreter.
        size (`int`): how many things there are.
        at_least (`int`): how many things are worth a thread.
    """
    count = max(1, min(threads(), size // at_least))
    bounds = [size * number // count for number in range(count + 1)]
    parts = [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
    if count == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, parts))


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items of which a thread prepares the next, where this process may use several; no item is `None`.

    That pays where preparing spends its time outside the interpreter. One item more is held in memory.
    """
    if threads() == 1:
        yield from items
        return
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `count` threads, in each of which torch computes alone.

    The threads stay, idle: one that ends still holds a lock of MKL for a moment after Python has joined it, and a
    process forked in that moment waits for that lock for ever.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _torch_pool(os.getpid(), count)
    finally:
        torch.set_num_threads(before)


@functools.cache
def _torch_pool(process: int, count: int) -> ThreadPoolExecutor:
    import torch

    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
