"""Generations of negatives on disk: numbered, immutable, published whole.

    DIRECTORY/
      CURRENT           which generation readers take; replaced atomically
      gen-000001/       the negatives of every row, as arrays; manifest.json says of which weights
      index-000001/     the dense index they were found in; of the newest generation only
      cache/            what refreshes share, such as the keys of the corpus

A writer publishes a generation and then switches `CURRENT` to it. Readers look at `CURRENT` before each batch, so they
see the new one in whatever process they run, and none ever sees half of one.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_hardneg.errors import StoreError
from hf_hardneg.index.dense.dense_index import DenseIndex, Similarity, close_indexes
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, check_fields, checked
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import writing, written
from hf_hardneg.store.regular_files import json_of
from hf_hardneg.training.negative_arrays import SCHEMA, Generation

REPORT = "report.json"
POINTER = 1000
"""Bytes that `CURRENT` may have."""
MOST = 1_000_000


@dataclass(frozen=True)
class Generations:
    """A directory of generations.

    Args:
        directory (`str` or `Path`): laid out as drawn above; all processes must see it.
    """

    directory: Path

    def __post_init__(self) -> None:
        if isinstance(self.directory, str):
            object.__setattr__(self, "directory", Path(self.directory))
        check_fields(self)

    @property
    def current(self) -> int:
        """The generation that readers take; 0 where there is none yet.

        Raises:
            StoreError: `CURRENT` is lost or garbled.
        """
        number = self.pointed
        if number is None:
            raise StoreError(
                f"{self._pointer} is missing beside generations, or does not name one, so which negatives serve is not "
                "known. Go on with the run that made them, whose next step writes it; or start anew in an empty "
                "directory."
            )
        return number

    @property
    def pointed(self) -> int | None:
        """The generation that `CURRENT` names; `None` where it is lost or garbled."""
        try:
            said = json_of(self._pointer, POINTER)
        except FileNotFoundError:
            return None if any(self.directory.glob("gen-*")) else 0
        except (OSError, ValueError):
            return None
        number = said.get("generation") if isinstance(said, dict) else None
        return number if type(number) is int and 0 <= number < MOST else None

    @checked
    def place(self, number: AtLeastOne) -> Path:
        """Return where a generation is, or will be."""
        return self.directory / f"gen-{number:06d}"

    @checked
    def holds(self, number: AtLeastOne, parameters: Mapping[str, Any]) -> bool:
        """Say whether a generation is published and was made of just these parameters."""
        target = self.place(number)
        return target.exists() and directories.read_manifest(target).parameters == parameters

    @checked
    def publish(self, number: AtLeastOne, parameters: Mapping[str, Any], build: Callable[[Path], object]) -> None:
        """Build and publish a generation; one of that number from an abandoned run is replaced. Older indexes go."""
        with writing(self.directory, other="directory="):
            if self.pointed == 0:
                self._point(0)
            shutil.rmtree(self.place(number), ignore_errors=True)
            directories.publish(self.place(number), kinds.GENERATION, parameters, build)
        for old in self.directory.glob("index-*"):
            if old != self._index(number):
                shutil.rmtree(old)

    @checked
    def switch(self, number: AtLeastZero) -> None:
        """Have readers take a generation from their next batch on; 0 takes all away.

        Raises:
            StoreError: it does not exist, or is not whole.
        """
        if number:
            self.open(number)
            directories.check(self.place(number))
        self._point(number)

    def _point(self, number: int) -> None:
        with written(self._pointer, other="directory=") as partial:
            partial.write_text(json.dumps({"generation": number}))

    @checked
    def adopt_index(self, number: AtLeastOne, index: DenseIndex) -> None:
        """Move the index of a generation that is about to be published here."""
        shutil.rmtree(self._index(number), ignore_errors=True)
        close_indexes()
        os.rename(index.directory, self._index(number))

    @checked
    def index(self, number: AtLeastOne, similarity: Similarity = "cosine") -> DenseIndex:
        """Open the dense index of the newest generation.

        Raises:
            StoreError: the index does not exist.
        """
        directories.read_manifest(self._index(number))
        return DenseIndex(directory=self._index(number), similarity=similarity)

    @checked
    def open(self, number: AtLeastOne) -> Generation:
        """Open a published generation, mapped.

        Raises:
            StoreError: it does not exist, or is not whole.
        """
        manifest = self.place(number) / directories.MANIFEST
        if not manifest.exists():
            raise StoreError(
                f"{self.place(number)} does not exist, or is not whole. Give the directory= and the schedule of the "
                "run that made it; or start anew in an empty directory."
            )
        return _opened(self.place(number), manifest.stat().st_mtime_ns)

    def newest(self) -> Generation | None:
        """Open the generation that readers take, mapped; `None` before the first."""
        number = self.current
        return self.open(number) if number else None

    def _index(self, number: int) -> Path:
        return self.directory / f"index-{number:06d}"

    @property
    def _pointer(self) -> Path:
        return self.directory / "CURRENT"


@functools.lru_cache(maxsize=2)
def _opened(directory: Path, mtime_ns: int) -> Generation:
    directories.check(directory)
    sources = directories.read_object(directory, REPORT).get("sources")
    if not isinstance(sources, list) or not all(isinstance(name, str) for name in sources):
        raise directories.altered(directory, REPORT, "it names no sources")
    generation = Generation(sources=tuple(sources), **SCHEMA.read(directory))
    if wrong := generation.inconsistency():
        raise directories.altered(directory, *wrong)
    return generation
