"""Recipes: a name or a `+` chain of names becomes one retriever, filters and a sampler. No algorithms here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import (
    FILTERS,
    AbsoluteMargin,
    ConsistentPositive,
    Denoised,
    Disagreement,
    Filter,
    NearQuery,
    RankWindow,
    RelativeMargin,
    ScoringFilter,
    SemiHard,
    TooSimilar,
)
from hf_hardneg.retrievers import BM25, Dense, Hybrid, LateInteraction, Random, Retriever, Sparse, check_retrievers
from hf_hardneg.retrievers.base import NAMING, TAKEN, Takes
from hf_hardneg.runtime.arguments import AtLeastOne, check_parts, checked
from hf_hardneg.samplers import (
    SAMPLERS,
    DistanceWeighted,
    Importance,
    Mixture,
    RankZone,
    Sampler,
    SimANS,
    Stratified,
    Top,
    TopicNegatives,
    Uniform,
    UnReMix,
)
from hf_hardneg.signals import Signal


@dataclass(frozen=True)
class Strategy:
    """What is retrieved, what is removed, and what is chosen.

    Args:
        retrievers (`Sequence[Retriever]`): one, or several whose union is taken, see `Hybrid`.
        filters (`Sequence[Filter]`): applied in this order, after the exclusion set.
        sampler (`Sampler`, defaults to `Top()`): chooses among what is left.

    Example:
        >>> Strategy([BM25(200)], [RankWindow(10)], RankZone(20, 80))
        Strategy(retrievers=(BM25(depth=200),), filters=(RankWindow(first=10),), sampler=RankZone(start=20, end=80))
    """

    retrievers: Sequence[Retriever]
    filters: Sequence[Filter] = ()
    sampler: Sampler = field(default_factory=Top)

    def __post_init__(self) -> None:
        for name in ("retrievers", "filters"):
            parts = getattr(self, name)
            if not isinstance(parts, Iterable) or isinstance(parts, str | Mapping):
                raise ConfigError(f"Strategy({name}={parts!r}) is no list; give [{parts!r}].")
            object.__setattr__(self, name, tuple(parts))
        if not self.retrievers:
            raise ConfigError("Strategy(retrievers=[]) finds nothing; give at least one, such as [BM25(100)].")
        check_retrievers(self.retrievers)
        check_parts(self.filters, "filter", "keep", "RankWindow(10)")
        check_parts([self.sampler], "sampler", "choose", "Top()")
        check_parts(self.signals, "signal", "uses_vectors", "PoolShare(SecondScore())")
        self._check_served(self.retriever)
        self._check_encoder(self.retriever)

    def _check_served(self, retriever: Retriever) -> None:
        """Raise where the retriever cannot do what a part asks of it."""
        self.sampler.check(retriever)
        for signal in self.signals:
            signal.check(retriever)
        if self.needs_positive and not retriever.can_score:
            raise ConfigError(
                f"{self!r} compares with the positive's score, but {retriever.name} retrieval scores nothing that is "
                "chosen for it. Use a bm25 or dense retriever, or drop that part."
            )

    def _check_encoder(self, retriever: Retriever) -> None:
        """Raise where parts would take one `encoder=` for models of different vectors."""
        takers = self._takers(retriever)
        if len(set(takers.values())) > 1:
            (name, takes), (other, others) = next(
                (first, second) for first in takers.items() for second in takers.items() if first[1] < second[1]
            )
            raise ConfigError(
                f"{name} would read the encoder= of this strategy as a model of {TAKEN[takes]}, {other} as one of "
                f"{TAKEN[others]}; one of both is allowed. Name the other: {NAMING[others]}."
            )

    def _takers(self, retriever: Retriever) -> dict[str, Takes]:
        """Which vectors each part takes of `encoder=` or columns."""
        takers = {part.name: part.takes for part in retriever.parts if part.uses_vectors}
        return takers | {part.name: part.takes() for part in self.signals if part.uses_vectors(retriever)}

    def __repr__(self) -> str:
        return (
            f"Strategy(retrievers=({''.join(concise(part) + ',' for part in self.retrievers)}), "
            f"filters=({''.join(concise(stage) + ',' for stage in self.filters)}), sampler={concise(self.sampler)})"
        )

    @property
    def retriever(self) -> Retriever:
        """The one retriever, or the union."""
        return self.retrievers[0] if len(self.retrievers) == 1 else Hybrid(self.retrievers)

    @property
    def uses_vectors(self) -> bool:
        """Whether documents and queries must have vectors."""
        retriever = self.retriever
        return retriever.uses_vectors or any(signal.uses_vectors(retriever) for signal in self.signals)

    @property
    def takes(self) -> Takes:
        """Which vectors documents and queries must have, and `encoder=` gives; `"dense"` where none are used."""
        return next(iter(self._takers(self.retriever).values()), "dense")

    @property
    def takes_dense(self) -> bool:
        """Whether documents and queries must have dense vectors."""
        return self.uses_vectors and self.takes == "dense"

    @property
    def is_ours(self) -> bool:
        """Whether no part is a class of the user's, of which nobody knows what it reads."""
        parts = (*self.retriever.parts, *self.filters, self.sampler, self.chooser, *self.signals)
        return all(type(part).__module__.startswith(f"{__package__}.") for part in parts)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What filters and the sampler must know of candidates, each once."""
        stages = (*self.filters, self.sampler)
        signals: dict[str, Signal] = {}
        for signal in (signal for stage in stages for signal in getattr(stage, "signals", ())):
            if signals.setdefault(signal.name, signal) != signal:
                raise ConfigError(
                    f"Two parts of a strategy read different {signal.name!r}: a signal of that name is kept once. Give "
                    "both the same view=, or drop one."
                )
        return tuple(signals.values())

    @property
    def drops_rows(self) -> bool:
        """Whether a filter leaves rows out."""
        return any(isinstance(stage, ConsistentPositive) and stage.drops_rows for stage in self.filters)

    @property
    def scoring(self) -> tuple[ScoringFilter, ...]:
        """The filters that score pairs of texts."""
        return tuple(stage for stage in self.filters if isinstance(stage, ScoringFilter))

    @property
    def unscored(self) -> Strategy:
        """The same without what scores pairs of texts."""
        filters = tuple(stage for stage in self.filters if not isinstance(stage, ScoringFilter))
        return replace(self, retrievers=[part.unscored for part in self.retrievers], filters=filters)

    @property
    def stops_early(self) -> bool:
        """Whether candidates beyond the best that pass the last filter cannot be chosen."""
        if not self.scoring or any(stage.exhaustive for stage in self.scoring):
            return False
        return self.filters[-1] is self.scoring[-1] and isinstance(self.chooser, Top)

    @property
    def chooser(self) -> Sampler:
        """What chooses among candidates, whatever a `Mixture` adds."""
        return self.sampler.of if isinstance(self.sampler, Mixture) else self.sampler

    @property
    def needs_positive(self) -> bool:
        """Whether a stage compares with the positive's score."""
        return self.sampler.needs_positive or any(stage.needs_positive for stage in self.filters)

    @checked
    def depth(self, num_negatives: AtLeastOne) -> int:
        """How many candidates to retrieve: the most any part needs, at least the request."""
        retriever = self.retriever
        parts: list[Filter | Sampler] = [*self.filters, self.sampler]
        return max(retriever.depth or 0, num_negatives, *(part.depth(num_negatives) for part in parts))


