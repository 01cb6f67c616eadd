"""Files of usearch (https://github.com/unum-cloud/usearch): vectors under integer labels, mapped and not copied."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.vector_file import VectorFile
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import threads

KINDS: dict[str, Literal["cosine", "dot", "l2"]] = {"Cos": "cosine", "IP": "dot", "L2sq": "l2"}
WHOLE = ("F32", "F64")
"""Scalars in which an exact search finds what is nearest in float32."""
TIMES = (2, 4, 8, 16)
"""Efforts of an exact search over shortened vectors: documents proposed for each hit."""
EXPANSIONS = (256, 512, 1024, 2048, 4096, 8192)
"""Efforts of a search in the graph."""


@dataclass(frozen=True)
class Usearch(VectorFile):
    """A saved usearch index.

    Args:
        address (`str`): such as `"usearch:///folder/docs.usearch"`.
        exact (`bool`, defaults to `True`): compare each query with all vectors; `False` follows the graph, whose recall
            is measured and whose expansion is raised.
    """

    _: KW_ONLY
    exact: bool = True
    scheme: ClassVar[str] = "usearch"
    extra: ClassVar[str] = "usearch"
    content: ClassVar[str] = "an index that usearch saved"

    @property
    def similarity(self) -> Literal["cosine", "dot", "l2"]:
        """See `VectorFile`."""
        return KINDS[self.client.index.metric_kind.name]

    @property
    def efforts(self) -> tuple[int, ...]:
        """See `Description`; none where the search is exact."""
        if not self.exact:
            return EXPANSIONS
        return () if self.client.index.dtype.name in WHOLE else TIMES

    def read(self) -> tuple[Any, np.ndarray, int]:
        """See `VectorFile`.

        Raises:
            DocumentStoreError: usearch cannot read the file.
            ConfigError: its metric, or several vectors under one label, cannot be used.
        """
        index_module = require("usearch.index", extra=self.extra, needed_by=self.address)
        try:
            index = index_module.Index.restore(str(self.path), view=True)
        except (RuntimeError, ValueError) as error:
            raise self._unreadable(error) from error
        if index is None:
            raise self._unreadable("it has no head of one")
        if index.metric_kind.name not in KINDS or index.multi:
            what = "several vectors under one label" if index.multi else f"metric {index.metric_kind.name}"
            raise ConfigError(
                f"{self.address} holds an index of {what}; allowed are {', '.join(KINDS)} with one vector for each "
                "label. Build it anew with one of those."
            )
        return index, np.asarray(index.keys), index.ndim

    def propose(self, queries: np.ndarray, k: int, effort: int | None) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFile`."""
        index, count = self.opened.index, len(self.opened.labels)
        if self.exact:
            k = min(k * (effort or 1), count)
        elif effort is not None:
            index.expansion_search = effort
        hits = index.search(queries, k, exact=self.exact, threads=threads())
        keys = np.atleast_2d(hits.keys)
        counts = np.asarray(getattr(hits, "counts", [keys.shape[1]]))
        query, place = np.nonzero(np.arange(keys.shape[1]) < counts[:, None])
        return query, keys[query, place]

    def vectors_of(self, labels: np.ndarray) -> np.ndarray:
        """See `VectorFile`."""
        width = self.opened.width
        if not len(labels):
            return np.zeros((0, width), np.float32)
        return np.asarray(self.opened.index.get(labels, "f32"), np.float32).reshape(len(labels), width)

    def _unreadable(self, why: object) -> DocumentStoreError:
        return DocumentStoreError(
            f"{self.address} names {self.path}, which usearch cannot read: {why}. A file that its Index.save wrote is "
            "allowed. Save the index again."
        )
