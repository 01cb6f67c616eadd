"""A mining job before it runs: its arguments, the parts that the cache has, and the stages that are left."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import Corpus, open_corpus, text_columns_of
from hf_hardneg.corpus.pictures import are_pictures
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.corpus.queries import strings
from hf_hardneg.errors import silenced
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.models.score_store import ENTRY
from hf_hardneg.pipeline.readable import check_words, images_in, without_words
from hf_hardneg.pipeline.wiring import check_vectors
from hf_hardneg.planning.costs import Law, Stage, over_documents, over_rows, proportional, sorting
from hf_hardneg.planning.probes import (
    FEW,
    QUERIES,
    STANDS,
    EncodeRate,
    Sample,
    Stand,
    encode_rate,
    measured,
    samples,
    score_rate,
    search_rate,
    spread,
)
from hf_hardneg.retrievers import (
    BM25,
    Dense,
    LateInteraction,
    Retriever,
    Searcher,
    Sources,
    Sparse,
    bound,
    dense_part,
)
from hf_hardneg.retrievers.attach import load
from hf_hardneg.retrievers.base import Takes
from hf_hardneg.retrievers.stores.drivers import document_store_of
from hf_hardneg.store import directories
from hf_hardneg.strategies import Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset


T = TypeVar("T")

TEXTS = 4096
CORPUS_OPTIONS = ("columns", "cache_dir")

RECIPE_OPTIONS = ("safeguards", "cross_encoder")
"""Options that change what a name stands for."""
NOT_ON_SAMPLES = ("index", "encoder", "cross_encoder", "known_positives")
CEILING = {
    "byte": 5e-7,  # of a text: its key, its terms
    "document": 1e-5,
    "encode": 0.1,  # a text: a small model on one processor
    "score": 0.1,  # a pair of texts, likewise
    "row": 2e-3,
    "bm25": 5e-9,  # a document and a query
    "dense": 1e-7,
    "sparse": 5e-8,
    "late_interaction": 2e-5,
    "random": 0.0,
    "asked": 0.05,  # a query that a document store answers
}
"""Seconds that a unit of work hardly exceeds; they only tell which jobs are too short to be worth measuring."""
TAKING: dict[Takes, type[Retriever]] = {"dense": Dense, "sparse": Sparse, "tokens": LateInteraction}
"""The retriever that takes each kind of vectors."""


@dataclass(frozen=True, kw_only=True)
class Cached:
    """The parts of a job that the cache has.

    Args:
        keys, positives (`bool`): the text keys of the corpus, the known positives of the pairs.
        searcher (`Searcher`, *optional*): over the index, where there is one.
        vectors (`float`): the share of the corpus that needs no encoding.
    """

    keys: bool = False
    positives: bool = False
    searcher: Searcher | None = None
    vectors: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MiningJob:
    """The arguments of `mine`, with the corpus opened and the model at hand.

    Args:
        dataset (`Dataset`), corpus (`Corpus`): the documents, as the user has them and opened.
        strategy (`Strategy`): resolved.
        options (`Mapping`): further arguments of `HardNegatives`.
        encoder (`Encoder` or the like, *optional*): of a strategy with vectors.
        images (`Mapping[str, str]`): the sides that are images, and their columns.
        reading, loading (`float`): seconds it took to open the corpus, and to load the model.
    """

    dataset: Dataset
    corpus: Corpus
    strategy: Strategy
    options: Mapping[str, Any]
    encoder: Any
    images: Mapping[str, str]
    reading: float
    loading: float

    @classmethod
    def open(
        cls,
        dataset: Dataset,
        strategy: str | Strategy,
        options: Mapping[str, Any],
        splits: Sequence[Dataset] = (),
    ) -> MiningJob:
        """Make a job of the arguments of `mine`; it reads the corpus once and builds nothing."""
        described = {name: options[name] for name in CORPUS_OPTIONS if name in options}
        corpus, reading = measured(lambda: open_corpus(dataset, **described))
        recipe = resolve(strategy, **{name: options[name] for name in RECIPE_OPTIONS if name in options})
        pairs = [*splits, *(options.get("known_positives") or ())]
        images = images_in(dataset, pairs, options.get("columns") or Columns())
        recipe = without_words(recipe, strategy, images)
        check_words(recipe, images)
        check_vectors(recipe, options)
        recipe, options = _with_one_encoder(recipe, options)
        opening = functools.partial(load, options.get("encoder"), corpus, recipe.takes)
        encoder, loading = measured(lambda: opening() if recipe.uses_vectors else None)
        return cls(
            dataset=dataset,
            corpus=corpus,
            strategy=recipe,
            options=options,
            encoder=encoder,
            images=images,
            reading=reading.wall,
            loading=loading.wall,
        )

    @property
    def _columns(self) -> Columns:
        return self.options.get("columns") or Columns()

    def look_up(self, splits: Sequence[Dataset]) -> Cached:
        """Look up what the cache has; nothing is built, but a FAISS index of the user's is copied into the cache."""
        index, vectors = self.options.get("index"), self._columns.get("vector")
        sources = self._sources()
        with directories.without_building():
            keys = _there(lambda: corpus_keys(self.corpus, self.options.get("dedupe", "normalized")))
        opens = index is not None or any(part.searches_elsewhere for part in self.strategy.retriever.parts)
        with contextlib.nullcontext() if opens else directories.without_building():
            searcher = _there(lambda: bound(self.strategy.unscored.retriever, sources))
            beside = self.strategy.uses_vectors and searcher is not None and not searcher.has_vectors
            other = TAKING[self.strategy.takes]()
            second = _there(lambda: other.bind(sources)) if beside else searcher
        miner = None
        if keys is not None and searcher is not None:
            known = [*splits, *self.options.get("known_positives", ())]
            options = {**self.options, "encoder": self.encoder, "known_positives": known}
            with directories.without_building(), silenced():
                miner = _there(lambda: HardNegatives(self.dataset, self.strategy, **options))
        encoded = 1.0
        if second is None and vectors is None and self.encoder is not None:
            from hf_hardneg.models.vector_models import VECTOR_MODELS

            of_corpus = VECTOR_MODELS[self.strategy.takes].of_corpus
            encoded = min(1.0, of_corpus(self.corpus, self.encoder).finished() / len(self.corpus))
        return Cached(keys=keys is not None, positives=miner is not None, searcher=searcher, vectors=encoded)

    def _sources(self) -> Sources:
        return Sources.of(self.dataset, self.corpus, {**self.options, "encoder": self.encoder})

    def ceiling(self, splits: Sequence[Dataset]) -> float:
        """Return seconds that the rest of the job hardly exceeds."""
        return ceiling(self.dataset, sum(map(len, splits)), self.strategy, self.options, self.look_up(splits))

    def stages(self, splits: Sequence[Dataset]) -> tuple[tuple[Stage, ...], tuple[int, int]]:
        """Measure the stages on samples; return them in order, and documents and pairs of the largest sample."""
        cached, pairs = self.look_up(splits), max(splits, key=len)
        encodes = self.encoder is not None and "query_vector" not in self._columns
        queries = self._rate("query", self._queries(pairs)) if encodes else None
        documents = self._rate("document", self._documents()) if cached.vectors < 1 else None
        stand_in = self._stand_in(cached, documents or queries)
        start, taken = samples(
            self.corpus,
            self.dataset,
            pairs,
            _on_samples(self.strategy.unscored),
            stand_in,
            grow=not cached.keys or cached.searcher is None,
        )
        last = taken[-1]
        if last.outside and documents is None and queries is not None:
            documents = self._rate("document", self._documents())
        start += self.loading + sum(rate.load for rate in (queries, documents) if rate is not None)
        stages = [
            Stage(name="load libraries", wall=Law(fixed=start), basis="measured; once in a process"),
            Stage(name="read corpus", wall=Law(fixed=self.reading), basis="measured on all of it; once in a process"),
            self._built("text keys", taken, sorting, "n log n", cached.keys),
        ]
        if documents is not None and cached.vectors < 1:
            stages.append(_encoding_corpus(documents, cached.vectors))
        stages += [
            self._built("build index", taken, over_documents, "linear", cached.searcher is not None),
            _known_positives(last, reused=cached.positives),
        ]
        if queries is not None:
            stages.append(_encoding_queries(queries, documents, last.outside))
        writing = _per_row("write", last)
        if not pairs.cache_files:
            writing = replace(writing, disk=Law(), basis=f"{writing.basis}; stays in memory, as the pairs do")
        scoring = self._scoring(pairs)
        stages += [*self._searching(cached, taken, queries), *scoring, _per_row("select", last), writing]
        return tuple(stages), (last.documents, last.rows)

    def _scoring(self, pairs: Dataset) -> list[Stage]:
        """Estimate what scoring pairs costs at most: filters stop where enough candidates have passed."""
        sources, stages = self._sources(), []
        scorers = [(stage.scored_depth, stage.bind(sources)) for stage in self.strategy.scoring]
        rerankers = [part for part in self.strategy.retrievers if part.scored_depth]
        for depth, scorer in [*((part.scored_depth, part.bind_scorer(sources)) for part in rerankers), *scorers]:
            rate = score_rate(scorer, self._queries(pairs), self._documents())
            each = depth + 1
            how = f"measured on {rate.texts} pairs; at most {each} for each query"
            stages.append(
                Stage(
                    name="score pairs",
                    wall=Law(fixed=rate.load, row=each * rate.wall),
                    cpu=Law(row=each * rate.cpu),
                    slower=rate.slower,
                    memory=Law(fixed=rate.memory),
                    disk=Law(row=each * ENTRY.itemsize),
                    basis=how,
                    in_workers=True,
                )
            )
        return stages

    def _queries(self, pairs: Dataset) -> list[str]:
        name = self._columns.get("query", "query")
        if name not in pairs.column_names:
            raise missing_column(name, pairs.column_names, "dataset", "query")
        column = pairs.with_format("arrow", columns=[name])[spread(len(pairs), QUERIES)][name]
        return strings(column, name) if are_pictures(column.type) else column.to_pylist()

    def _documents(self) -> list[str]:
        return self.corpus.contents(spread(len(self.corpus), TEXTS))

    def _rate(self, kind: Literal["query", "document"], texts: list[str]) -> EncodeRate:
        return encode_rate(self.encoder, texts, kind=kind)

    def _stand_in(self, cached: Cached, encoded: EncodeRate | None) -> dict[str, Any]:
        """Return options for samples, with vectors that are as wide as the real ones and take no time."""
        options = {name: value for name, value in self.options.items() if name not in NOT_ON_SAMPLES}
        if not self.strategy.uses_vectors:
            return options
        if encoded is not None:
            return {**options, "encoder": STANDS[self.strategy.takes](encoded.vectors)}
        part = None if cached.searcher is None else dense_part(cached.searcher)
        return options if part is None else {**options, "encoder": Stand(width=part.index.query_width)}

    def _built(self, name: str, taken: list[Sample], law: Callable[..., Law], grows: str, reused: bool) -> Stage:
        last = taken[-1].documents
        how = f"measured on {last:,} documents" + (f", {grows}" if last < len(self.corpus) else "")
        points = {what: _points(taken, name, what) for what in ("wall", "memory", "disk")}
        return Stage(
            name=name,
            wall=law(points["wall"]),
            slower=taken[-1].costs[name].slower,
            memory=proportional(points["memory"]),
            disk=proportional(points["disk"]),
            basis=how,
            left=0.0 if reused else 1.0,
        )

    def _searching(self, cached: Cached, taken: list[Sample], encoded: EncodeRate | None) -> list[Stage]:
        """Estimate opening the index and searching it, on the index itself where it exists, else on samples."""
        last = taken[-1]
        cost, inner = last.costs["search"], last.costs["inner search"]
        laws: dict[str, Any]
        mapped = proportional(_points(taken, "build index", "disk"))
        memory = replace(mapped, row=cost.memory / last.rows)
        disk = Law(row=cost.disk / last.rows)
        if cached.searcher is None:
            how = f"{last.rows:,} queries on {last.documents:,} documents"
            laws = {what: over_rows(_points(taken, "search", what, per_row=True)) for what in ("wall", "cpu")}
            if last.documents < len(self.corpus):
                how += f", by their number to the power {laws['wall'].power:.2f}"
            laws = {**laws, "slower": cost.slower, "memory": memory, "disk": disk}
            return [Stage(name="search", **laws, basis=how, in_workers=True)]
        queries = last.queries
        if encoded is not None:
            queries = replace(queries, vectors=encoded.vectors)
        depth = self.strategy.depth(self.options.get("num_negatives", 4))
        opened, rate, count = search_rate(cached.searcher, queries, depth)
        size, around = len(self.corpus), cost.less(inner)
        laws = {
            what: Law(row=getattr(around, what) / last.rows, pair=getattr(rate, what) / size)
            for what in ("wall", "cpu")
        }
        laws = {**laws, "slower": rate.slower, "memory": memory, "disk": disk}
        how = f"{count:,} queries on the index itself"
        return [
            Stage(name="open index", wall=Law(fixed=opened), basis="measured; once in a process"),
            Stage(name="search", **laws, basis=how, in_workers=True),
        ]