def concise(stage: object) -> str:
    """`repr` with only the fields that differ from their defaults."""
    from dataclasses import MISSING, fields

    shown = []
    for setting in (declared for declared in fields(stage) if declared.repr):  # type: ignore[arg-type]
        value = getattr(stage, setting.name)
        default = setting.default_factory() if setting.default_factory is not MISSING else setting.default
        if not _equal(value, default):
            shown.append(f"{setting.name}={value!r}")
    return f"{type(stage).__name__}({', '.join(shown)})"


def _equal(value: object, default: object) -> bool:
    try:
        return bool(value == default)
    except ValueError:  # arrays are compared value by value
        return False


VECTORS, ENCODING = "encoder or vectors", "encoding the corpus, once"


class NamedStrategy(NamedTuple):
    """An entry of the table of strategies, from which that of `docs/strategies.md` is made.

    Args:
        strategy (`Strategy`): the parts.
        does (`str`): which candidates become negatives.
        source (`str`): who proposed it.
        needs (`str`, defaults to vectors): besides the pairs and the corpus.
        cost (`str`, defaults to encoding): what most of the time goes to.
    """

    strategy: Strategy
    does: str
    source: str
    needs: str = VECTORS
    cost: str = ENCODING


NAMED: dict[str, NamedStrategy] = {
    "bm25": NamedStrategy(
        Strategy([BM25()]),
        "the best by BM25, of 100",
        "DPR, [2004.04906](https://arxiv.org/abs/2004.04906)",
        needs="-",
        cost="a BM25 search",
    ),
    "dense": NamedStrategy(
        Strategy([Dense()]), "the nearest vectors", "ANCE's candidates, [2007.00808](https://arxiv.org/abs/2007.00808)"
    ),
    "splade": NamedStrategy(
        Strategy([Sparse()]),
        "the best by learned sparse vectors, of 100",
        "SPLADE, [2109.10086](https://arxiv.org/abs/2109.10086)",
        needs="sparse encoder or vectors",
    ),
    "colbert": NamedStrategy(
        Strategy([LateInteraction()]),
        "the best by late interaction of token vectors, of 100",
        "ColBERT, [2004.12832](https://arxiv.org/abs/2004.12832)",
        needs="late-interaction model or vectors",
    ),
    "margin": NamedStrategy(
        Strategy([Dense()], [RankWindow(10, 200), AbsoluteMargin(0.05)]),
        "the nearest of ranks 10 to 200 without `s + 0.05 > s+`",
        "sentence-transformers' `absolute_margin`",
    ),
    "positive_aware": NamedStrategy(
        Strategy([Dense()], [RelativeMargin(0.05)]),
        "the nearest of at most 95 % of the positive's score",
        "NV-Retriever, [2407.15831](https://arxiv.org/abs/2407.15831)",
    ),
    "st": NamedStrategy(
        Strategy([Dense()], [RelativeMargin(0.05), RankWindow(10, 50, "survivors")]),
        "the same, without the 10 nearest of those",
        "documentation of sentence-transformers",
    ),
    "semi_hard": NamedStrategy(
        Strategy([Dense(200)], [SemiHard(0.1)]),
        "the nearest with `s+ - 0.1 < s < s+`",
        "FaceNet, [1503.03832](https://arxiv.org/abs/1503.03832)",
    ),
    "rank_zone": NamedStrategy(
        Strategy([Dense(200)], [], RankZone(50, 200)), "uniform draws from ranks 50 to 200", "practice"
    ),
    "simans": NamedStrategy(
        Strategy([Dense(200)], [], SimANS(score_scale="auto")),
        "draws by `exp(-0.5 z²)`, z being standard deviations from the positive's score",
        "SimANS, [2210.11773](https://arxiv.org/abs/2210.11773), rescaled for cosines",
    ),
    "importance": NamedStrategy(
        Strategy([Dense(200)], [], Importance(0.1)), "draws by `exp(s / 0.1)` from 200", "InfoNCE's weights"
    ),
    "stratified": NamedStrategy(
        Strategy([Dense(200)], [], Stratified()),
        "spread evenly over the scores of 200; of the denoiser in `denoised+stratified`",
        "[2604.04734](https://arxiv.org/abs/2604.04734)",
    ),
    "distance_weighted": NamedStrategy(
        Strategy([Dense(200)], [], DistanceWeighted(dim="intrinsic")),
        "draws whose distances spread evenly, from 200",
        "Wu et al., [1706.07567](https://arxiv.org/abs/1706.07567), in the dimension that vectors fill",
    ),
    "unremix": NamedStrategy(
        Strategy([Dense(200)], [], UnReMix()),
        "the most similar, uncertain and representative of 200",
        "UnReMix, [2206.01197](https://arxiv.org/abs/2206.01197), with weights of ours",
        cost=f"{ENCODING}; distances of each 200",
    ),
    "topic_negatives": NamedStrategy(
        Strategy([Dense(200)], [], TopicNegatives(100)),
        "uniform draws from the query's topic, one of 100, among 200",
        "what TAS-B, [2104.06967](https://arxiv.org/abs/2104.06967), is often taken for",
        needs=f"{VECTORS}; 100 queries",
        cost=f"{ENCODING}; k-means of queries",
    ),
    "ance_offline": NamedStrategy(
        Strategy([Dense(200)], [], Uniform(200)),
        "uniform draws from the 200 nearest: one refresh of ANCE, STAR or ADORE",
        "ANCE, [2007.00808](https://arxiv.org/abs/2007.00808)",
    ),
    "hybrid": NamedStrategy(
        Strategy([BM25(100), Dense(100)]),
        "the best of BM25 and vectors, by reciprocal rank fusion",
        "Cormack et al. 2009",
    ),
    "denoised": NamedStrategy(
        Strategy([BM25(100)], [Denoised()]),
        "the best by BM25 that a cross-encoder gives a probability below 0.1",
        "RocketQA, [2010.08191](https://arxiv.org/abs/2010.08191)",
        needs="cross-encoder",
        cost="scoring up to 50 pairs a query, once",
    ),
    "random": NamedStrategy(
        Strategy([Random()]), "uniform draws from the corpus", "the baseline", needs="-", cost="nothing"
    ),
}
"""Every strategy by its name. The first part of a `+` chain brings the retriever."""

