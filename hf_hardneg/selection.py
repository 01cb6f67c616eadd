"""Selection: filters, sampler and shortage rules over candidates, and the columns that come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from hf_hardneg.batches import Batch, ragged
from hf_hardneg.candidates import Candidates
from hf_hardneg.draws import keyed_uniforms_of_pairs
from hf_hardneg.errors import DataError
from hf_hardneg.filtering import Filtering
from hf_hardneg.filters import ScoringFilter
from hf_hardneg.pages import release
from hf_hardneg.process import in_threads
from hf_hardneg.queries import Names, Queries, Reader
from hf_hardneg.rescoring import OF_CANDIDATES, OF_POSITIVES, with_columns
from hf_hardneg.retrieval import COLUMNS, COUNTS, Found, from_columns
from hf_hardneg.retrievers import RandomSearcher
from hf_hardneg.samplers import Sampler

DRAWS = 10_000

Shortage = Literal["keep_fewer", "drop_row", "pad_next", "pad_random", "error"]
SHORTAGE: tuple[Shortage, ...] = ("keep_fewer", "drop_row", "pad_next", "pad_random", "error")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The negatives of a batch, flat, by query.

    Args:
        counts (`np.ndarray`): (queries,) how many each has.
        doc (`np.ndarray`): (n,) corpus rows.
        score (`np.ndarray`): (n,) float32, NaN where nothing was scored.
        rank (`np.ndarray`): (n,) int32 raw ranks, -1 where it was not retrieved.
        source (`np.ndarray`): (n,) strings: the retriever, `"pad_next"` or `"pad_random"`.
        signals (`Mapping[str, np.ndarray]`): (n,) what rescoring said of those that were chosen.
        removed (`dict[str, np.ndarray]`): (queries,) candidates that each stage removed, by its name.
        kept (`np.ndarray`): (queries,) how many were chosen before any padding.
        stays (`np.ndarray`): (queries,) whether the row stays in the output.
        promoted (`Candidates`, *optional*): what comes out as pseudo-positives, where that was asked for.
    """

    counts: np.ndarray
    doc: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    source: np.ndarray
    signals: Mapping[str, np.ndarray]
    removed: dict[str, np.ndarray]
    kept: np.ndarray
    stays: np.ndarray
    promoted: Candidates | None = None


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

    @property
    def drops_rows(self) -> bool:
        """Whether a rule may leave rows out."""
        return "drop_row" in (self.on_shortage, self.filtering.on_missing_positive_score)

    @property
    def identity(self) -> dict[str, Any]:
        """What the choice depends on, besides the candidates, as plain values."""
        from datasets.fingerprint import Hasher

        parts = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("reader", "sources")
        }
        stages = {name: parts.pop(name) for name in ("filtering", "sampler")}
        return {**parts, "stages": repr(stages), "content": Hasher.hash(stages)}

    def __call__(self, batch: Any) -> Any:
        """The columns of mined data for a batch that has candidates; all its columns where a rule may drop rows."""
        rows = Batch.of(batch, self.reader.columns.query)
        found = from_columns(rows.columns, score_kind=self.score_kind, sources=self.sources)
        found = with_columns(found, rows.columns)
        needed = self.reader.read if self.on_shortage == "pad_random" else self.reader.names
        chosen = self.choose(found, needed(rows.columns))
        made = self.emit(rows, found, chosen) if self.drops_rows else pa.table(self.columns(rows, found, chosen))
        release(rows.columns.values())
        return made

    def choose(self, found: Found, queries: Names) -> Chosen:
        """The negatives of a batch; to pad with random ones, `queries` must be `Queries`, with the exclusion sets.

        Raises:
            ConfigError: a filter compares with a positive's score and there is none.
            DataError: too few, and `on_shortage="error"`.
        """
        candidates = self.filtering.anchored(found)
        removed: dict[str, np.ndarray] = {}
        promoted = None
        for stage in self.filtering.filters:
            if isinstance(stage, ScoringFilter) and stage.promotes:
                promoted = candidates.take(stage.promoted(candidates))
            before, candidates = candidates.counts(), candidates.take(self.filtering.keep(stage, candidates, queries))
            removed[_fresh(stage.name, removed)] = before - candidates.counts()
        self.filtering.check(self.sampler.name, self.sampler.needs_positive, candidates, queries)

        def uniforms(salt: str, drawn: Candidates) -> np.ndarray:
            salt = salt if self.generation is None else f"{salt}@{self.generation}"

            def part(rows: slice) -> np.ndarray:
                query, ids = drawn.query[rows], self.reader.corpus.ids(drawn.doc[rows])
                first, last = query[[0, -1]] if len(query) else (0, -1)
                named = queries.identity[first : last + 1]
                return keyed_uniforms_of_pairs(self.seed, salt, named, query - first, ids)

            return np.concatenate(in_threads(part, len(drawn), at_least=DRAWS))

        taken = candidates.take(self.sampler.choose(candidates, self.num_negatives, uniforms))
        removed["not_chosen"] = candidates.counts() - taken.counts()
        chosen = self._relieve(_as_chosen(taken, removed), found, queries)
        return replace(chosen, promoted=promoted, stays=self._staying(chosen, np.isnan(candidates.positive)))

    def _staying(self, chosen: Chosen, unscored: np.ndarray) -> np.ndarray:
        compares = self.sampler.needs_positive or any(stage.needs_positive for stage in self.filtering.filters)
        stays = np.ones(len(chosen.counts), bool)
        if compares and self.filtering.on_missing_positive_score == "drop_row":
            stays &= ~unscored
        if self.on_shortage == "drop_row":
            stays &= chosen.counts >= self.num_negatives
        return stays

    def _relieve(self, chosen: Chosen, found: Found, queries: Names) -> Chosen:
        short = np.flatnonzero(chosen.counts < self.num_negatives)
        if not len(short) or self.on_shortage in ("keep_fewer", "drop_row"):
            return chosen
        if self.on_shortage == "error":
            row = int(short[0])
            raise DataError(
                f"{len(short)} queries of this batch have fewer than num_negatives={self.num_negatives}, such as "
                f"{queries.texts[row][:60]!r} with {int(chosen.counts[row])}. "
                "Retrieve deeper, loosen the filters, or use on_shortage='keep_fewer'."
            )
        if self.on_shortage == "pad_next":
            return _joined(chosen, self._next(found, chosen, short))
        return _joined(chosen, self._random(cast(Queries, queries), chosen, short))

    def _next(self, found: Found, chosen: Chosen, short: np.ndarray) -> Chosen:
        """The best-ranked candidates that filters removed."""
        candidates = found.candidates
        owner = np.repeat(np.arange(len(chosen.counts)), chosen.counts)
        size = len(self.reader.corpus)
        free = ~np.isin(candidates.query * size + candidates.doc, owner * size + chosen.doc)
        rest = candidates.take(free & np.isin(candidates.query, short))
        missing = self.num_negatives - chosen.counts
        picked = rest.take(rest.survivor_position() < missing[rest.query])
        return replace(_as_chosen(picked, {}), source=np.full(len(picked), "pad_next"))

    def _random(self, queries: Queries, chosen: Chosen, short: np.ndarray) -> Chosen:
        """Random documents outside the exclusion set."""
        searcher = RandomSearcher(self.reader.corpus, self.seed)
        owner = np.repeat(np.arange(len(chosen.counts)), chosen.counts)
        docs: list[np.ndarray] = []
        counts = np.zeros(len(chosen.counts), np.int64)
        for query in short:
            keys = queries.excluded_key[queries.excluded_query == query]
            banned = np.concatenate([keys, self.reader.keys.of_rows(chosen.doc[owner == query])])
            missing = self.num_negatives - chosen.counts[query]
            drawn = searcher.search(queries.identity, np.array([query]), np.array([missing + 2 * len(banned) + 8])).doc
            own = self.reader.keys.of_rows(drawn)
            first = np.zeros(len(drawn), bool)
            first[np.unique(own, return_index=True)[1]] = True
            docs.append(drawn[first & ~np.isin(own, banned)][:missing])
            counts[query] = len(docs[-1])
        flat = np.concatenate(docs)
        return Chosen(
            counts=counts,
            doc=flat,
            score=np.full(len(flat), np.nan, np.float32),
            rank=np.full(len(flat), -1, np.int32),
            source=np.full(len(flat), "pad_random"),
            signals={name: np.full(len(flat), np.nan) for name in chosen.signals},
            removed={},
            kept=counts,
            stays=np.ones(len(counts), bool),
        )

    def emit(self, rows: Batch, found: Found, chosen: Chosen) -> Any:
        """The batch in the form it came, with the columns of mined data."""
        added = self.columns(rows, found, chosen)
        if chosen.stays.all():
            return rows.with_columns(added, removed=_intermediate(rows))
        added = {name: values.filter(pa.array(chosen.stays)) for name, values in added.items()}
        return rows.with_columns(added, removed=_intermediate(rows), keep=chosen.stays)

    def columns(self, rows: Batch, found: Found, chosen: Chosen) -> dict[str, pa.Array]:
        """The columns of mined data, one value for each row of the batch."""
        texts = self.reader.corpus.texts(chosen.doc)
        short = np.maximum(self.num_negatives - chosen.kept, 0)
        counts = {name: found.counts[:, place] for place, name in enumerate(COUNTS)}
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
            "positive_scores": ragged(_nullable(found.listed), found.listed_counts),
        }
        for name, values in found.listed_signals.items():
            added[f"negative_{name}_scores"] = ragged(_nullable(chosen.signals[name]), chosen.counts)
            added[f"positive_{name}_scores"] = ragged(_nullable(values), found.listed_counts)
        if chosen.promoted is not None:
            docs, sizes = chosen.promoted.doc, chosen.promoted.counts()
            added["pseudo_positives"] = ragged(self.reader.corpus.texts(docs), sizes)
            added["pseudo_positive_ids"] = ragged(self.reader.corpus.ids(docs), sizes)
        added["mining"] = self._mining(counts)
        return added

    def _mining(self, counts: dict[str, np.ndarray]) -> pa.StructArray:
        fields = {name: pa.array(values, pa.int32()) for name, values in counts.items()}
        if self.search_recall is not None:
            fields["search_recall"] = pa.array(np.full(len(counts["kept"]), self.search_recall, np.float32))
        return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def _intermediate(rows: Batch) -> tuple[str, ...]:
    """The columns of the steps before."""
    signals = (name for name in rows.columns if name.startswith((OF_CANDIDATES, OF_POSITIVES)))
    return (*COLUMNS, *signals)


