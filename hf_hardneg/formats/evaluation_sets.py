"""`evaluation_set` cuts a test set to the documents that are hard for its queries, as MTEB's HardNegatives sets are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import combined, lengths, listed
from hf_hardneg.corpus.columns import Columns, columns_of
from hf_hardneg.corpus.documents import id_column_of, text_columns_of
from hf_hardneg.corpus.ids import as_text, named_columns, row_ids
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.formats.tables import with_ids
from hf_hardneg.runtime.arguments import AtLeastOne, checked

if TYPE_CHECKING:
    from datasets import Dataset


@checked
def evaluation_set(
    mined: Dataset,
    corpus: Dataset,
    *,
    queries: AtLeastOne | None = None,
    seed: int = 42,
    columns: Columns | None = None,
) -> dict[str, Dataset]:
    """Cut a test set to its positives and the documents that were mined for it: small to search, and nearly as hard.

    Mine the test pairs deep, without filters: MTEB's sets take the 250 best documents of each query by BM25 and dense
    models, and up to 1,000 queries. A ranking of models on the small set is that on the whole one where the documents
    that any of them ranks high are in it, so mine with more than one retriever.

    Args:
        mined (`Dataset`): the test pairs with their negatives, as `mine` returned them.
        corpus (`Dataset`): the documents that were mined.
        queries (`int`, *optional*): at most so many, drawn by keys; by default all.
        seed (`int`, defaults to 42): of the draw.
        columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.

    Returns:
        `dict[str, Dataset]`: `corpus` (the corpus' own columns, of documents that a query names), `queries` (`_id`,
        `text`) and `qrels` (`query-id`, `corpus-id`, `score` 1 for each known positive), as BEIR and MTEB have them.

    Raises:
        ColumnError: the rows are no mined rows.
        DataError: a row names a document that the corpus lacks; or no row names a positive.

    Example:
        >>> tables = evaluation_set(mine(pairs, corpus, "bm25", num_negatives=3, safeguards=False), corpus, queries=2)
        >>> {name: len(table) for name, table in tables.items()}
        {'corpus': 6, 'queries': 2, 'qrels': 2}
    """
    from datasets import Dataset

    roles = columns_of(mined, columns, corpus)
    names = PairColumns.of(roles)
    if names.query not in mined.column_names:
        raise ColumnError(
            f"evaluation_set() needs {names.query!r}, and the rows have {', '.join(map(repr, mined.column_names))}. "
            "Give what mine() returned, and name its columns."
        )
    roles_of_rows = (names.query, names.query_id, names.positive, names.positive_ids, "negative_ids")
    present = [name for name in roles_of_rows if name in mined.column_names]
    rows = with_ids(mined.with_format("arrow").select_columns(present), names, corpus)
    table = named_columns(rows.with_format("arrow")[:])
    ids = as_text(table[names.query_id], names.query_id)
    chosen = _drawn(ids, queries, seed)
    inside = np.isin(ids.to_numpy(zero_copy_only=False), chosen)
    flat = {name: _flat(table[name], name, ids, inside) for name in (names.positive_ids, "negative_ids")}
    relevant = flat[names.positive_ids].group_by(["query", "document"], use_threads=False).aggregate([])
    if not len(relevant):
        raise DataError("No row names a positive, so nothing could be found. Give test pairs with their positives.")
    named = pa.chunked_array([part.column("document").combine_chunks() for part in flat.values()]).unique()
    kept = _documents(corpus, roles, named)
    first = {name: row for row, name in reversed(list(enumerate(ids.to_pylist())))}
    texts = combined(table[names.query]).take(pa.array([first[name] for name in chosen]))
    judged = {"query-id": relevant.column("query"), "corpus-id": relevant.column("document")}
    return {
        "corpus": kept,
        "queries": Dataset(pa.table({"_id": pa.array(chosen.tolist(), pa.string()), "text": texts})),
        "qrels": Dataset(pa.table({**judged, "score": pa.array(np.ones(len(relevant), np.int64))})),
    }


def _drawn(ids: pa.Array, queries: int | None, seed: int) -> np.ndarray:
    """Return the ids of the queries that are kept, by first appearance."""
    distinct = np.array(list(dict.fromkeys(ids.to_pylist())), dtype=object)
    if queries is None or queries >= len(distinct):
        return distinct
    order = np.argsort(keyed_uniforms(seed, "evaluation_set", "", distinct.tolist()), kind="stable")[:queries]
    return distinct[np.sort(order)]


def _flat(column: pa.ChunkedArray, name: str, ids: pa.Array, inside: np.ndarray) -> pa.Table:
    """Return the pairs of query and document of some rows."""
    documents = listed(as_text(column, name))
    owner = np.repeat(np.arange(len(ids)), lengths(documents))
    kept = pa.array(inside[owner])
    pairs = {"query": ids.take(pa.array(owner)), "document": documents.flatten()}
    return pa.table({side: values.cast(pa.string()).filter(kept) for side, values in pairs.items()})


def _documents(corpus: Dataset, roles: Columns, named: pa.Array) -> Dataset:
    """Return the rows of the corpus with some ids, in its order, under the names of BEIR where it has one text column.

    Raises:
        DataError: some are not there.
    """
    key = id_column_of(corpus, roles.get("id"))
    columns = named_columns(corpus.with_format("arrow", columns=[key])[:]) if key in corpus.column_names else {}
    ids = as_text(columns[key], key) if columns and key else row_ids(np.arange(len(corpus)), key)
    positions = {name: row for row, name in enumerate(ids.to_pylist())}
    missing = [name for name in named.to_pylist() if name not in positions]
    if missing:
        raise DataError(
            f"{len(missing):,} documents of the rows are not in the corpus, such as {missing[0]!r}. Give the corpus "
            "that was mined, and name its ids with columns={'id': ...}."
        )
    rows = np.sort([positions[name] for name in named.to_pylist()])
    kept = corpus.with_format(None).select(rows)
    texts = text_columns_of(corpus, roles.get("text"))
    if key is None or key not in kept.column_names:
        kept = kept.add_column("_id", ids.take(pa.array(rows)).to_pylist())
    elif key != "_id" and "_id" not in kept.column_names:
        kept = kept.rename_column(key, "_id")
    if len(texts) == 1 and texts[0] != "text" and "text" not in kept.column_names:
        kept = kept.rename_column(texts[0], "text")
    return kept