STRATEGIES: dict[str, Strategy] = {name: entry.strategy for name, entry in NAMED.items()}

_OTHER_NAMES = {
    "bm25": "static_bm25 lexical sparse_static",
    "dense": "topk naive_topk",
    "splade": "sparse learned_sparse",
    "colbert": "late_interaction maxsim multi_vector",
    "denoised": "ce_denoise rocketqa",
    "positive_aware": "nv_retriever topk_percpos contrastors",
    "absolute_margin": "topk_marginpos",
    "synthetic": "syneg llm",
    "st": "sentence_transformers",
    "rank_zone": "ambiguous_zone ambiguous AmbiguousZoneSampler",
    "importance": "softmax_sampling importance_sampling",
    "distance_weighted": "wu2017 sampling_matters",
    "unremix": "undimix",
    "ance_offline": "adore_offline star_offline",
    "random": "uniform",
    "ance": "dynamic",
    "adore": "query_side",
    "in_batch": "inbatch in_batch_masked mnrl",
    "cross_batch": "cross_device gather_across_devices xbatch",
    "tas_balanced": "tasb topic_aware",
    "mochi": "mixgen",
}
ALIASES = {alias: name for name, aliases in _OTHER_NAMES.items() for alias in aliases.split()}
"""Other names in use for the same recipes."""

