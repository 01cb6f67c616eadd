"""Verdicts of people on mined negatives: read from their file, given to mining, reports and other tools."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.lists import flat, lengths, listed, ragged
from hf_hardneg.audits.verdict_log import HumanVerdict, keys_of_pairs, read_verdicts
from hf_hardneg.corpus.columns import DRAWN, VERDICTS, Columns
from hf_hardneg.corpus.ids import as_text
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.filters.denoised import Denoised
from hf_hardneg.reports.estimates import JUDGED, chances_of
from hf_hardneg.reports.report import readable_recipe
from hf_hardneg.runtime.arguments import Folder, checked
from hf_hardneg.store.disk import written
from hf_hardneg.text.hashes import NONE, normalized_keys, pair_keys

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000
NOBODY = "00000000-0000-0000-0000-000000000000"
"""The user to whom responses are ascribed; Argilla needs a UUID."""
QUESTION, ANSWERS = "relevance", ("not relevant", "relevant")
"""What Argilla asks, and what may be answered."""


class Verdicts:
    """What people said of (query, negative) pairs on the page of `review`; of each pair the last verdict counts.

    Args:
        path (`str` or `Path`): the file that a review writes, a line for each verdict.

    Raises:
        ConfigError: there is no such file.
        DataError: a line is no verdict.

    Example:
        >>> verdicts = Verdicts("verdicts.jsonl")
        >>> len(verdicts), verdicts.dataset["corpus-id"][:], verdicts.dataset["score"][:]
        (2, ['sunset', 'mars'], [0, 1])
        >>> again = mine(pairs, corpus, "bm25", num_negatives=2, known_positives=[pairs, verdicts.positives()])
        >>> again[0]["negative_ids"]
        ['sunset', 'blue whale']
        >>> print(report(verdicts.on(mined)).false_negatives)
        between 12.50 % and 87.50 %: 1 of 2 that people judged are relevant, and nothing tells of the others
    """

    @checked
    def __init__(self, path: Folder) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ConfigError(
                f"There is no file of verdicts {path}. Give one that review() or hf-hardneg review wrote."
            )
        every = read_verdicts(self.path)
        keys = keys_of_pairs([each.query for each in every], [each.document for each in every]).tolist()
        last = dict(zip(keys, every, strict=True))
        self._verdicts = {key: verdict for key, verdict in last.items() if verdict.score is not None}

    def __len__(self) -> int:
        return len(self._verdicts)

    def __iter__(self) -> Iterator[HumanVerdict]:
        return iter(self._verdicts.values())

    @property
    def dataset(self) -> Dataset:
        """The verdicts as qrels: `query-id`, `corpus-id` and `score`, with the texts `query` and `document`."""
        from datasets import Dataset

        columns = {
            "query-id": pa.array([each.query_id for each in self], pa.string()),
            "corpus-id": pa.array([each.corpus_id for each in self], pa.string()),
            "score": pa.array([each.score for each in self], pa.int64()),
            "query": pa.array([each.query for each in self], pa.string()),
            "document": pa.array([each.document for each in self], pa.string()),
        }
        return Dataset(pa.table(columns))

    @checked
    def positives(self, columns: Columns | None = None) -> Dataset:
        """Return the pairs that were judged relevant, for `known_positives=` of `mine`: none comes out as a negative.

        Args:
            columns (`Columns`, *optional*): as `mine` got them, whose names the rows have.
        """
        from datasets import Dataset

        names = PairColumns.of(columns)
        relevant = [each for each in self if each.score == 1]
        texts = {names.query: [each.query for each in relevant], names.positive: [each.document for each in relevant]}
        return Dataset(pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()}))

    @checked
    def on(self, mined: Dataset, *, columns: Columns | None = None) -> Dataset:
        """Return the mined rows with the verdicts on their negatives, which `report` and the card of a push read.

        Adds the columns `negative_verdicts` (1, 0, or null where nobody judged) and `negative_drawn` (whether a
        negative belongs to the random sample that was judged in the order "random sample").

        Args:
            mined (`Dataset`): what was reviewed, or was mined since.
            columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.

        Raises:
            ColumnError: it has no queries or negatives.
        """
        query = pair_columns(mined, columns).query
        table, scores = self._table()
        last_drawn = max((key for key, each in self._verdicts.items() if each.drawn), default=None)
        verdicts, drawn = [], []
        for rows in mined.with_format("arrow", columns=[query, "negatives"]).iter(BATCH):
            keys, counts = pair_keys_of(rows, query)
            place, is_judged = isin_sorted(keys, table)
            said = scores[place] if len(table) else np.zeros(len(keys), np.int8)
            verdicts.append(ragged(pa.array(said, mask=~is_judged), counts))
            is_drawn = keys <= np.uint64(last_drawn) if last_drawn is not None else np.zeros(len(keys), bool)
            drawn.append(ragged(pa.array(is_drawn), counts))
        bare = mined.remove_columns([name for name in (VERDICTS, DRAWN) if name in mined.column_names])
        kinds = {VERDICTS: (verdicts, pa.int8()), DRAWN: (drawn, pa.bool_())}
        for name, (parts, kind) in kinds.items():
            bare = bare.add_column(name, pa.chunked_array(parts, pa.list_(kind)))
        return bare

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys of judged pairs, ascending, and what was said of each."""
        keys = np.array(sorted(self._verdicts), np.uint64)
        return keys, np.array([self._verdicts[key].score for key in keys.tolist()], np.int8)

    @checked
    def to_argilla(self, path: Folder, mined: Dataset | None = None, *, columns: Columns | None = None) -> Path:
        """Write the verdicts as records of Argilla, one in each line, and return the path.

        A record has the fields `query` and `document`, and the response `relevance`, `"relevant"` or `"not relevant"`,
        by a user without a name; `rg.Record.from_dict` of Argilla 2 reads it.

        Args:
            path (`str` or `Path`): replaced where it exists.
            mined (`Dataset`, *optional*): adds records of its negatives that nobody judged, and as a suggestion what
                the model expects that denoised them, where one did.
            columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.

        Raises:
            ColumnError: the mined rows have no queries or negatives.
            StoreError: the disk refuses it.
        """
        with written(Path(path), other="path=") as partial, partial.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(record)}\n" for record in self._records(mined, columns))
        return Path(path)

    def _records(self, mined: Dataset | None, columns: Columns | None) -> Iterator[dict[str, Any]]:
        left = dict(self._verdicts)
        for key, query, document, chance in () if mined is None else _expected(mined, columns):
            yield _record(key, query, document, left.pop(key, None), chance)
        for key, verdict in left.items():
            yield _record(key, verdict.query, verdict.document, verdict, math.nan)


