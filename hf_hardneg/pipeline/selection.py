"""Selection: filters, sampler and shortage rules over candidates, and the columns that come out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.arrays.lists import ragged
from hf_hardneg.candidates import Candidates
from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.columns import DRAWN, PSEUDO, VERDICTS
from hf_hardneg.corpus.queries import Names, Reader
from hf_hardneg.draws import keyed_uniforms_of_pairs
from hf_hardneg.errors import ColumnError
from hf_hardneg.filters import ConsistentPositive, Filter, ScoringFilter
from hf_hardneg.identity import identify
from hf_hardneg.pipeline.filtering import Filtering
from hf_hardneg.pipeline.found import COUNTS, Found
from hf_hardneg.pipeline.padding import Chosen, Padding, Shortage
from hf_hardneg.runtime.process import in_threads
from hf_hardneg.samplers import Sampler, Uniforms
from hf_hardneg.signals import BoundSignal
from hf_hardneg.store.mapped_memory import release

DRAWS = 10_000
OF_OTHER_STEPS = ("reader", "sources", "strict")
"""Fields that the identities of the steps before cover."""
OF_BEFORE = (*PSEUDO, "synthesis", VERDICTS, DRAWN)
WRITTEN = (
    "negatives",
    "negative_ids",
    "negative_scores",
    "negative_ranks",
    "negative_sources",
    "positive_scores",
    "mining",
)
"""Columns that every strategy writes."""
INCONSISTENT = "inconsistent"
"""The count of `mining`, 0 or 1, that says whether a row's positives score too low, where a filter judges rows."""
ROW = "row of the pairs"
"""Beside what is selected where rows may be dropped: which row each was."""
_SCORED = re.compile("negative_(.+)_scores")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The second half of mining, itself a map callable over the columns that `Retrieval` added.

    Args:
        reader (`Reader`): reads the batch.
        filtering (`Filtering`): the filters, applied first.
        sampler (`Sampler`): chooses among what is left.
        num_negatives (`int`): at most so many.
        on_shortage, seed: see `HardNegatives`.
        score_kind (`str`), sources (`tuple[str, ...]`): of the retriever that made the columns.
        search_recall (`float`, *optional*): of its search, where that is approximate.
        generation (`int`, *optional*): of refreshed negatives; each draws anew.
        strict (`Mapping[str, BoundSignal]`, *optional*): what strict filters read, to pad with random documents.
    """

    reader: Reader
    filtering: Filtering
    sampler: Sampler
    num_negatives: int
    on_shortage: Shortage
    seed: int
    score_kind: str
    sources: tuple[str, ...]
    search_recall: float | None = None
    generation: int | None = None
    strict: Mapping[str, BoundSignal] = field(default_factory=dict)

    @property
    def drops_rows(self) -> bool:
        """Whether a rule may leave rows out."""
        rules = (self.on_shortage, self.filtering.on_missing_positive_score)
        return "drop_row" in rules or any(stage.drops_rows for stage in self._of_rows)

    @property
    def _of_rows(self) -> list[ConsistentPositive]:
        """The filters that judge rows."""
        return [stage for stage in self.filtering.filters if isinstance(stage, ConsistentPositive)]

    @property
    def identity(self) -> dict[str, Any]:
        """What the choice depends on, besides the candidates, as plain values."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in OF_OTHER_STEPS}
        sampler = [self.sampler.name, identify(self.sampler, what="sampler")]
        rows = {"rows": "numbered"} if self.drops_rows else {}
        return {**parts, **rows, "filtering": self.filtering.identity, "sampler": sampler}

    def __call__(self, batch: Any) -> Any:
        """The `table` of a batch that has candidates."""
        rows = Batch.of(batch, self.reader.columns.query)
        retrieved = Found.from_columns(rows.columns, score_kind=self.score_kind, sources=self.sources)
        random = self.on_shortage == "pad_random" or self.sampler.drawn(self.num_negatives)
        needed = self.reader.read if random else self.reader.names
        return self.table(rows, retrieved, self.choose(retrieved, needed(rows.columns)))

    def table(self, rows: Batch, retrieved: Found, chosen: Chosen) -> pa.Table:
        """The columns of mined data alone; where rules drop rows, of those left, with `ROW`."""
        added = self.columns(rows, retrieved, chosen)
        if self.drops_rows:
            stays = pa.array(chosen.stays)
            added = {name: values.filter(stays) for name, values in {ROW: rows.columns[ROW], **added}.items()}
        release(rows.columns.values())
        return pa.table(added)

    def choose(self, retrieved: Found, queries: Names) -> Chosen:
        """The negatives of a batch; to add random ones, `queries` must be `Queries`, with the exclusion sets.

        Raises:
            ConfigError: a filter compares with a positive's score and there is none.
            DataError: too few, and `on_shortage="error"`.
        """
        everything = candidates = self.filtering.anchored(retrieved, queries)
        removed: dict[str, np.ndarray] = {}
        promoted = None
        for stage, before, candidates in self.filtering.passing(everything, queries):
            if isinstance(stage, ScoringFilter) and stage.promotes:
                promoted = before.take(stage.promoted(before))
            removed[_fresh(stage.name, removed)] = before.counts() - candidates.counts()
        self.filtering.check(self.sampler.name, self.sampler.needs_positive, candidates, queries)
        uniforms, sampler = self._uniforms(queries), self.sampler.at(self.generation or 0)
        taken = candidates.take(sampler.choose(candidates, self.num_negatives, uniforms))
        removed["not_chosen"] = candidates.counts() - taken.counts()
        spare = self.filtering.tail(everything, queries) if self.on_shortage == "pad_tail" else everything
        chosen = Chosen.of(taken, removed, promoted)
        if drawn := self.sampler.drawn(self.num_negatives):
            removed_at = np.ones(len(everything), bool)
            removed_at[candidates.rows_in(everything)] = False
            chosen = self._padding.mixed(chosen, drawn, everything.take(removed_at), queries)
        chosen = self._padding.relieve(chosen, spare, queries, uniforms)
        for rule in self._of_rows:
            rows = rule.inconsistent(everything, retrieved.listed, retrieved.listed_counts)
            chosen = replace(chosen, inconsistent=rows if chosen.inconsistent is None else rows | chosen.inconsistent)
        return replace(chosen, stays=self._staying(chosen, np.isnan(candidates.positive)))

    def _uniforms(self, queries: Names) -> Uniforms:
        """Keyed draws for the candidates of a batch."""

        def uniforms(salt: str, drawn: Candidates) -> np.ndarray:
            salt = salt if self.generation is None else f"{salt}@{self.generation}"

            def part(rows: slice) -> np.ndarray:
                query, ids = drawn.query[rows], self.reader.corpus.ids(drawn.doc[rows])
                first, last = query[[0, -1]] if len(query) else (0, -1)
                named = queries.identity[first : last + 1]
                return keyed_uniforms_of_pairs(self.seed, salt, named, query - first, ids)

            return np.concatenate(in_threads(part, len(drawn), at_least=DRAWS))

        return uniforms

    @property
    def _padding(self) -> Padding:
        return Padding(
            rule=self.on_shortage,
            size=self.num_negatives,
            filters=self.filtering.filters,
            signals=self.strict,
            reader=self.reader,
            seed=self.seed,
            generation=self.generation,
        )

    def _staying(self, chosen: Chosen, unscored: np.ndarray) -> np.ndarray:
        compares = self.sampler.needs_positive or any(stage.needs_positive for stage in self.filtering.filters)
        stays = np.ones(len(chosen.counts), bool)
        if compares and self.filtering.on_missing_positive_score == "drop_row":
            stays &= ~unscored
        if self.on_shortage == "drop_row":
            stays &= chosen.counts >= self.num_negatives
        if chosen.inconsistent is not None and any(rule.drops_rows for rule in self._of_rows):
            stays &= ~chosen.inconsistent
        return stays

    def emit(self, rows: Batch, retrieved: Found, chosen: Chosen) -> Any:
        """The batch in the form it came, with the columns of mined data."""
        added = self.columns(rows, retrieved, chosen)
        if chosen.stays.all():
            return rows.with_columns(added, removed=replaced(rows.columns))
        added = {name: values.filter(pa.array(chosen.stays)) for name, values in added.items()}
        return rows.with_columns(added, removed=replaced(rows.columns), keep=chosen.stays)

    def columns(self, rows: Batch, retrieved: Found, chosen: Chosen) -> dict[str, pa.Array]:
        """The columns of mined data, one value for each row of the batch."""
        texts = self.reader.corpus.texts(chosen.doc)
        short = np.maximum(self.num_negatives - chosen.kept, 0)
        counts = {name: retrieved.counts[:, place] for place, name in enumerate(COUNTS)}
        counts["retrieved"] = counts["retrieved"] + chosen.drawn
        counts |= {**chosen.removed, "kept": chosen.kept, "short": short}
        added: dict[str, pa.Array] = {}
        positives = self.reader.positive_texts(rows.columns)
        if positives is not None:
            added[self.reader.columns.positive] = positives
        added |= {
            "negatives": ragged(texts, chosen.counts),
            "negative_ids": ragged(self.reader.corpus.ids(chosen.doc), chosen.counts),
            "negative_scores": ragged(_nullable(chosen.score), chosen.counts),
            "negative_ranks": ragged(pa.array(chosen.rank.astype(np.int32)), chosen.counts),
            "negative_sources": ragged(pa.array(chosen.source.tolist(), pa.string()), chosen.counts),
            "positive_scores": ragged(_nullable(retrieved.listed), retrieved.listed_counts),
        }
        for name, values in retrieved.listed_signals.items():
            added[f"negative_{name}_scores"] = ragged(_nullable(chosen.signals[name]), chosen.counts)
            added[f"positive_{name}_scores"] = ragged(_nullable(values), retrieved.listed_counts)
        if chosen.promoted is not None:
            docs, sizes = chosen.promoted.doc, chosen.promoted.counts()
            added["pseudo_positives"] = ragged(self.reader.corpus.texts(docs), sizes)
            added["pseudo_positive_ids"] = ragged(self.reader.corpus.ids(docs), sizes)
        if chosen.inconsistent is not None:
            counts[INCONSISTENT] = chosen.inconsistent
        added["mining"] = self._mining(counts)
        return added

    def _mining(self, counts: dict[str, np.ndarray]) -> pa.StructArray:
        fields = {name: pa.array(values.astype(np.int32)) for name, values in counts.items()}
        if self.search_recall is not None:
            fields["search_recall"] = pa.array(np.full(len(counts["kept"]), self.search_recall, np.float32))
        return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def written(filters: Sequence[Filter]) -> tuple[str, ...]:
    """The columns that mining with some filters writes, besides the texts of positives that are given as ids."""
    scoring = [stage for stage in filters if isinstance(stage, ScoringFilter)]
    scores = [f"{side}_{stage.name}_scores" for stage in scoring for side in ("negative", "positive")]
    return (*WRITTEN, *scores, *(PSEUDO if any(stage.promotes for stage in scoring) else ()))


