"""Whether a candidate and a known positive are parts of one larger document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.grouping import among, spread
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.columns import missing_column
from hf_hardneg.corpus.documents import content_digest
from hf_hardneg.corpus.ids import as_text, is_listed, named_columns
from hf_hardneg.corpus.positives import CorpusKeys
from hf_hardneg.corpus.queries import Queries
from hf_hardneg.signals.base import BoundSignal, Context, Signal
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import Schema, Stored


@dataclass(frozen=True)
class ParentMatch(Signal):
    """1 where a candidate is part of the same larger document as a known positive or a copy of one, else 0.

    Args:
        column (`str`): of the corpus, what names the larger document; several where it holds lists, and none where it
            is null or blank.
    """

    column: str

    @property
    def name(self) -> str:
        """Such as `"same_parent:title"`."""
        return f"same_parent:{self.column}"

    def bind(self, context: Context) -> BoundSignal:
        """See `Signal`."""
        dataset, corpus = context.sources.dataset, context.sources.corpus
        if self.column not in dataset.column_names:
            raise missing_column(self.column, dataset.column_names, "corpus", "parent")
        plain = dataset.with_format("arrow", columns=[self.column])

        def build(directory: Path) -> None:
            row, codes = _parents(named_columns(plain[:])[self.column], self.column)
            save_array(directory / "offsets.npy", np.searchsorted(row, np.arange(len(dataset) + 1)))
            save_array(directory / "codes.npy", codes)

        origin = {"column": content_digest(plain, [self.column], nullable=[self.column]), "layout": 2}
        directory = directories.obtain(corpus.cache, kinds.PARENTS, origin, build, corpus.about)
        return _ParentMatch(directory, context.reader.keys)


PARENTS = Schema.of(
    {"offsets": Stored(np.int64, "documents+1", bounds="parents"), "codes": Stored(np.int64, "parents", least=0)}
)


@dataclass(frozen=True)
class _ParentMatch:
    directory: Path
    keys: CorpusKeys

    @property
    def identity(self) -> str:
        return self.directory.name

    def of(self, queries: Queries, candidates: Candidates) -> np.ndarray:
        inside = queries.positives.row >= 0
        owner, copies = self.keys.copies(queries.positives.row[inside])
        copy, wanted = self._parents_of(copies)
        place, parents = self._parents_of(candidates.doc)
        bounds = np.searchsorted(queries.positives.query[inside][owner][copy], np.arange(candidates.queries + 1))
        same = among(parents, candidates.query[place], wanted, bounds)
        return (np.bincount(place, weights=same, minlength=len(candidates)) > 0).astype(np.float64)

    def _parents_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of some corpus rows each parent is of, ascending, and its code; equally long."""
        arrays = PARENTS.opened(self.directory)
        offsets = arrays["offsets"]
        counts = offsets[rows + 1] - offsets[rows]
        place, inside = spread(counts)
        return place, arrays["codes"][offsets[rows][place] + inside]


def _parents(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The row of each parent that a column names, ascending, and a number that stands for it, (n,) int64 each."""
    texts = as_text(column, name)
    row = pc.list_parent_indices(texts) if is_listed(texts.type) else pa.array(np.arange(len(texts)))
    values = texts.flatten() if is_listed(texts.type) else texts
    named = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(values), ""), False)
    codes = values.filter(named).dictionary_encode().indices
    return tuple(part.to_numpy(zero_copy_only=False).astype(np.int64) for part in (row.filter(named), codes))
