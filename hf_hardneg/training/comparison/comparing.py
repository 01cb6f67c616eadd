"""`compare` mines with every strategy, trains with the negatives of each, and says which of them trained best."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_hardneg.audits import Judge, Verdicts, audit
from hf_hardneg.audits.judging import Share
from hf_hardneg.corpus.columns import VERDICTS, Columns
from hf_hardneg.corpus.documents import rows_digest
from hf_hardneg.corpus.queries import PairColumns, query_keys
from hf_hardneg.errors import ConfigError, check_keywords, silenced
from hf_hardneg.formats.loaded import JobInputs
from hf_hardneg.formats.loading import opened
from hf_hardneg.formats.scanned import check_searchable
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives, usable
from hf_hardneg.identity import one_run
from hf_hardneg.models.encoder import TransformersEncoder, load_encoder
from hf_hardneg.models.forward import resolved_device
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.pipeline.wiring import check_vectors
from hf_hardneg.planning.plans import guard
from hf_hardneg.recipes.recipe import Recipe, attach
from hf_hardneg.reports.estimates import numbers
from hf_hardneg.retrievers import Dense
from hf_hardneg.retrievers.base import NAMING, TAKEN, Searcher, vector_part
from hf_hardneg.runtime.arguments import Folder, Processes, check_options, checked
from hf_hardneg.runtime.progress import bar, show
from hf_hardneg.steps import BATCH, Steps
from hf_hardneg.store import directories
from hf_hardneg.strategies import Strategy, resolve
from hf_hardneg.text.keys import Dedupe
from hf_hardneg.training.comparison.hidden_positives import HiddenPositives
from hf_hardneg.training.comparison.ranking_task import RankingTask
from hf_hardneg.training.comparison.strategy_comparison import NO_NEGATIVES, Contender, StrategyComparison
from hf_hardneg.training.comparison.trainees import (
    DOCUMENT,
    QUERY,
    StoredVectors,
    Trainee,
    projection_of,
    whole_model_of,
)
from hf_hardneg.training.comparison.trials import ROUNDS, Row, Trial, TrialRunner, Trials, identity_of
from hf_hardneg.training.similarity import SIMILARITIES, Similarity

if TYPE_CHECKING:
    from datasets import Dataset
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import Documents, MinerOptions, PairRows

DOZEN = (
    "random",
    "bm25",
    "dense",
    "hybrid",
    "positive_aware",
    "st",
    "semi_hard",
    "rank_zone",
    "simans",
    "importance",
    "ance_offline",
)
"""The strategies that are compared where none are named, and `BARE`."""
BARE = "dense without safeguards"
JUDGED = ("dense+denoised", "hybrid+denoised")
"""And with a cross-encoder these."""


@with_options_of(HardNegatives)
@checked
def compare(
    pairs: PairRows,
    corpus: Documents | None = None,
    *,
    strategies: Sequence[str | Strategy] | Mapping[str, str | Strategy] | None = None,
    model: Any = None,
    trials: Trials | None = None,
    judge: Any = None,
    verdicts: Folder | None = None,
    num_proc: Processes | None = None,
    confirm_cost: bool = False,
    known_positives: Sequence[Dataset] = (),
    **options: Unpack[MinerOptions],
) -> StrategyComparison:
    """Compare strategies by what their negatives train: mine with each, train alike, and rank held-out queries.

    Everything happens on the pairs that are there: each round holds out a third of their queries, trains with the
    negatives of the others, and measures nDCG@10 on the third. What was mined and every single training are stored, so
    that another strategy or seed costs itself alone, and a comparison that was stopped goes on.

    Beside every strategy stands a training without mined negatives, whose batches hold the other rows' documents alone.
    By default a projection of the model's vectors is trained, in seconds; `Trials(learner="model")` trains the model.

    Args:
        pairs, corpus (`Dataset` or whatever holds them): as for `mine`; of several splits of pairs, `train`.
        strategies (`Sequence` or `Mapping`, *optional*): names and `Strategy` objects, or these by names of yours. By
            default a dozen, and two more that a `cross_encoder` judges.
        model (*optional*): the encoder that is to be trained, as `encoder=` of `mine`, and what dense strategies mine
            with unless `encoder=` says otherwise. Without it, the `encoder`, or the vectors that `columns` name.
        trials (`Trials`, *optional*): how to train.
        judge (*optional*): estimates false negatives, see `audit`.
        verdicts (`str` or `Path`, *optional*): what people said of negatives in a review: false ones are counted.
        num_proc, confirm_cost, known_positives: as for `mine`.
        options: every other argument of `mine`. A `cross_encoder` judges in strategies that have a denoiser.

    Raises:
        ConfigError: arguments that cannot work, before anything is mined.
        DataError: too few queries, or none with an answer in the corpus.

    Example:
        >>> from hf_hardneg.training import Trials
        >>> quick = Trials(seeds=1, rounds=1, epochs=1)
        >>> compared = compare(pairs, corpus, strategies=["bm25", "random"], model=model, trials=quick)
        >>> sorted(line.name for line in compared.lines)
        ['bm25', 'no mined negatives', 'random']
    """
    check_keywords("compare()", options, OPTIONS)
    check_options("compare", HardNegatives, options)
    settings: dict[str, Any] = {**options, "num_negatives": options.get("num_negatives", 4)}
    named = _named(strategies, settings)
    _check(
        settings,
        {name: resolve(each, safeguards=settings.get("safeguards", True)) for name, each in named.items()},
        model,
    )
    asked = judge if judge is None or isinstance(judge, Judge) else Judge(judge)
    said = None if verdicts is None else Verdicts(verdicts)
    if model is not None and settings.get("encoder") is None:
        settings["encoder"] = model
    how = _How(trials=trials or Trials(), judge=asked, verdicts=said, num_proc=num_proc)
    with one_run(), directories.verifying(settings.get("verify") is True):
        job = _opened(pairs, corpus, named, settings)
        contest = Contest.of(job, how, model, settings, confirm_cost, known_positives)
        contest.guard(named.values(), confirm_cost)
        return contest.result(named)


def _named(strategies: Any, options: Mapping[str, Any]) -> dict[str, str | Strategy]:
    """Name every strategy, and raise for one that does not exist.

    Raises:
        ConfigError: there are none, two of one name, or something else than strategies.
        UnknownNameError: there is no such strategy.
    """
    if strategies is None:
        judged = JUDGED if options.get("cross_encoder") is not None else ()
        strategies = {**{name: name for name in (*DOZEN, *judged)}, BARE: Strategy([Dense()])}
    if isinstance(strategies, Mapping):
        labelled = list(strategies.items())
    else:
        labelled = [(each if isinstance(each, str) else repr(each), each) for each in strategies]
    names = [name for name, _ in labelled]
    wrong = [name for name in names if not isinstance(name, str) or not name.strip() or name == NO_NEGATIVES]
    if not labelled or wrong or len(set(names)) < len(names):
        raise ConfigError(
            f"compare(strategies=) names {', '.join(map(repr, names)) or 'none'}; allowed is at least one strategy, "
            f"each under a name of its own, and {NO_NEGATIVES!r} stands beside them anyway. Give such as "
            "['bm25', 'dense'], or {'deep': Strategy([BM25(500)])}."
        )
    for name, strategy in labelled:
        resolved = resolve(strategy, safeguards=options.get("safeguards", True))
        judges = (*resolved.scoring, *resolved.retriever.parts)
        if options.get("cross_encoder") is None and any(getattr(part, "model", "") is None for part in judges):
            raise ConfigError(
                f"compare(strategies=) has {name!r}, in which a cross-encoder judges, and no cross_encoder=. Give it, "
                "or leave that strategy out."
            )
    return dict(labelled)


def _check(options: Mapping[str, Any], resolved: Mapping[str, Strategy], model: Any) -> None:
    """Raise for options with which strategies cannot be compared, and for models that nothing would use."""
    for name in ("on_shortage", "on_missing_positive_score"):
        if options.get(name) == "drop_row":
            raise ConfigError(
                f"compare({name}='drop_row') would train each strategy on other rows, and a comparison trains all on "
                "the same. Leave it out: rows without negatives are trained on with the documents of their batch."
            )
    if dropping := [name for name, strategy in resolved.items() if strategy.drops_rows]:
        raise ConfigError(
            f"compare(strategies=) has {dropping[0]!r}, which leaves rows out, and a comparison trains all strategies "
            'on the same ones. Give it ConsistentPositive(on_inconsistent="keep"), or leave such rows out of the pairs.'
        )
    _check_kinds(options, resolved, model)
    used = {
        "encoder": model is None or any(strategy.uses_vectors for strategy in resolved.values()),
        "cross_encoder": any(map(_is_judged, resolved.values())),
    }
    for name, is_used in used.items():
        if options.get(name) is not None and not is_used:
            raise ConfigError(
                f"compare({name}=) would change nothing: no strategy that is compared uses it. Leave it out, or add "
                "one that does, such as 'dense' or 'dense+denoised'."
            )


def _check_kinds(options: Mapping[str, Any], resolved: Mapping[str, Strategy], model: Any) -> None:
    """Raise where a model of dense vectors would be one of other vectors too."""
    others = [name for name, strategy in resolved.items() if strategy.takes != "dense"]
    dense = [repr(name) for name, strategy in resolved.items() if strategy.takes_dense]
    if model is None or options.get("encoder") is None:
        dense = ["the training", *dense]
    if others and dense:
        takes = resolved[others[0]].takes
        raise ConfigError(
            f"compare(strategies=) has {others[0]!r}, which reads {TAKEN[takes]}, and {dense[0]} would read dense "
            "ones of the same model or columns; one of both is allowed. Name the other model in its strategy: "
            f"{{{others[0]!r}: Strategy([{NAMING[takes]}])}}."
        )


def _is_judged(strategy: Strategy) -> bool:
    """Whether a cross-encoder scores candidates."""
    return bool(strategy.scoring) or any(part.scored_depth for part in strategy.retriever.parts)


def _opened(pairs: Any, corpus: Any, named: Mapping[str, str | Strategy], options: dict[str, Any]) -> JobInputs:
    """Read the data, and raise for strategies that they do not serve; what the data decide joins the options."""
    job = opened("compare", pairs, corpus, "", options, default="", single=True)
    if job.strategy:
        raise ConfigError(
            f"compare(corpus={job.strategy!r}) is the name of a strategy, and no file. Give it as "
            f"strategies=[{job.strategy!r}]."
        )
    if job.words:
        show(job.words)
    options.update(job.options)
    if job.store is not None:
        options["index"] = job.store
    for strategy in (Strategy([Dense()]), *named.values()):
        resolved = resolve(strategy, safeguards=options.get("safeguards", True))
        if job.store is not None:
            check_searchable(job.store, resolved, options)
        check_vectors(resolved, usable(resolved, options))
    return job


@dataclass(frozen=True, kw_only=True)
class _How:
    """How strategies are judged; see `compare`."""

    trials: Trials
    judge: Judge | None
    verdicts: Verdicts | None
    num_proc: int | None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The pairs on which strategies are compared, and what trains on them.

    Args:
        job (`JobInputs`): the data.
        pairs (`Dataset`): the rows that are mined for.
        known (`tuple[Dataset, ...]`): rows whose positives are no negatives.
        options (`dict`): of `HardNegatives`.
        how (`_How`): how strategies are judged.
        task (`RankingTask`): the queries and documents.
        searcher (`Searcher`): has the vectors of the model as it is.
        prepared (`np.ndarray`): (rows, d) float32, these of the queries of all rows.
        runner (`TrialRunner`): trains.
        hidden (`HiddenPositives`, *optional*): where queries have several positives.
    """

    job: JobInputs
    pairs: Dataset
    known: tuple[Dataset, ...]
    options: dict[str, Any]
    how: _How
    task: RankingTask
    searcher: Searcher
    prepared: np.ndarray
    runner: TrialRunner
    hidden: HiddenPositives | None

    @classmethod
    def of(
        cls,
        job: JobInputs,
        how: _How,
        model: Any,
        options: dict[str, Any],
        confirm_cost: bool,
        known_positives: Sequence[Dataset],
    ) -> Contest:
        """Build what all strategies share: the vectors of the model as it is, and the task."""
        known, trunk = (job.pairs, *known_positives), Strategy([Dense()])
        pairs = _sampled(job.pairs, job.columns, options.get("dedupe", "normalized"), how.trials.queries)
        wanted = {**usable(trunk, _unjudged(options)), "known_positives": known_positives}
        if model is not None:
            wanted["encoder"] = model
        guard([pairs], job.corpus, trunk, wanted, num_proc=how.num_proc, confirm_cost=confirm_cost)
        miner = HardNegatives(job.corpus, trunk, **{**wanted, "known_positives": known})
        reader, searcher = miner.retrieval.reader, vector_part(miner.retrieval.searcher)
        if searcher is None or searcher.score_kind not in SIMILARITIES:
            raise ConfigError(
                f"compare() needs vectors of documents that are compared by {' or '.join(SIMILARITIES)}, and "
                f"{miner.retrieval.searcher.name} has none or compares by {miner.retrieval.searcher.score_kind}. Give "
                "model=, an encoder."
            )
        task = RankingTask.of(pairs, reader, documents=how.trials.documents)
        prepared = searcher.prepare(task.read)
        source = options.get("encoder") if model is None else model
        trainees = _Trainees.of(task, searcher, prepared[task.first], how.trials, source)
        digest = rows_digest(pairs, reader.columns.read(pairs.column_names))
        runner = TrialRunner(
            task=task,
            trials=how.trials,
            num_negatives=options["num_negatives"],
            cache=reader.corpus.cache,
            identity=identity_of(task, how.trials, digest, searcher.identity, trainees.similarity),
            trainee=trainees.trainee,
        )
        runner.check()
        with silenced():
            hidden = HiddenPositives.of(pairs, task, options.get("columns"), miner.seed)
        return cls(
            job=job,
            pairs=pairs,
            known=known,
            options=options,
            how=how,
            task=task,
            searcher=searcher,
            prepared=prepared,
            runner=runner,
            hidden=hidden,
        )

    def guard(self, strategies: Iterable[str | Strategy], confirm_cost: bool) -> None:
        """Stop before a strategy that costs more than nobody confirmed, the vectors of the model being there; see
        `guard` of plans."""
        for strategy in strategies:
            options = {**self._options_of(strategy), "known_positives": self.known}
            how: Any = {"num_proc": self.how.num_proc, "confirm_cost": confirm_cost}
            guard([self.pairs], self.job.corpus, strategy, options, **how)

    def _options_of(self, strategy: str | Strategy) -> dict[str, Any]:
        """The options that a strategy uses."""
        return usable(strategy, self.options if _is_judged(resolve(strategy)) else _unjudged(self.options))

    def result(self, named: Mapping[str, str | Strategy]) -> StrategyComparison:
        """Mine and train with every strategy."""
        untrained = self.runner.untrained()
        lines = []
        with bar(desc="Comparing", total=len(named) + 1, unit=" strategies") as progress:
            for name, strategy in {NO_NEGATIVES: None, **named}.items():
                lines.append(self._contender(name, strategy))
                progress.update(1)
        return StrategyComparison(
            lines=tuple(sorted(lines, key=lambda line: -line.mean)),
            untrained=untrained.ndcg,
            shared=self.task.shared[untrained.queries],
            trials=self.how.trials,
            documents=len(self.task.pool),
            rows=len(self.pairs),
        )

    def _contender(self, name: str, strategy: str | Strategy | None) -> Contender:
        if strategy is None:
            by_seed, training = self._trained(None, None)
            return Contender(name=name, by_seed=by_seed, training=training)
        options = self._options_of(strategy)
        with silenced():
            miner = HardNegatives(self.job.corpus, strategy, **{**options, "known_positives": self.known})
            steps, began = Steps.of(miner, num_proc=self.how.num_proc, batch_size=BATCH), time.perf_counter()
            rows = steps.negatives(self.pairs, miner)
            seconds = time.perf_counter() - began
            attach(rows, Recipe.of(miner, pairs=self.pairs, corpus=self.job.corpus))
            figures = self._judged(rows, strategy, options)
        negatives = rows["negatives"][:]
        by_seed, training = self._trained(negatives, steps.made_from(self.pairs, miner))
        counts = np.array(list(map(len, negatives)))
        return Contender(
            name=name,
            strategy=repr(miner.strategy),
            by_seed=by_seed,
            per_row=float(counts.mean()),
            short_rows=int((counts < miner.num_negatives).sum()),
            similarity=self._similarity(negatives),
            seconds=seconds,
            training=training,
            **figures,
        )

    def _judged(self, rows: Dataset, strategy: str | Strategy, options: Mapping[str, Any]) -> dict[str, Any]:
        """Audit the rows, and count false negatives by what is there to tell them."""
        judged: dict[str, Any] = {"audit": audit(rows, judge=self.how.judge)}
        if self.how.verdicts is not None:
            said = numbers(self.how.verdicts.on(rows), VERDICTS)
            said = said[np.isfinite(said)]
            judged["relevant"] = Share(int(said.sum()), len(said)) if len(said) else None
        if self.hidden is not None:
            shown = {**options, "columns": self.hidden.columns, "known_positives": [self.hidden.pairs]}
            miner = HardNegatives(self.job.corpus, strategy, **shown)
            mined = Steps.of(miner, num_proc=self.how.num_proc).negatives(self.hidden.pairs, miner)
            judged["hidden"] = self.hidden.among(mined["negatives"][:])
        return judged

    def _trained(self, negatives: Sequence[Sequence[str]] | None, origin: Any) -> tuple[np.ndarray, float]:
        """Run the trials of a strategy; return nDCG@10 by seed and held-out query, and how long they took."""
        by_seed, seconds = [], 0.0
        for seed in range(self.how.trials.seeds):
            parts: list[Trial] = []
            for number in range(self.how.trials.rounds or ROUNDS[self.how.trials.learner]):
                parts.append(self.runner.run(negatives, origin, number, seed))
            order = np.argsort(np.concatenate([part.queries for part in parts]))
            by_seed.append(np.concatenate([part.ndcg for part in parts])[order])
            seconds += sum(part.seconds for part in parts)
        return np.stack(by_seed), seconds

    def _similarity(self, negatives: Sequence[Sequence[str]]) -> float:
        texts = [text for each in negatives for text in each]
        owner = np.repeat(np.arange(len(negatives)), list(map(len, negatives)))
        scores = self.searcher.score(self.prepared, owner, self.task.rows_of_texts(texts))
        return float(scores.mean()) if len(scores) else float("nan")