def check_own(present: Collection[str], names: Sequence[str], counted: Collection[str]) -> None:
    """Raise where a user's own column would be overwritten; what an earlier mining wrote is replaced.

    Args:
        present (`Collection[str]`): columns of the pairs.
        names (`Sequence[str]`): columns that mining writes.
        counted (`Collection[str]`): the counts in their column `mining`.

    Raises:
        ColumnError: naming the columns and what to do.
    """
    mined_names = [name for name in names if name in present]
    is_mined = all(name in present for name in WRITTEN) and {*COUNTS, "kept", "short"} <= set(counted)
    if mined_names and not is_mined:
        raise ColumnError(
            f"The pairs have {', '.join(map(repr, mined_names))}, which mining writes; columns of these names may "
            f"only stand there as mining left them, all of {', '.join(WRITTEN)}. Rename yours with rename_column(), or "
            "leave them out with remove_columns()."
        )


def replaced(columns: Collection[str]) -> tuple[str, ...]:
    """Which columns tell of negatives mined before, and that mining may not write again."""
    if "mining" not in columns:
        return ()
    scored = [match[1] for match in map(_SCORED.fullmatch, columns) if match]
    pairs = ((f"negative_{name}_scores", f"positive_{name}_scores") for name in scored)
    of_scoring = [name for pair in pairs if pair[1] in columns for name in pair]
    return (*of_scoring, *(name for name in OF_BEFORE if name in columns))


def _nullable(scores: np.ndarray) -> pa.Array:
    """Scores as float32, null where NaN."""
    return pa.array(scores.astype(np.float32), mask=np.isnan(scores))


def _fresh(name: str, taken: dict[str, np.ndarray]) -> str:
    number = 2
    fresh = name
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh
