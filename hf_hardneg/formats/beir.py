"""Read the three tables of BEIR and MTEB as rows ready for mining; they are never written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined, ragged
from hf_hardneg.corpus.documents import joined, text_columns_of
from hf_hardneg.corpus.ids import as_text, named_columns
from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.tables import check_all_known

if TYPE_CHECKING:
    from datasets import Dataset

NAMES = {"corpus", "queries", "qrels"}


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

    qrels = named_columns(_single(tables, "qrels").with_format("arrow")[:])
    query_ids, corpus_ids = (as_text(qrels[name], name) for name in ("query-id", "corpus-id"))
    relevant = combined(qrels["score"]).to_numpy(zero_copy_only=False).astype(np.float64) > 0
    codes = query_ids.dictionary_encode()
    owner = codes.indices.to_numpy()
    order = np.argsort(owner, kind="stable")
    corpus = _single(tables, "corpus").with_format("arrow")[:]
    documents = as_text(named_columns(corpus)[_key(corpus)], "_id")
    texts = joined([combined(corpus.column(name)) for name in text_columns_of(_single(tables, "corpus"))])
    queries = _single(tables, "queries").with_format("arrow")[:]
    known = as_text(named_columns(queries)[_key(queries)], "_id")
    check_all_known(codes.dictionary, known, "query")
    check_all_known(corpus_ids, documents, "document")
    place = pc.index_in(corpus_ids, value_set=documents)
    columns: dict[str, Any] = {
        "query_id": codes.dictionary,
        "query": combined(queries.column("text")).take(pc.index_in(codes.dictionary, value_set=known)),
    }
    for name, ids, mask in (("positive", "positive_ids", relevant), ("negatives", "negative_ids", ~relevant)):
        chosen = order[mask[order]]
        counts = np.bincount(owner[chosen], minlength=len(codes.dictionary))
        columns[name] = ragged(texts.take(place.take(pa.array(chosen))), counts)
        columns[ids] = ragged(corpus_ids.take(pa.array(chosen)), counts)
    table = pa.table(columns)
    return Dataset(table.filter(pc.greater(pc.list_value_length(table.column("positive")), 0)))


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
