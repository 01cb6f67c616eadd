"""Documents in an index of RediSearch, which is part of Redis Stack and Redis 8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from hf_hardneg.retrievers.stores.document_store import Description, DocumentStore
from hf_hardneg.retrievers.stores.redisearch_client import EXTRA, SECRET, answers_of, connected
from hf_hardneg.retrievers.stores.redisearch_layout import IndexLayout
from hf_hardneg.runtime.arguments import AtLeastOne

EFFORTS = (10, 100, 200, 400, 800, 1600, 3200)
ALL = "(-@hf_hardneg:{none})"
"""A filter that leaves every document; with one, RediSearch compares all vectors also where the index is of HNSW."""
PAGE, LOOKED_AT = 1000, 10_000
"""Documents of one answer, and documents that the mark covers, since numbers of changes do not outlive a restart."""


@dataclass(frozen=True)
class RediSearch(DocumentStore):
    """An index of RediSearch, such as `redis://host:6379/docs?text=title,body`, over hashes.

    Ids are keys, without the prefix of the index where it has a single one. The password comes from `REDIS_PASSWORD`;
    `redis+tls://` connects by TLS.

    Args:
        text (`str`): fields of the text, with commas between; empty where there is none.
        vector (`str`): the field of the vectors; not needed where there is a single one.
        exact (`bool`, defaults to `True`): whether all vectors are compared, also where the index is of HNSW.
        timeout (`int`, defaults to 8): seconds that an answer may take.
    """

    text: str = "text"
    vector: str = ""
    exact: bool = True
    timeout: AtLeastOne = 8
    scheme: ClassVar[str] = "redis"
    extra: ClassVar[str] = EXTRA
    secret: ClassVar[str] = SECRET
    has_users: ClassVar[bool] = True

    def connect(self) -> Any:
        """See `Collection`."""
        return connected(self.address, self.place, self.timeout)

    def describe(self) -> Description:
        """See `Collection`; the mark covers vectors of the documents nearest to a fixed vector, and the count."""
        layout = self._layout()
        some, fixed = min(layout.count, LOOKED_AT), np.linspace(-1, 1, layout.width).astype(layout.dtype).tobytes()
        near = f"{ALL}=>[KNN {max(some, 1)} @{layout.name} $query HYBRID_POLICY ADHOC_BF AS distance]"
        summed = ("GROUPBY", 0, "REDUCE", "SUM", 1, "@distance", "AS", "sum", "DIALECT", 2, "TIMEOUT", 0)
        (answer,) = self._asked(["FT.AGGREGATE", self.place.collection, near, "PARAMS", 2, "query", fixed, *summed])
        return Description(
            score_kind=layout.metric,
            count=layout.count,
            width=layout.width,
            mark=f"{layout.count} {float(answer[1][1]) if some else 0:.10g} {layout.built}",
            max_k=1_000_000,
            max_batch=64,
            has_texts=bool(self.text),
            efforts=EFFORTS if layout.is_approximate and not self.exact else (),
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        layout = self._layout()
        how = ("*", f"EF_RUNTIME {effort or k}") if layout.is_approximate else ("*", "")
        if layout.is_approximate and self.exact:
            how = (ALL, "HYBRID_POLICY ADHOC_BF")
        best = f"{how[0]}=>[KNN {k} @{layout.name} $query {how[1]} AS distance]"
        shown = ("RETURN", 1, "distance", "SORTBY", "distance", "LIMIT", 0, k, "DIALECT", 2, "TIMEOUT", 0)
        blobs = [query.astype(layout.dtype).tobytes() for query in np.asarray(queries)]
        commands = [["FT.SEARCH", self.place.collection, best, "PARAMS", 2, "query", blob, *shown] for blob in blobs]
        nearest = 0.0 if layout.metric == "l2" else 1.0
        hits = []
        for answer in self._asked(*commands):
            distances = np.array([float(fields[-1]) for fields in answer[2::2]])
            hits.append(([layout.name_of(key) for key in answer[1::2]], (nearest - distances).astype(np.float32)))
        return hits

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        layout = self._layout()
        keys, columns = [layout.prefix + name for name in ids], layout.columns(vectors)
        shown = ("RETURN", len(columns), *columns, "LIMIT", 0, len(keys), "DIALECT", 2, "TIMEOUT", 0)
        (answer,) = self._asked(["FT.SEARCH", self.place.collection, "*", "INKEYS", len(keys), *keys, *shown])
        rows = [(key, *fields) for key, fields in zip(answer[1::2], answer[2::2], strict=True)]
        return self.in_order(pa.Table.from_batches([layout.documents(rows, vectors)]), ids)

    def scan(self, *, vectors: bool = False) -> Iterator[pa.RecordBatch]:
        """See `Collection`; in the order of keys, since that of the index changes when a server starts again."""
        layout, index = self._layout(), self.place.collection
        columns = ["@__key", *layout.columns(vectors)]
        loaded = ("LOAD", len(columns), *columns, "SORTBY", 2, "@__key", "ASC", "MAX", layout.count)
        paged = ("WITHCURSOR", "COUNT", PAGE, "DIALECT", 2, "TIMEOUT", 0)
        ((page, cursor),) = self._asked(["FT.AGGREGATE", index, "*", *loaded, *paged])
        while True:
            if page[1:]:
                yield layout.documents([fields[1:] for fields in page[1:]], vectors)
            if not cursor:
                return
            ((page, cursor),) = self._asked(["FT.CURSOR", "READ", index, cursor, "COUNT", PAGE])

    def _layout(self) -> IndexLayout:
        (info,) = self._asked(["FT.INFO", self.place.collection])
        return IndexLayout.of(info, address=self.address, vector=self.vector, text=self.text)

    def _asked(self, *commands: Sequence[Any]) -> list[Any]:
        return answers_of(self.address, self.client, commands)