def _record(key: int, query: str, document: str, verdict: HumanVerdict | None, chance: float) -> dict[str, Any]:
    said, expected, known = {}, {}, {}
    if verdict is not None:
        said = {QUESTION: [{"value": ANSWERS[bool(verdict.score)], "user_id": NOBODY}]}
        known = {"query-id": verdict.query_id, "corpus-id": verdict.corpus_id or "", "at": verdict.at}
    if math.isfinite(chance):
        expected = {QUESTION: {"value": ANSWERS[chance >= 0.5], "score": chance, "agent": Denoised.name}}
    return {
        "id": f"{key:016x}",
        "fields": {"query": query, "document": document},
        "metadata": known,
        "suggestions": expected,
        "responses": said,
        "vectors": {},
    }


def _expected(mined: Dataset, columns: Columns | None) -> Iterator[tuple[int, str, str, float]]:
    """Yield every (query, negative) pair once: its key, its texts, and the probability by which it is relevant."""
    recipe, query = readable_recipe(mined), pair_columns(mined, columns).query
    names = [query, "negatives", *({JUDGED} & set(mined.column_names))]
    seen = {int(NONE)}
    for rows in mined.with_format("arrow", columns=names).iter(BATCH):
        keys, counts = pair_keys_of(rows, query)
        queries = as_text(rows.column(query), query).take(pa.array(np.repeat(np.arange(len(counts)), counts)))
        chances = np.full(len(keys), np.nan)
        if JUDGED in names:
            chances = chances_of(flat(listed(rows.column(JUDGED)), np.float64)[0], recipe)
        texts = listed(rows.column("negatives")).flatten()
        for key, asked, text, chance in zip(keys.tolist(), queries, texts, chances.tolist(), strict=True):
            if key not in seen:
                seen.add(key)
                yield key, asked.as_py(), text.as_py(), chance


def pair_columns(mined: Dataset, columns: Columns | None, what: str = "A review") -> PairColumns:
    """Name the columns of pairs in mined rows, which `what` needs: as they are told, else as the recipe says.

    Raises:
        ColumnError: the column of queries, or of negatives, is missing.
    """
    recipe = readable_recipe(mined)
    names = PairColumns.of(columns or (recipe.columns if recipe else None))
    missing = [each for each in (names.query, "negatives") if each not in mined.column_names]
    if missing:
        raise ColumnError(
            f"{what} needs {' and '.join(map(repr, missing))}, and the rows have "
            f"{', '.join(map(repr, mined.column_names))}. Give what mine() returned, or from_format(rows) of another "
            "layout, and name the column of queries with columns={'query': ...}."
        )
    return names


def pair_keys_of(rows: pa.Table, query: str) -> tuple[np.ndarray, np.ndarray]:
    """Key the (query, negative) pairs of some rows, (n,) uint64, and count the negatives of each row."""
    negatives = listed(rows.column("negatives"))
    counts = lengths(negatives)
    queries = normalized_keys(as_text(rows.column(query), query).cast(pa.large_string()))
    return pair_keys(np.repeat(queries, counts), normalized_keys(negatives.flatten().cast(pa.large_string()))), counts