TRAINING_TIME = {
    "ance": ("searches again with every checkpoint", "ance_offline", "HardNegativePlugin"),
    "star": ("adds the other rows of a training batch to mined negatives", "ance_offline", "star_loss"),
    "adore": ("searches with the query encoder at every step", "adore_offline", "StepRetrieval"),
    "in_batch": ("takes the documents of the other rows of a training batch", "random", "cross_batch_loss"),
    "gist": ("masks the documents of a training batch with a guide model", "positive_aware", "Guide"),
    "cross_batch": ("takes the documents of all ranks' training batches", "random", "cross_batch_loss"),
    "tas_balanced": ("composes training batches of one topic", "topic_negatives", "TopicBatchSampler"),
    "mochi": ("mixes vectors of hard negatives within the loss", "dense", "MoCHi"),
}
"""Strategies of the trainer rather than the miner: what each does, the offline strategy that comes nearest, and which
name of `hf_hardneg.training` does it."""


SAFEGUARDS: tuple[type[Filter], ...] = (NearQuery, TooSimilar, Disagreement)
"""Filters that a strategy given by name begins with, as far as its retriever serves them (`safeguards_of`): against
unlabelled positives, without a model beyond the index. On Cranfield they take proven false negatives from 28 to 6 %
(`benchmarks/quality.py`)."""

REGISTERED = "hf_hardneg.retrievers"
"""Group of entry points under which packages name retrievers of theirs, which are then strategies too."""

AS_PUBLISHED = {"st"}
"""Names that stand for what another tool does, to the letter: they bring no safeguards."""


