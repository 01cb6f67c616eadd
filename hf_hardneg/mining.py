"""`mine`: the whole job, dataset in, dataset out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.corpus import content_digest
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.index import store
from hf_hardneg.negatives import HardNegatives
from hf_hardneg.positives import KnownPositives, PositiveList, save_known_positives, text_keys
from hf_hardneg.queries import Reader
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BATCH = 1000


def mine(
    pairs: Dataset | DatasetDict,
    corpus: Dataset,
    strategy: str | Strategy = "bm25",
    *,
    num_proc: int | None = None,
    batch_size: int = BATCH,
    **options: Any,
) -> Dataset | DatasetDict:
    """The pairs with their hard negatives.

    Every known positive of a query is excluded, in whatever row it stands, also over the splits of a `DatasetDict`.
    Two cached maps do the work: candidates, then their selection. Another margin or sampler re-runs only the second.

    Args:
        pairs (`Dataset` or `DatasetDict`): rows of `query` with `positive` (text or texts) and / or `positive_ids`.
        corpus (`Dataset`): the documents.
        strategy (`str` or `Strategy`, defaults to `"bm25"`): see `HardNegatives`.
        num_proc (`int`, *optional*): worker processes.
        batch_size (`int`, defaults to 1000): rows at a time; does not change the result.
        **options: every other argument of `HardNegatives`.

    Raises:
        HardNegError: see `HardNegatives`; raised before anything is searched.

    Example:
        >>> mined = mine(pairs, corpus, "bm25", num_negatives=5)
        >>> mined[0]["negatives"]
    """
    from datasets import DatasetDict

    splits = pairs if isinstance(pairs, DatasetDict) else {"": pairs}
    miner = HardNegatives(corpus, strategy, **options)
    for split in splits.values():
        miner.retrieval.reader.columns.check(split.column_names or [])
    known = known_positives(list(splits.values()), miner.retrieval.reader)
    reader = replace(miner.retrieval.reader, known=known)
    retrieval = replace(miner.retrieval, reader=reader)
    _check_processes(retrieval.searcher, num_proc)
    selection = replace(
        miner.selection, reader=reader, score_kind=retrieval.searcher.score_kind, source=retrieval.source
    )
    mined = {}
    for name, split in splits.items():
        plain = split.with_format("arrow")
        options = {"batched": True, "batch_size": batch_size, "num_proc": num_proc}
        found = plain.map(retrieval, desc=f"Searching ({retrieval.source})", **options)
        mined[name] = found.map(selection, desc="Selecting negatives", **options).with_format(None)
    return DatasetDict(mined) if isinstance(pairs, DatasetDict) else mined[""]


def _check_processes(searcher: Any, num_proc: int | None) -> None:
    device = getattr(getattr(searcher, "encoder", None), "device", "cpu")
    if (num_proc or 1) > 1 and str(device).startswith("cuda"):
        raise ConfigError(
            f"num_proc={num_proc} with an encoder on {device}: workers cannot use CUDA. Use num_proc=1: the GPU is the "
            "fast part; or pass query_vector_column= with vectors you have."
        )


def known_positives(splits: list[Dataset], reader: Reader) -> KnownPositives | None:
    """The table of every known positive of every query over some datasets, built once; `None` if there is none.

    Args:
        splits (`list[Dataset]`): rows of pairs.
        reader (`Reader`): how they are read, and against which corpus.

    Raises:
        ColumnError, DataError: the rows cannot be read.
    """
    columns = reader.columns
    groups: list[np.ndarray] = []
    found: list[PositiveList] = []
    digests = []
    for split in splits:
        wanted = (columns.query, columns.query_id, columns.positive, columns.positive_ids)
        names = [name for name in wanted if name in split.column_names]
        plain = split.with_format("arrow", columns=names)
        if not len(split):
            continue
        digests.append(content_digest(plain, names))
    if not digests:
        raise ColumnError("The pairs are empty: 0 rows. Give a dataset with at least one query.")

    def read() -> None:
        for split in splits:
            for table in split.with_format("arrow").iter(batch_size=BATCH):
                rows = dict(zip(table.column_names, table.columns, strict=True))
                texts = rows[columns.query].to_pylist()
                ids = [str(one) for one in rows[columns.query_id].to_pylist()] if columns.query_id in rows else None
                listed = reader.listed_positives(rows, texts)
                for group in reader.groups(text_keys(texts, reader.keys.dedupe), ids):
                    groups.append(group[listed.query])
                    found.append(listed)

    def build(directory: Path) -> None:
        read()
        joined = PositiveList(
            query=np.concatenate([part.query for part in found]),
            key=np.concatenate([part.key for part in found]),
            row=np.concatenate([part.row for part in found]),
            text=[text for part in found for text in part.text],
        )
        save_known_positives(directory, np.concatenate(groups), joined)

    parameters = {
        "pairs": digests,
        "columns": [columns.query, columns.query_id, columns.positive, columns.positive_ids],
        "keys": reader.keys.directory.name,
        "dedupe": reader.keys.dedupe,
    }
    return KnownPositives(directory=store.obtain(reader.corpus.cache, "positives", parameters, build))
