"""`AsyncRefresher`: a second process mines the negatives while training goes on, on the same or a spare device.

The step at which a generation takes over is fixed beforehand, `lag` steps after that of its weights, and training waits
there for a process that is slower. So a run sees the same negatives at the same step, however fast the machine is.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from itertools import takewhile
from pathlib import Path
from typing import Any

import dill

from hf_hardneg.errors import ConfigError, StoreError, warn
from hf_hardneg.models.forward import check_device, quiet_transformers
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Name, checked
from hf_hardneg.store.disk import writing
from hf_hardneg.store.kinds import ENCODER
from hf_hardneg.training.refresh import Refresher
from hf_hardneg.training.schedule import Job, Schedule, beside
from hf_hardneg.training.snapshots import device_of, is_live, same_draws, save_weights, saved_encoder

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "hf_hardneg.training.background")
LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables of a launch, which the second process is no part of."""


class AsyncRefresher:
    """A `Refresher` whose generations are mined beside the training; give it to any adapter in its place.

    When a refresh is due, weights are saved and rank 0 starts a process that mines with them. `lag` optimizer steps
    later all ranks take the generation, and wait for it where it is not ready. The bytes are the same as a `Refresher`
    writes with the same weights, on the same kind of device. While one is being mined no other begins: with a lag above
    `refresh_every`, the next is of the newest weights that were due.

    Where the process dies, all ranks mine the generation themselves at its step, with the saved weights, and a warning
    is logged. The process ends seconds after the one that started it. A run that goes on from a checkpoint
    between the two steps starts it again.

    Args:
        refresher (`Refresher`): what to mine; its `encoder` must be a `LiveModel` or a SentenceTransformer.
        lag (`int`): optimizer steps from the weights to their negatives, as many as mining takes or more; other ranks
            wait no longer than the timeout of their process group.
        device (`str`, *optional*): where the process encodes, such as `"cuda:7"`; by default where rank 0 trains.

    Raises:
        ConfigError: a lag below 1, a model that cannot be saved, or options that cannot be sent to a process.

    Example:
        >>> plugin = HardNegativePlugin(accelerator, AsyncRefresher(refresher, lag=200), refresh_every=1000)
    """

    @checked
    def __init__(self, refresher: Refresher, *, lag: AtLeastOne, device: Name | None = None) -> None:
        if not is_live(refresher.encoder):
            raise ConfigError(
                f"AsyncRefresher got a Refresher with encoder={type(refresher.encoder).__name__}; another process can "
                "load the weights of a SentenceTransformer or a LiveModel only. Give one, or use the Refresher itself."
            )
        check_device(device or "auto")
        self.refresher, self.lag, self.device = refresher, lag, device
        self.negatives, self.generations = refresher.negatives, refresher.generations
        self._process: subprocess.Popen[bytes] | None = None
        self._mined_with: Path | None = None
        self._pickled()

    @checked
    def due(self, step: AtLeastZero, schedule: Schedule) -> bool:
        """Say whether `at` has something to do after that many optimizer steps."""
        return any(step in (job.checkpoint, job.start, job.ready) for job in self._jobs(step, schedule))

    @checked
    def at(self, step: AtLeastZero, schedule: Schedule) -> bool:
        """Save, start and take what is due after that many optimizer steps; see `Refresher.at`."""
        self.refresher.claim()
        jobs = self._jobs(step, schedule)
        done, rest = [job for job in jobs if job.ready <= step], [job for job in jobs if job.ready > step]
        if done:
            self._finish(done[-1])
        switched = self.refresher.switch(done[-1].number if done else 0)
        for job in rest:
            if job.checkpoint == step:
                self._save(job)
            if job.start <= step:
                self._start(job)
        return switched

    def _jobs(self, step: int, schedule: Schedule) -> list[Job]:
        return list(takewhile(lambda job: job.checkpoint <= step, beside(schedule, self.lag)))

    def _weights(self, job: Job) -> Path:
        """Return the folder for the weights of this job alone, where they wait to be mined with."""
        return self.generations.directory / f"weights-{job.number:06d}"

    def _saved(self, job: Job) -> Path | None:
        """Return the folder of a job's weights, until its generation serves."""
        return next(self._weights(job).glob(f"{ENCODER}-*"), None)

    def _save(self, job: Job) -> None:
        with same_draws(), quiet_transformers():
            folder = save_weights(self.refresher.encoder, self._weights(job))
        self.refresher.ranks.agree(folder.name, "weights")
        if self.refresher.ranks.rank == 0:
            for old in self._weights(job).glob(f"{ENCODER}-*"):
                if old != folder:
                    shutil.rmtree(old)

    def _start(self, job: Job) -> None:
        """Have rank 0 start the process of a job, unless it has; where no weights wait, the generation is there."""
        folder = self._saved(job)
        if self.refresher.ranks.rank > 0 or folder is None or folder == self._mined_with:
            return
        if self._process is not None:
            _end(self._process)
        encoder = saved_encoder(folder, self.device or device_of(self.refresher.encoder))
        directory = self.generations.directory
        with writing(directory, other="directory="), tempfile.TemporaryFile(dir=directory) as work:
            work.write(self._pickled(job, encoder))
            work.seek(0)
            self._process = subprocess.Popen([*PROGRAM, str(os.getpid())], stdin=work, env=_environment())
        self._mined_with = folder
        weakref.finalize(self, _end, self._process)

    def _finish(self, job: Job) -> None:
        """Wait until the generation of a job is published, or mine it here."""
        folder, ranks, started = self._saved(job), self.refresher.ranks, time.monotonic()
        mined_beside = folder is not None and folder == self._mined_with
        code = self._process.wait() if self._process is not None and mined_beside else None
        if ranks.decided(folder is not None and code != 0):
            if code is not None:
                warn(
                    f"The process that mined generation {job.number} beside the training ended with exit code {code}; "
                    "all ranks mine it now, with the same weights. Look for what ended it, such as a lack of memory."
                )
            self._mine_here(job)
        if ranks.rank == 0 and folder is not None:
            logger.info(
                "generation %d of the weights after step %d serves from step %d on; training waited %.1f s for it",
                job.number,
                job.checkpoint,
                job.ready,
                time.monotonic() - started,
            )
            shutil.rmtree(self._weights(job))

    def _mine_here(self, job: Job) -> None:
        folder = self._saved(job)
        if folder is None:
            raise StoreError(
                f"{self._weights(job)} holds no weights on this rank; all processes must see the directory= of the "
                "Refresher. On several nodes give one on a shared file system."
            )
        encoder = saved_encoder(folder, device_of(self.refresher.encoder))
        self.refresher.mine(job.number, step=job.checkpoint, encoder=encoder)

    def _pickled(self, *work: Any) -> bytes:
        """Pickle what the process does: the refresher without its model, and the work."""
        mines = copy.copy(self.refresher)
        mines.encoder = None
        try:
            return dill.dumps((mines, *work))
        except Exception as error:
            raise ConfigError(
                f"The Refresher cannot be sent to another process: {error}. Allowed are options that pickle; use the "
                "Refresher itself, or name models by their folder or Hub id."
            ) from error


def _environment() -> dict[str, str]:
    """Return the variables of this process, its import path included, without the variables of the launch."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCH}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