def ceiling(
    dataset: Dataset, rows: int, strategy: Strategy, options: Mapping[str, Any], cached: Cached | None = None
) -> float:
    """Return seconds that a job hardly exceeds, from its sizes alone.

    Args:
        dataset (`Dataset`), rows (`int`), strategy (`Strategy`), options (`Mapping`): the job.
        cached (`Cached`, *optional*): what is built already; by default nothing is.
    """
    cached = cached or Cached()
    columns = options.get("columns") or Columns()
    names = text_columns_of(dataset, columns.get("text"))
    size = sum(dataset.data.column(name).nbytes for name in names if name in dataset.column_names)
    kind, documents = strategy.unscored.retriever.name, len(dataset)
    reading = CEILING["byte"] * size + CEILING["document"] * documents
    seconds = reading * ((not cached.keys) + (cached.searcher is None))
    if strategy.uses_vectors and options.get("encoder") is not None:
        encoded = 0 if "vector" in columns else documents * (1 - cached.vectors)
        seconds += CEILING["encode"] * (encoded + (0 if "query_vector" in columns else rows))
    depths = [*(stage.scored_depth for stage in strategy.scoring), *(part.scored_depth for part in strategy.retrievers)]
    seconds += CEILING["score"] * rows * sum(depth + 1 for depth in depths if depth)
    asks = document_store_of(options.get("index")) or any(part.searches_elsewhere for part in strategy.retriever.parts)
    seconds += CEILING["asked"] * rows * bool(asks)
    deep = max(1.0, strategy.depth(options.get("num_negatives", 4)) / 100)
    return seconds + rows * (CEILING["row"] * deep + CEILING.get(kind, CEILING["dense"]) * documents)


