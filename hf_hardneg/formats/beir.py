"""Read the three tables of BEIR, MTEB, MS MARCO and TREC, documents, queries and judgements, as rows for mining.

They are never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, ragged
from hf_hardneg.corpus.documents import joined, text_columns_of
from hf_hardneg.corpus.ids import as_text, named_columns
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.formats.tables import check_all_known

if TYPE_CHECKING:
    from datasets import Dataset

NAMES = {"corpus", "queries", "qrels"}
QUERY_TEXTS = ("query", "text", "question", "anchor")
QUERY_IDS = ("query_id", "query-id", "_id", "qid", "id")


def read(tables: Mapping[str, Dataset]) -> Dataset:
    """Make one row of each query with a positive, in the order of the judgements.

    `positive` holds the documents judged above 0, `negatives` the documents judged 0 or below; a title stands before
    its text, as mining reads them.

    Args:
        tables (`Mapping[str, Dataset]`): `corpus` (_id, title, text), `queries` (_id, text), `qrels` (query-id,
            corpus-id, score).

    Raises:
        DataError: a judgement names an id that its table lacks.
    """
    from datasets import Dataset

    judged = _Judged.of(_single(tables, "qrels"))
    corpus = _single(tables, "corpus").with_format("arrow")[:]
    documents = as_text(named_columns(corpus)[_key(corpus)], "_id")
    texts = joined([combined(corpus.column(name)) for name in text_columns_of(_single(tables, "corpus"))])
    columns = judged.queries(_single(tables, "queries"))
    check_all_known(judged.documents, documents, "document")
    place = pc.index_in(judged.documents, value_set=documents)
    sides = (("positive", "positive_ids", judged.relevant), ("negatives", "negative_ids", ~judged.relevant))
    for name, ids, mask in sides:
        columns[name] = judged.lists(texts.take(place), mask)
        columns[ids] = judged.lists(judged.documents, mask)
    table = pa.table(columns)
    return Dataset(table.filter(pc.greater(pc.list_value_length(table.column("positive")), 0)))


def judged_pairs(queries: Dataset, qrels: Dataset) -> Dataset:
    """Make one row of each query with a document judged above 0, in the order of the judgements.

    Args:
        queries (`Dataset`): ids and texts, under names of `QUERY_IDS` and `QUERY_TEXTS`.
        qrels (`Dataset`): `query-id`, `corpus-id`, `score`.

    Returns:
        `Dataset`: `query_id` and `query` string, `positive_ids` list[string].

    Raises:
        ColumnError: the table of queries lacks ids or texts.
        DataError: a judgement names a query that its table lacks.
    """
    from datasets import Dataset

    judged = _Judged.of(qrels)
    columns = judged.queries(queries) | {"positive_ids": judged.lists(judged.documents, judged.relevant)}
    table = pa.table(columns)
    return Dataset(table.filter(pc.greater(pc.list_value_length(table.column("positive_ids")), 0)))


def with_queries(rows: Dataset, key: str, queries: Dataset) -> Dataset:
    """Add the column `query` to rows that name their query by an id.

    Args:
        rows (`Dataset`): has the column `key` of ids.
        key (`str`): that column.
        queries (`Dataset`): ids and texts, as for `judged_pairs`.
    """
    ids = as_text(named_columns(rows.with_format("arrow")[:])[key], key)
    return rows.add_column("query", _texts_of(ids, queries).to_pylist())


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Judgements: for each the place of its query among `query_ids`, its document, and whether that is relevant."""

    query_ids: Any
    owner: np.ndarray
    documents: Any
    relevant: np.ndarray

    @classmethod
    def of(cls, qrels: Dataset) -> _Judged:
        table = named_columns(qrels.with_format("arrow")[:])
        query_ids, documents = (as_text(table[name], name) for name in ("query-id", "corpus-id"))
        grades = combined(table["score"]).to_numpy(zero_copy_only=False).astype(np.float64)
        if not np.isfinite(grades).all():
            row = int(np.flatnonzero(~np.isfinite(grades))[0])
            raise DataError(
                f"The judgement in row {row}, counted from 0, has the grade {grades[row]}; a grade is a finite number, "
                "above 0 for what is relevant. Mend or drop that row."
            )
        codes = query_ids.dictionary_encode()
        return cls(query_ids=codes.dictionary, owner=codes.indices.to_numpy(), documents=documents, relevant=grades > 0)

    def queries(self, table: Dataset) -> dict[str, Any]:
        """Return the ids and texts of the judged queries, as columns."""
        return {"query_id": self.query_ids, "query": _texts_of(self.query_ids, table)}

    def lists(self, values: Any, mask: np.ndarray) -> pa.ListArray:
        """Return the values of the judgements under a mask, in a list for each query."""
        order = np.argsort(self.owner, kind="stable")
        chosen = order[mask[order]]
        counts = np.bincount(self.owner[chosen], minlength=len(self.query_ids))
        return ragged(values.take(pa.array(chosen)), counts)


def _texts_of(ids: Any, queries: Dataset) -> Any:
    """Find the texts of queries by their ids, a string array.

    Raises:
        ColumnError: the table lacks ids or texts.
        DataError: an id is not in it.
    """
    key, text = query_columns(queries.column_names)
    table = named_columns(queries.with_format("arrow", columns=[key, text])[:])
    known = as_text(table[key], key)
    check_all_known(ids, known, "query")
    _check_single(known, combined(table[text]), ids)
    return combined(table[text]).take(pc.index_in(ids, value_set=known))


def _check_single(known: Any, texts: Any, ids: Any) -> None:
    """Raise where a query that is asked for has two texts, as where splits count their queries each for itself.

    Raises:
        DataError: it has.
    """
    first = texts.take(pc.index_in(known, value_set=known))
    others = pc.and_(pc.fill_null(pc.not_equal(first, texts), False), pc.is_in(known, value_set=ids))
    if pc.any(others).as_py():
        place = pc.index(others, True).as_py()
        raise DataError(
            f"The query {known[place].as_py()!r} has two texts, {first[place].as_py()[:60]!r} and "
            f"{texts[place].as_py()[:60]!r}; an id names one query. Give the queries of one split, with its judgements."
        )


def query_columns(present: Sequence[str]) -> tuple[str, str]:
    """Name the columns of ids and of texts in a table of queries.

    Raises:
        ColumnError: one of them is missing.
    """
    key, text = (next((name for name in names if name in present), None) for names in (QUERY_IDS, QUERY_TEXTS))
    if key is None or text is None:
        raise ColumnError(
            f"The table of queries has the columns {', '.join(map(repr, present))}; one of {', '.join(QUERY_TEXTS)} "
            f"must hold their texts, and one of {', '.join(QUERY_IDS)} their ids. Rename its columns."
        )
    return key, text


def _key(table: pa.Table) -> str:
    """Name the column of ids as BEIR or as MTEB does, whichever the table has."""
    return "id" if "id" in table.column_names and "_id" not in table.column_names else "_id"


def _single(tables: Mapping[str, Any], name: str) -> Any:
    """Find a table, also where it is the only split, or `train`, of a `DatasetDict`.

    Raises:
        ConfigError: several splits, none of which is `train`.
    """
    table = tables[name]
    if not isinstance(table, Mapping):
        return table
    split = next(iter(table)) if len(table) == 1 else "train"
    if split not in table:
        raise ConfigError(f"{name!r} has the splits {', '.join(table)}; one table is read. Give one of them.")
    return table[split]