def resolve(strategy: str | Strategy, *, safeguards: bool = True, cross_encoder: Any = None) -> Strategy:
    """The strategy behind a name, a chain such as `"bm25+rank_zone"`, or a `Strategy`.

    The first part brings the retriever, all parts their filters from left to right, the last part that has another
    sampler than `Top` its sampler, to which `mixture` adds random documents. A part may also be the name of a filter or
    sampler, which is then as by default.

    Args:
        strategy (`str` or `Strategy`): a `Strategy` is returned as it is.
        safeguards (`bool`, defaults to `True`): whether a name also brings the `safeguards` of its retriever.
        cross_encoder (*optional*): a model; a strategy without a denoiser or a reranker then ends with a denoiser.

    Raises:
        UnknownNameError: a part is not known; names those that are, and the nearest.
        ConfigError: a part works during training only; names the offline strategy that comes nearest. Or it adds
            nothing, being a second retriever.
    """
    named = _named(strategy, safeguards)
    scores = any(part.scored_depth for part in named.retrievers)
    if cross_encoder is None or scores or any(isinstance(stage, Denoised) for stage in named.filters):
        return named
    return replace(named, filters=(*named.filters, Denoised()))


def _named(strategy: str | Strategy, safeguards: bool) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    if not isinstance(strategy, str):
        raise ConfigError(f"strategy= got a {type(strategy).__name__}; give a name such as 'bm25', or a Strategy.")
    names = [name.strip() for name in strategy.split("+")]
    parts = [_part(name) for name in names]
    for name, part in zip(names[1:], parts[1:], strict=True):
        if ALIASES.get(name, name) in STRATEGIES and not part.filters and isinstance(part.sampler, Top):
            raise ConfigError(
                f"{name!r} adds nothing to {strategy!r}: the first part brings the retriever, later ones filters and a "
                "sampler. Drop it; for the best of several retrievers use 'hybrid', or Strategy([BM25(), Dense()])."
            )
    filters = [stage for part in parts for stage in part.filters]
    guarded = safeguards and AS_PUBLISHED.isdisjoint(ALIASES.get(name, name) for name in names)
    first = safeguards_of(parts[0].retriever) if guarded else ()
    named = {type(stage) for stage in filters}
    return Strategy(
        parts[0].retrievers,
        [*(stage for stage in first if type(stage) not in named), *filters],
        _last([part.sampler for part in parts]),
    )


def _last(samplers: Sequence[Sampler]) -> Sampler:
    """The last of several samplers that is not `Top`, within the last `Mixture` where there is one."""
    others = [sampler for sampler in samplers if not isinstance(sampler, Top | Mixture)]
    chooser = others[-1] if others else Top()
    mixtures = [sampler for sampler in samplers if isinstance(sampler, Mixture)]
    return replace(mixtures[-1], of=chooser) if mixtures else chooser


def safeguards_of(retriever: Retriever) -> tuple[Filter, ...]:
    """The `SAFEGUARDS` that a retriever serves: none where nothing is scored, the second view where a model encodes."""
    if retriever.score_kind == "none":
        return ()
    similar = (TooSimilar(),) if retriever.can_score else ()
    learned = retriever.has_vectors or retriever.score_kind in ("sparse", "maxsim")
    return (NearQuery(), *similar, *((Disagreement(),) if learned else ()))


def _part(name_or_alias: str) -> Strategy:
    name = ALIASES.get(name_or_alias, name_or_alias)
    if name == "synthetic":
        raise ConfigError(
            f"Strategy {name_or_alias!r} retrieves nothing: its negatives are written by a model. Mine with "
            f"{', '.join(sorted(STRATEGIES))}, then mined.map(SyntheticNegatives(...), batched=True)."
        )
    if name in TRAINING_TIME:
        does, near, instead = TRAINING_TIME[name]
        raise ConfigError(
            f"Strategy {name_or_alias!r} {does}, so nothing can be mined for it beforehand; a miner takes "
            f"{', '.join(sorted(STRATEGIES))}. Use {near!r}, which comes nearest, or train with "
            f"hf_hardneg.training.{instead}."
        )
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name in FILTERS:
        return Strategy([Dense()], [FILTERS[name]()])
    if name in SAMPLERS:
        return Strategy([Dense()], [], SAMPLERS[name]())
    registered = entry_points(group=REGISTERED)
    if name in registered.names:
        return Strategy([registered[name].load()()])
    raise unknown_name("strategy", name_or_alias, [*STRATEGIES, *registered.names])


def table() -> str:
    """Every strategy as a Markdown table, the one in `docs/strategies.md`."""
    lines = ["| name | negatives | needs | cost | source |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {entry.does} | {entry.needs} | {entry.cost} | {entry.source} |" for name, entry in NAMED.items()
    ]
    return "\n".join(lines)