def _with_one_encoder(strategy: Strategy, options: Mapping[str, Any]) -> tuple[Strategy, Mapping[str, Any]]:
    """The strategy and options with the only model, where a part names it, as `encoder=`, which is measured."""
    kinds = tuple(TAKING.values())
    named = [part for part in strategy.retrievers if isinstance(part, kinds) and getattr(part, "encoder", None)]
    if strategy.uses_vectors or len(named) != 1:
        return strategy, options
    alone: Any = named[0]
    parts = [replace(part, encoder=None) if part is alone else part for part in strategy.retrievers]
    return replace(strategy, retrievers=parts), {**options, "encoder": alone.encoder}


def _on_samples(strategy: Strategy) -> Strategy:
    """The strategy with our own search in the place of a document store's, which cannot search a part of its own."""

    def part_of(part: Retriever) -> Retriever:
        if not part.searches_elsewhere:
            return part
        return Dense(part.depth) if part.uses_vectors else BM25(part.depth or 100)

    parts = {part.name: part for part in (each.with_parts(part_of) for each in strategy.retrievers)}
    return replace(strategy, retrievers=tuple(parts.values()))


def _there(look: Callable[[], T]) -> T | None:
    try:
        return look()
    except directories.NotPublished:
        return None


def _points(taken: list[Sample], name: str, what: str, *, per_row: bool = False) -> list[tuple[int, float]]:
    return [(part.documents, getattr(part.costs[name], what) / (part.rows if per_row else 1)) for part in taken]