def _unjudged(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "cross_encoder"}


def _sampled(pairs: Dataset, columns: Columns | None, dedupe: Dedupe, queries: int) -> Dataset:
    """The rows of so many queries, those whose text keys sort first, which no other row and no order changes."""
    keys = query_keys(pairs, PairColumns.of(columns), dedupe)
    distinct = np.unique(keys)
    return pairs if len(distinct) <= queries else pairs.select(np.flatnonzero(np.isin(keys, distinct[:queries])))


@dataclass(frozen=True, kw_only=True)
class _Trainees:
    """Makes a trainee for each trial: of the vectors of the model as it is, or of its files."""

    task: RankingTask
    searcher: Searcher
    trials: Trials
    encoder: TransformersEncoder | None
    queries: np.ndarray
    documents: np.ndarray

    @classmethod
    def of(cls, task: RankingTask, searcher: Searcher, queries: np.ndarray, trials: Trials, model: Any) -> _Trainees:
        """Open what trainees are made of.

        Raises:
            ConfigError: all layers are to be trained of something that is no folder or Hub id of a plain encoder.
        """
        encoder: TransformersEncoder | None = None
        if trials.learner == "model":
            opened_model = None if model is None else load_encoder(model, cache_dir=task.reader.corpus.cache)
            if isinstance(opened_model, TransformersEncoder):
                encoder = opened_model
            else:
                raise ConfigError(
                    f"compare(model={model!r}) is to be trained, and only an encoder of one Transformer with a pooling "
                    'is: its folder, its Hub id, or a SentenceTransformer. Give that, or Trials(learner="projection").'
                )
        documents = np.ascontiguousarray(searcher.vectors(task.pool), np.float32)
        return cls(task=task, searcher=searcher, trials=trials, encoder=encoder, queries=queries, documents=documents)

    @property
    def similarity(self) -> Similarity:
        """How vectors of the trainees are compared."""
        return "dot" if self.encoder is None and self.searcher.score_kind == "dot" else "cosine"

    def trainee(self, rows: Sequence[Row]) -> Trainee:
        """Make a trainee at its start, which knows the texts of these rows."""
        if self.encoder is None:
            return projection_of(self._stored(rows), self.queries, self.documents, self.similarity)
        texts, device = (self.task.queries, self.task.documents), resolved_device(self.encoder.device)
        return whole_model_of(self.encoder.files, *texts, max_length=self.trials.max_length, device=device)

    def _stored(self, rows: Sequence[Row]) -> StoredVectors:
        import torch

        documents = list(dict.fromkeys(text for row in rows for text in (row["positive"], *row["negatives"])))
        place = {each.text: each.query for each in self.task.examples}
        stored = {QUERY + text: number for text, number in place.items()}
        stored |= {DOCUMENT + text: len(self.queries) + number for number, text in enumerate(documents)}
        vectors = self.searcher.vectors(self.task.rows_of_texts(documents))
        return StoredVectors(place=stored, vectors=torch.from_numpy(np.concatenate([self.queries, vectors])))
