"""Queries of the job as the sample on which the recall of an approximate search is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.queries import PairColumns, strings
from hf_hardneg.retrievers.base import Sources
from hf_hardneg.text.keys import text_keys

BATCH = 10_000


def job_queries(sources: Sources, encoder: Any, most: int) -> Any:
    """Vectors (n, d) of at most so many of the queries that will be asked; empty where none are known.

    They are those whose texts have the least keys, so that no order of rows changes them.

    Args:
        sources (`Sources`): the pairs, and names of their columns.
        encoder (`Encoder`, *optional*): of queries that bring no vectors.
        most (`int`): how many.
    """
    columns, chosen = PairColumns.of(sources.columns), dict[bytes, tuple[str, Any]]()
    for pairs in sources.pairs:
        kind = getattr(pairs.features.get(columns.query), "dtype", None)
        has_vectors = columns.query_vector in pairs.column_names
        if kind not in ("string", "large_string") or not (has_vectors or encoder):
            continue
        names = [columns.query, *([columns.query_vector] if has_vectors else [])]
        for table in pairs.with_format("arrow", columns=names).iter(BATCH):
            texts = strings(table[columns.query], columns.query)
            keys = text_keys(texts, "exact")
            places = np.unique(keys, return_index=True)[1][:most]
            vectors = matrix(table[columns.query_vector].take(places)) if has_vectors else [None] * len(places)
            for place, vector in zip(places, vectors, strict=True):
                chosen.setdefault(keys[place].tobytes(), (texts[place], vector))
            chosen = dict(sorted(chosen.items(), key=lambda entry: entry[0])[:most])
    texts, vectors = [text for text, _ in chosen.values()], [vector for _, vector in chosen.values()]
    if any(vector is None for vector in vectors):
        from hf_hardneg.models.vector_models import encoding_of

        return encoding_of(encoder)(texts, kind="query")
    return vectors
