"""The steps of mining as maps whose results are stored: candidates, what is known of them, and what is selected.

`Dataset.map` itself stores nothing for a dataset in memory, and carries all columns through every step. Here candidates
are columns of their own, named by what they depend on, so another margin, sampler or process finds them again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.corpus.documents import rows_digest
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.pipeline.rescoring import Rescoring
from hf_hardneg.pipeline.retrieval import Retrieval
from hf_hardneg.pipeline.selection import ROW, replaced
from hf_hardneg.runtime.versions import installed, joined
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.arrow_files import cut, stored_rows
from hf_hardneg.store.disk import written
from hf_hardneg.store.elsewhere import workers_elsewhere
from hf_hardneg.store.kinds import Kind
from hf_hardneg.store.manifests import LARGEST
from hf_hardneg.store.regular_files import json_of
from hf_hardneg.store.row_parts import map_rows

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1000
VERSIONS = "versions.json"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How to run the steps, none of which changes a result.

    Args:
        cache (`Path`): where results are stored.
        num_proc (`int`, *optional*): worker processes.
        batch_size (`int`, defaults to 1000): rows at a time.
    """

    cache: Path
    num_proc: int | None = None
    batch_size: int = BATCH

    @classmethod
    def of(cls, miner: HardNegatives, **how: Any) -> Steps:
        """The steps of a miner, stored where its indexes are."""
        return cls(cache=miner.retrieval.reader.corpus.cache, **how)

    def is_selection_left(self, pairs: Dataset, miner: HardNegatives) -> bool:
        """Whether the costly steps of some pairs are stored: candidates, and what a cross-encoder says of them."""
        made_from = _made_from(pairs, miner.retrieval, miner)
        if workers_elsewhere():
            return directories.exists(self.cache, kinds.NEGATIVES, made_from[kinds.NEGATIVES])
        costly = [kinds.CANDIDATES, *([kinds.SIGNALS] if miner.rescoring.scorers else [])]
        return all(directories.exists(self.cache, kind, made_from[kind]) for kind in costly)

    def made_from(self, pairs: Dataset, miner: HardNegatives) -> dict[str, Any]:
        """What the negatives of some pairs depend on, as plain values."""
        return _made_from(pairs, miner.retrieval, miner)[kinds.NEGATIVES]

    def versions(self, pairs: Dataset, miner: HardNegatives) -> list[dict[str, str]]:
        """The versions of packages with which each stored step of some pairs was run."""
        steps = [(self.cache, *step) for step in _made_from(pairs, miner.retrieval, miner).items()]
        return [
            directories.read_object(directories.place(*step), VERSIONS) for step in steps if directories.exists(*step)
        ]

    def candidates(self, pairs: Dataset, retrieval: Retrieval) -> Dataset:
        """What mining reads of the pairs, with the columns that retrieval adds, from the store where they are there."""
        from datasets import concatenate_datasets

        plain = _read_of(pairs, retrieval)
        if not len(pairs):
            return plain.map(retrieval, batched=True)
        origin = _origin(pairs, retrieval)
        candidates = self._stored(kinds.CANDIDATES, origin, plain, retrieval, f"Searching ({retrieval.sources[-1]})")
        return concatenate_datasets([plain, candidates], axis=1).with_format("arrow")

    def negatives(self, pairs: Dataset, miner: HardNegatives, depth: int | None = None) -> Dataset:
        """The pairs with their negatives, from the store where they are there.

        Args:
            pairs (`Dataset`): the rows.
            miner (`HardNegatives`): its retrieval, rescoring and selection.
            depth (`int`, *optional*): candidates to retrieve, instead of as many as the miner needs.
        """
        from datasets import Dataset, Features, concatenate_datasets

        retrieval, rescoring, selection = miner.retrieval, miner.rescoring, miner.selection
        retrieval = retrieval if depth is None else replace(retrieval, depth=depth)
        made_from = _made_from(pairs, retrieval, miner)
        if not len(pairs):
            return pairs.with_format(None)
        function: tuple[Callable[[Any], Any], str] = selection, "Selecting negatives"
        if workers_elsewhere():  # all at once: candidates are many, and would have to come back
            rows, function = _read_of(pairs, retrieval), (miner.columns_of, "Mining")
        else:
            rows = self.candidates(pairs, retrieval)
            if rescoring.needed:
                rows = self._rescored(rows, rescoring, made_from[kinds.SIGNALS])
        if selection.drops_rows:
            numbers = Dataset.from_dict({ROW: np.arange(len(pairs))}).with_format("arrow")
            rows = concatenate_datasets([rows, numbers], axis=1).with_format("arrow")
        negatives = self._stored(kinds.NEGATIVES, made_from[kinds.NEGATIVES], rows, *function)
        if selection.drops_rows:
            pairs, negatives = pairs.select(negatives.with_format("numpy")[ROW][:]), negatives.remove_columns(ROW)
        gone = {*negatives.column_names, *replaced(pairs.column_names)}
        kept = [name for name in pairs.column_names if name not in gone]
        if not len(negatives):
            features = Features({**{name: pairs.features[name] for name in kept}, **negatives.features})
            return Dataset.from_dict({name: [] for name in features}, features=features)
        return cut(concatenate_datasets([pairs.select_columns(kept), negatives], axis=1).with_format(None))

    def _rescored(self, candidates: Dataset, rescoring: Rescoring, origin: dict[str, Any]) -> Dataset:
        from datasets import concatenate_datasets

        if not len(candidates):
            return candidates
        values = self._stored(kinds.SIGNALS, origin, candidates, rescoring, "Rescoring")
        return concatenate_datasets([candidates, values], axis=1).with_format("arrow")

    def _stored(
        self, kind: Kind, parameters: dict[str, Any], rows: Dataset, function: Callable[[Any], Any], desc: str
    ) -> Dataset:
        from datasets import concatenate_datasets

        def build(directory: Path) -> list[str]:
            how: Any = {"batch_size": self.batch_size, "num_proc": self.num_proc}
            _add_versions(directory / VERSIONS)
            return [VERSIONS, *map_rows(rows, function, directory, desc=desc, **how)]

        directory = directories.obtain(self.cache, kind, parameters, build, goes_on=True)
        return concatenate_datasets(stored_rows(directory))


def _add_versions(path: Path) -> None:
    """Write the versions of packages with which a step is run, beside the versions with which it was begun."""
    begun: Any = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        begun = json_of(path, LARGEST)
    with written(path) as partial:
        partial.write_text(json.dumps(joined([begun, installed()])))


def _read_of(pairs: Dataset, retrieval: Retrieval) -> Dataset:
    """What mining reads of the pairs."""
    return pairs.select_columns(retrieval.reader.columns.read(pairs.column_names)).with_format("arrow")


def _origin(pairs: Dataset, retrieval: Retrieval) -> dict[str, Any]:
    """What candidates depend on."""
    read = retrieval.reader.columns.read(pairs.column_names)
    return {"pairs": rows_digest(pairs, read), **retrieval.identity}


def _made_from(pairs: Dataset, retrieval: Retrieval, miner: HardNegatives) -> dict[Kind, dict[str, Any]]:
    """What each stored step depends on, by its kind, in their order."""
    origin = _origin(pairs, retrieval)
    steps = {kinds.CANDIDATES: origin}
    if miner.rescoring.needed:
        origin = steps[kinds.SIGNALS] = {**origin, "rescored": miner.rescoring.identity}
    if miner.selection.drops_rows:
        origin = {**origin, "rows": rows_digest(pairs, pairs.column_names)}
    return {**steps, kinds.NEGATIVES: {**origin, **miner.selection.identity}}