def _known_positives(last: Sample, *, reused: bool) -> Stage:
    """Estimate the look-up of known positives from few pairs and all of a sample, which tell what is paid once."""
    first, cost = last.costs["first positives"], last.costs["known positives"]
    line = over_documents([(min(FEW, last.rows), first.wall), (last.rows, cost.wall)])
    return replace(
        _per_row("known positives", last),
        wall=Law(fixed=line.fixed, row=line.document),
        in_workers=False,
        left=0.0 if reused else 1.0,
    )


def _per_row(name: str, last: Sample) -> Stage:
    cost, how = last.costs[name], f"measured on {last.rows:,} pairs, linear"
    laws: Any = {what: Law(row=getattr(cost, what) / last.rows) for what in ("wall", "cpu", "memory", "disk")}
    return Stage(name=name, **laws, slower=cost.slower, basis=how, in_workers=True)


def _encoding_corpus(rate: EncodeRate, encoded: float) -> Stage:
    return Stage(
        name="encode corpus",
        wall=Law(document=rate.wall),
        slower=rate.slower,
        memory=Law(fixed=rate.memory),
        basis=f"measured on {rate.texts} texts stratified by length, linear",
        left=1.0 - encoded,
    )


def _encoding_queries(queries: EncodeRate, documents: EncodeRate | None, outside: float) -> Stage:
    each, slower = {what: getattr(queries, what) for what in ("wall", "cpu")}, queries.slower
    how = f"measured on {queries.texts} queries stratified by length, linear"
    if documents is not None and outside:
        each = {what: value + outside * getattr(documents, what) for what, value in each.items()}
        slower = max(slower, documents.slower)
        how += f"; with {outside:.2f} positives outside the corpus each"
    laws: dict[str, Any] = {what: Law(row=value) for what, value in each.items()}
    laws = {**laws, "slower": slower, "memory": Law(fixed=queries.memory)}
    return Stage(name="encode queries", **laws, basis=how, in_workers=True)
