"""The process of an `AsyncRefresher` runs `python -m hf_hardneg.training.background PARENT`, with its work as input.

Nothing heavy is imported before it watches its parent, so that it ends with it also while it starts.
"""

from __future__ import annotations

import sys

from hf_hardneg.runtime.process import end_with


def main() -> None:
    """Mine one generation; another process that still mines for the same directory is waited for."""
    end_with(int(sys.argv[1]))
    import dill

    from hf_hardneg.store.locks import Lock

    refresher, job, encoder = dill.load(sys.stdin.buffer)
    with Lock(refresher.generations.directory / ".background.lock"):
        refresher.mine(job.number, step=job.checkpoint, encoder=encoder)


if __name__ == "__main__":
    main()
