"""Documents in a table of PostgreSQL, with vectors of the extension pgvector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers.stores.document_store import Description
from hf_hardneg.retrievers.stores.postgres_table import NAMED, PostgresTable

Metric = Literal["cosine", "dot", "l2"]
METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "dot", "l2": "l2"}
"""Score kinds by the middle of the name of an operator class, such as `vector_ip_ops`."""
SCORES = {
    "cosine": ("<=>", "1 - coalesce(nullif({distance}, 'NaN'), 1)"),  # NaN beside vectors of length zero
    "dot": ("<#>", "-({distance})"),
    "l2": ("<->", "-(({distance}) ^ 2)"),
}
"""The operator of each score kind, and the score by its distance."""
EFFORTS = {"hnsw": (40, 100, 200, 400, 800, 1000), "ivfflat": (1, 4, 16, 64, 256, 1024)}
LAYOUT = """
select relkind::text, (select json_object_agg(attname, format_type(atttypid, atttypmod)) from pg_attribute
        where attrelid = c.oid and attnum > 0 and not attisdropped),
    (select coalesce(json_agg(json_build_array(amname, split_part(opcname, '_', 2), relfilenode) order by x.oid), '[]')
        from pg_index i join pg_class x on x.oid = indexrelid join pg_am m on m.oid = x.relam
        join pg_opclass o on o.oid = indclass[0] join pg_attribute a on attrelid = indrelid and attnum = indkey[0]
        where indrelid = c.oid and attname = %(vector)s and amname in ('hnsw', 'ivfflat') and indpred is null)
from pg_class c where c.oid = %(table)s::regclass
"""
"""The kind of a table, the types of its columns, and kind, metric and file of each index of the vectors."""
SETTINGS = """
select set_config(name, value, false) from pg_settings join (values ('hnsw.ef_search', %(effort)s::text),
    ('ivfflat.probes', %(effort)s::text), ('hnsw.iterative_scan', 'relaxed_order'),
    ('ivfflat.iterative_scan', 'relaxed_order'), ('enable_seqscan', 'off')) as wanted(name, value) using (name)
"""
"""Effort, all the rows that are asked for, and the index also where the planner would rather do without."""


class TableLayout(NamedTuple):
    """Score kind, type of the ids, type of the vectors, and kind and file of the indexes that search uses."""

    metric: Metric
    id_type: str
    vector_type: str
    indexes: list[tuple[str, str]]


@dataclass(frozen=True)
class PGVector(PostgresTable):
    """A table of PostgreSQL, such as `postgresql://user@host/db?table=docs&id=id&text=body&vector=embedding`.

    Rows whose vector is null are left out.

    Args:
        metric (`str`, *optional*): `"cosine"`, `"dot"` or `"l2"`; by default that of the column's index, else cosine.
        exact (`bool`, defaults to `True`): whether all vectors are compared, also where there is an index.
    """

    metric: Metric | None = None
    exact: bool = True
    scheme: ClassVar[str] = "postgresql"

    def describe(self) -> Description:
        """See `Collection`."""
        layout = self._layout()
        changes = "coalesce(max(xmin::text::bigint), 0), coalesce(sum(xmin::text::bigint), 0)::text"
        some = "from {table} where {vector} is not null"
        width = f"(select vector_dims({{vector}}) {some} limit 1)"
        ((count, width, *changed),) = self.asked(f"select count(*), {width}, {changes} {some}")
        kind = layout.indexes[0][0] if layout.indexes else ""
        return Description(
            score_kind=layout.metric,
            count=count,
            width=width,
            mark=" ".join(map(str, [count, *changed, *(file for _, file in layout.indexes)])),
            max_k=1000 if kind == "hnsw" else None,
            max_batch=32,
            has_texts=bool(self.text),
            efforts=EFFORTS.get(kind, ()),
        )

    def search(
        self, queries: np.ndarray | Sequence[str], k: int, effort: int | None = None
    ) -> list[tuple[list[str], np.ndarray]]:
        """See `Collection`."""
        layout = self._layout()
        operator, score = SCORES[layout.metric]
        score = score.format(distance=f"{{vector}}::vector {operator} %(query)s::real[]::vector")
        order = f"{{vector}} {operator} %(query)s::real[]::vector::{layout.vector_type}"
        if layout.indexes:
            self.asked(SETTINGS, effort=min(max(effort or 0, k), 1000))
        else:
            order = f"{score} desc"  # an index is of the operator alone, so none is used
        best = f"select {{id}}::text, {score} from {{table}} where {{vector}} is not null order by {order} limit %(k)s"
        answers = [self.asked(best, query=query, k=k) for query in np.asarray(queries).tolist()]
        return [([name for name, _ in hits], np.array([score for _, score in hits], np.float32)) for hits in answers]

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> pa.Table:
        """See `Collection`."""
        wanted = f"{{id}} = any(%(ids)s::{self._layout().id_type}[])"
        rows = self.asked(f"{self.rows(vectors)} and {wanted}", ids=list(ids))
        return self.in_order(pa.Table.from_batches([self.documents(rows)]), ids)

    def _layout(self) -> TableLayout:
        """What the catalog says of the table.

        Raises:
            ConfigError: it is a view, lacks a column, has vectors of another type, or does not tell its score kind.
        """
        ((relation, types, indexes),) = self.asked(LAYOUT, vector=self.vector, table=self.sql("{table}").as_string())
        missing = [name for name in (self.id, self.vector, *filter(None, self.text.split(","))) if name not in types]
        if missing or relation not in "rpm":
            what = f"has no column {missing[0]!r} but {', '.join(types)}" if missing else "is a view"
            raise ConfigError(f"{self.address}: {self.table!r} {what}; a table is needed. {NAMED}")
        kind = re.fullmatch(r"(?:.*\.)?(vector|halfvec)(?:\(\d+\))?", types[self.vector])
        told = {METRICS.get(metric) for _, metric, _ in indexes}
        metric = self.metric or (told.pop() if len(told) == 1 else None if told else "cosine")
        if kind is None or metric is None:
            what = "indexes of several metrics or of another one" if kind else f"the type {types[self.vector]}"
            raise ConfigError(
                f"{self.address}: {self.vector!r} has {what}; a column of vector or halfvec with one metric of "
                "cosine, dot and l2 is needed. Name one as ?vector=embedding&metric=cosine."
            )
        used = [(kind, str(file)) for kind, name, file in indexes if METRICS.get(name) == metric and not self.exact]
        return TableLayout(metric, types[self.id], kind[1], used)
