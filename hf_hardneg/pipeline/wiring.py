"""From a strategy and what a user gives to the stages of mining, each bound to what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.documents import id_column_of, open_corpus
from hf_hardneg.corpus.positives import corpus_keys
from hf_hardneg.corpus.queries import PairColumns, Reader, known_positives_of, no_ids
from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.filters import ContainsAnswer, Disagreement, Filter, SameParent, ScoringFilter
from hf_hardneg.identity import identify, is_of_user
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.pipeline.filtering import Aggregate, Filtering, MissingPositive
from hf_hardneg.pipeline.padding import Shortage
from hf_hardneg.pipeline.readable import check_words, images_in
from hf_hardneg.pipeline.rescoring import Rescoring
from hf_hardneg.pipeline.retrieval import Retrieval
from hf_hardneg.pipeline.selection import Selection
from hf_hardneg.retrievers import Searcher, Sources, bound
from hf_hardneg.retrievers.attach import missing_vectors
from hf_hardneg.retrievers.base import TAKEN
from hf_hardneg.retrievers.stores.attached import attached_words
from hf_hardneg.retrievers.stores.drivers import is_document_store
from hf_hardneg.samplers import Mixture
from hf_hardneg.signals import Context
from hf_hardneg.strategies import Strategy
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    from datasets import Dataset

OF_VECTORS = ("encoder", "index")
"""Inputs that are passed for vectors alone; names of columns say what the data hold, whatever reads them."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What mining reads; see `HardNegatives`."""

    corpus: Dataset
    columns: Columns
    encoder: Any
    cross_encoder: Any
    index: Any
    known_positives: Sequence[Dataset]
    cache_dir: Any


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What mining goes by besides a strategy; see `HardNegatives`."""

    num_negatives: int
    symmetric: bool | None
    positive_agg: Aggregate
    dedupe: Dedupe
    on_missing_positive_score: MissingPositive
    on_shortage: Shortage
    seed: int


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages of mining, and the strategy whose parts are fitted to the index and the models."""

    strategy: Strategy
    retrieval: Retrieval
    rescoring: Rescoring
    selection: Selection


def stages_of(strategy: Strategy, inputs: Inputs, rules: Rules) -> Stages:
    """The stages in the order of a batch: read, retrieve, rescore, filter and sample.

    Raises:
        ConfigError: the parts do not fit together; before anything is built.
    """
    strategy = _with_column_filters(strategy, inputs.columns)
    _check(strategy, inputs, rules)
    reader = _reader(strategy, inputs, rules)
    sources = Sources.of(inputs.corpus, reader.corpus, {**vars(inputs), "seed": rules.seed})
    searcher = bound(strategy.retriever, sources)
    scorers = {stage.name: stage.bind(sources) for stage in strategy.scoring}
    strategy = _fitted(strategy, searcher, scorers, len(reader.corpus))
    context = Context(sources=sources, searcher=searcher, reader=reader, known=inputs.known_positives)
    signals = {signal.name: signal.bind(context) for signal in strategy.signals}
    strategy = replace(
        strategy, filters=[each.fitted() if isinstance(each, Disagreement) else each for each in strategy.filters]
    )
    strict = [signal.name for stage in strategy.filters if stage.strict for signal in stage.signals]
    filtering = Filtering(
        filters=tuple(strategy.filters),
        positive_agg=rules.positive_agg,
        on_missing_positive_score=rules.on_missing_positive_score,
        seed=rules.seed if rules.positive_agg == "random" else None,
    )
    retrieval = Retrieval(
        reader=reader, searcher=searcher, depth=strategy.depth(rules.num_negatives), code=_code(strategy)
    )
    rescoring = Rescoring(
        reader=reader,
        signals=signals,
        codes={signal.name: identify(signal, what="signal") for signal in strategy.signals},
        filtering=filtering,
        scorers=scorers,
        enough=rules.num_negatives if strategy.stops_early else None,
        score_kind=searcher.score_kind,
        sources=searcher.sources,
    )
    selection = Selection(
        reader=reader,
        filtering=filtering,
        sampler=strategy.sampler,
        num_negatives=rules.num_negatives,
        on_shortage=rules.on_shortage,
        seed=rules.seed,
        score_kind=searcher.score_kind,
        sources=searcher.sources,
        search_recall=searcher.recall,
        strict={name: signals[name] for name in strict},
    )
    return Stages(strategy=strategy, retrieval=retrieval, rescoring=rescoring, selection=selection)


def _with_column_filters(strategy: Strategy, columns: Columns) -> Strategy:
    """The strategy with the filters that named columns ask for, first."""
    added: list[Filter] = [ContainsAnswer()] if "answer" in columns else []
    if "parent" in columns:
        added.append(SameParent(columns["parent"]))
    return replace(strategy, filters=(*(stage for stage in added if stage not in strategy.filters), *strategy.filters))