def _nullable(scores: np.ndarray) -> pa.Array:
    """Scores as float32, null where NaN."""
    return pa.array(scores.astype(np.float32), mask=np.isnan(scores))


def _fresh(name: str, taken: dict[str, np.ndarray]) -> str:
    number = 2
    fresh = name
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh


def _as_chosen(candidates: Candidates, removed: dict[str, np.ndarray]) -> Chosen:
    scored = candidates.score_kind != "none"
    score = candidates.score.astype(np.float32) if scored else np.full(len(candidates), np.nan, np.float32)
    return Chosen(
        counts=candidates.counts(),
        doc=candidates.doc,
        score=score,
        rank=candidates.rank,
        source=np.array(candidates.sources)[candidates.source],
        signals=candidates.signals,
        removed=removed,
        kept=candidates.counts(),
        stays=np.ones(candidates.queries, bool),
    )


def _joined(first: Chosen, second: Chosen) -> Chosen:
    owner = np.concatenate([np.repeat(np.arange(len(one.counts)), one.counts) for one in (first, second)])
    order = np.argsort(owner, kind="stable")
    flat: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])[order]
        for name in ("doc", "score", "rank", "source")
    }
    signals = {name: np.concatenate([first.signals[name], second.signals[name]])[order] for name in first.signals}
    return replace(first, counts=first.counts + second.counts, signals=signals, **flat)
