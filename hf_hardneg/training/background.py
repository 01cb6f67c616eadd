"""What the process of an `AsyncRefresher` runs: `python -m hf_hardneg.training.background PARENT`, its work as input.

Nothing heavy is imported before it watches its parent, so that it ends with it also while it starts.
"""

from __future__ import annotations

import os
import sys
import threading
import time


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, in whatever way."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Mine one generation; another process that still mines for the same directory is waited for."""
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    import dill
    from filelock import FileLock

    refresher, job, encoder = dill.load(sys.stdin.buffer)
    with FileLock(refresher.generations.directory / ".background.lock"):
        refresher.mine(job.number, step=job.checkpoint, encoder=encoder)


if __name__ == "__main__":
    main()