def _check(strategy: Strategy, inputs: Inputs, rules: Rules) -> None:
    """Raise for inputs that are missing or without use, and a padding that draws from nothing; warn of no mixture."""
    check_words(strategy, images_in(inputs.corpus, inputs.known_positives, inputs.columns))
    check_vectors(strategy, vars(inputs))
    drawn = strategy.sampler.drawn(rules.num_negatives)
    if isinstance(strategy.sampler, Mixture) and drawn in (0, rules.num_negatives):
        warn(
            f"{strategy.sampler!r} rounds to {drawn} random documents of num_negatives={rules.num_negatives}, so "
            f"nothing is mixed: {'all' if drawn else 'none'} are random. Give more negatives, or another share=."
        )
    depth = strategy.depth(rules.num_negatives)
    if rules.on_shortage == "pad_tail" and not any(stage.scored_depth < depth for stage in strategy.scoring):
        raise ConfigError(
            "on_shortage='pad_tail' draws from candidates too deep to be scored, and no filter scores fewer than "
            f"the {depth} of {strategy!r}. Retrieve deeper than the scored_depth of a Denoised, or pad "
            "with 'pad_next' or 'pad_random'."
        )


def check_vectors(strategy: Strategy, options: Mapping[str, Any]) -> None:
    """Raise for a strategy whose vectors come from nowhere, and for what gives vectors that it does not use."""
    of_vectors = [name for name in OF_VECTORS if options.get(name) is not None]
    columns = options.get("columns") or ()
    parts = [part for part in strategy.retriever.parts if part.searches_elsewhere and part.uses_vectors]
    if parts or is_document_store(options.get("index")):  # documents have vectors there, queries need some
        has_vectors = options.get("encoder") is not None or "query_vector" in columns
    else:
        has_vectors = bool(of_vectors) or "vector" in columns
    if strategy.uses_vectors and not has_vectors:
        raise missing_vectors(repr(strategy))
    if strategy.takes != "dense" and options.get("index") is not None:
        raise ConfigError(
            f"index= brings dense vectors or words, and {strategy!r} reads {TAKEN[strategy.takes]}; encoder= or "
            "columns={'vector': ...} are allowed. Drop index=, or choose 'dense'."
        )
    if of_vectors and not strategy.uses_vectors and strategy.is_ours and not _searches_attached(strategy, options):
        raise ConfigError(
            f"{', '.join(f'{name}=' for name in of_vectors)} would change nothing: {strategy!r} uses no vectors; "
            "'dense', 'hybrid' and the filter Disagreement() do. Drop it, or choose one of those."
        )


def _searches_attached(strategy: Strategy, options: Mapping[str, Any]) -> bool:
    """Whether `index=` is an index of words that is attached to the corpus, and the strategy searches words."""
    words = any(part.score_kind == "bm25" for part in strategy.retriever.parts)
    return words and attached_words(options.get("corpus"), options.get("index")) is not None


def _reader(strategy: Strategy, inputs: Inputs, rules: Rules) -> Reader:
    """What reads the pairs: the corpus and the known positives, opened; all columns are checked before."""
    columns = PairColumns.of(inputs.columns)
    if rules.symmetric and not inputs.known_positives:
        raise ConfigError(
            "symmetric=True reads pairs in both directions and got none: a row alone does not know the others. Use "
            "mine(), or pass known_positives=, the datasets whose pairs count."
        )
    for rows in inputs.known_positives:
        columns.check_table(dict(zip(rows.column_names, rows.features.arrow_schema.empty_table().columns, strict=True)))
        naming = columns.naming_documents(rows.column_names)
        if naming and id_column_of(inputs.corpus, inputs.columns.get("id")) is None:
            raise no_ids(naming[0], inputs.corpus.column_names)
    strategy.sampler.check_known(inputs.known_positives, columns, rules.dedupe)
    corpus = open_corpus(inputs.corpus, columns=inputs.columns, cache_dir=inputs.cache_dir)
    keys = corpus_keys(corpus, rules.dedupe)
    parts: Any = (strategy.retriever, *strategy.filters)
    words = next((part.name for part in parts if "query" in getattr(part, "needs_words", ())), "")
    reader = Reader(corpus=corpus, keys=keys, columns=columns, symmetric=bool(rules.symmetric), words_of_queries=words)
    if not inputs.known_positives:
        return reader
    return replace(reader, known=known_positives_of(inputs.known_positives, reader))


def _fitted(strategy: Strategy, searcher: Searcher, scorers: Mapping[str, PairScorer], documents: int) -> Strategy:
    """The strategy with what its filters and its sampler take from the models and the index."""
    filters = [
        stage.fitted(scorers[stage.name]) if isinstance(stage, ScoringFilter) else stage for stage in strategy.filters
    ]
    retrievers = [part.fitted() for part in strategy.retrievers]
    return replace(
        strategy, retrievers=retrievers, filters=filters, sampler=strategy.sampler.fitted(searcher, documents)
    )


def _code(strategy: Strategy) -> tuple[str, ...]:
    """What identifies the code of retrievers of the user's own."""
    retriever = strategy.retriever
    members = (retriever, *(part for part in retriever.parts if part is not retriever))
    return tuple(identify(part, what="retriever") for part in members if is_of_user(type(part)))
