"""`Refresher`: mines the negatives of a training set again with the current weights, and publishes them (ANCE).

Training and refreshing meet on disk alone: the refresher never sees the loop, the loader never sees the model. Under a
launcher such as `torchrun` every rank calls it at the same step; each encodes its share of the corpus and of the
queries, rank 0 builds and publishes, all check, and all go on together. The generation is the same for any number of
ranks, to the byte.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError, ModelError, RanksError, check_keywords, silenced
from hf_hardneg.filters import ConsistentPositive
from hf_hardneg.formats.loading import opened
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives
from hf_hardneg.index.dense.dense_index import Similarity
from hf_hardneg.models.forward import quiet_transformers
from hf_hardneg.models.functions import TextFunction
from hf_hardneg.models.vector_models import VECTOR_MODELS
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.retrievers import Dense, dense_index
from hf_hardneg.retrievers.base import Takes
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Folder, ShareAboveZero, checked, fit
from hf_hardneg.runtime.ranks import Ranks, launched_ranks
from hf_hardneg.store import directories
from hf_hardneg.store.disk import writing
from hf_hardneg.store.kinds import KINDS
from hf_hardneg.store.locks import Lock, StillHeld, shared
from hf_hardneg.strategies import Strategy, resolve
from hf_hardneg.training.easy_rows import EasyRows, QueryEncoder, dense_of, keep_documents
from hf_hardneg.training.gather import world_size
from hf_hardneg.training.generations import REPORT, Generations
from hf_hardneg.training.negative_arrays import Generation
from hf_hardneg.training.newest import GenerationNegatives
from hf_hardneg.training.row_keys import RowKeys
from hf_hardneg.training.schedule import Schedule, chunk
from hf_hardneg.training.snapshots import check_encoder, same_draws, snapshot

if TYPE_CHECKING:
    from datasets import Dataset
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import Documents, PairRows, RefresherOptions

logger = logging.getLogger(__name__)

BLOCK = 512
LINGERS = 10.0
"""Seconds to wait for a directory: so long a run that was killed may take to end."""
FIXED = ("index", "known_positives", "cache_dir")
RULES = ("on_shortage", "on_missing_positive_score")
VECTORS = ("vector", "query_vector")
"""Options of `HardNegatives` and roles of columns that mean nothing where vectors are made again."""


class Refresher:
    """Mines again with the current weights: every adapter to a trainer drives one of these.

    Args:
        pairs (`Dataset` or whatever holds pairs): the training set: rows of `query` with `positive` and / or
            `positive_ids`, as for `mine`; of several splits `train`. What was read is in `refresher.pairs`.
        corpus (`Dataset` or whatever holds documents, *optional*): the documents, as for `mine`.
        strategy (`str` or `Strategy`, defaults to `"ance_offline"`): of the refreshes; one with vectors.
        encoder (`SentenceTransformer`, `LiveModel` or callable): the model that is trained; see `snapshot`. A
            `SparseEncoder` where the strategy is `"splade"` or has `Sparse()`.
        directory (`str`): of the generations, one for each run; all ranks must see it. While a run uses it, other
            processes are refused.
        warm_start (`str`, `Strategy` or `None`, defaults to `"bm25"`): what mines before the first refresh, without
            vectors; `None` where the pairs have `negatives` already.
        query_chunks (`int`, defaults to 1): each generation covers one part of the rows after another, of so many; the
            others keep what they have. ANCE's code uses 5.
        corpus_fraction (`float`, defaults to 1.0): share of the documents that a generation encodes, drawn anew for
            each; the positives of the pairs always are among them.
        easy_rows (`EasyRows`, *optional*): between full refreshes, only rows whose negatives became easy are mined
            again, in the documents' vectors of the last full one; by default every refresh is full.
        options: every other argument of `HardNegatives`, such as `num_negatives=`.

    A rank that was killed stops the others within seconds. For one that hangs, or is slow, they wait as long as their
    process group allows, by default 30 minutes on CPUs and 10 on GPUs: where a refresh takes longer, give Accelerate
    `InitProcessGroupKwargs(timeout=)`.

    Raises:
        ConfigError: a strategy or an option that cannot be refreshed, before anything is built.

    Example:
        >>> refresher = Refresher(pairs, corpus, encoder=model, directory="run/negatives", num_negatives=4)
        >>> train = pairs.with_transform(refresher.negatives)
        >>> train[0]["negative_generation"], train[0]["negative_sources"]
        (0, ['bm25', 'bm25', 'bm25', 'bm25'])
        >>> refresher.at(1000, Schedule(every=1000))  # what the adapters to trainers call after each step
        True
        >>> train[0]["negative_generation"], train[0]["negative_sources"]
        (1, ['dense', 'dense', 'dense', 'dense'])
    """

    @with_options_of(HardNegatives, without=("encoder", *FIXED))
    @checked
    def __init__(
        self,
        pairs: PairRows,
        corpus: Documents | Strategy | None = None,
        strategy: str | Strategy = "ance_offline",
        *,
        encoder: Any,
        directory: Folder,
        warm_start: str | Strategy | None = "bm25",
        query_chunks: AtLeastOne = 1,
        corpus_fraction: ShareAboveZero = 1.0,
        easy_rows: EasyRows | None = None,
        **options: Unpack[RefresherOptions],
    ) -> None:
        check_keywords("Refresher()", options, OPTIONS - {"encoder"})
        job = opened("Refresher", pairs, corpus, strategy, options, default="ance_offline", single=True)
        self.corpus: Dataset = job.corpus
        self.pairs, self.strategy, self.encoder = job.pairs, job.strategy, encoder
        self.generations = Generations(Path(directory).absolute())
        self.query_chunks, self.corpus_fraction, self.easy_rows = query_chunks, corpus_fraction, easy_rows
        self.options: Any = {**options, **replace(job, store=None).options}
        self._lock: Lock | None = None
        check_encoder(encoder, takes=self._takes)
        self._check(warm_start)
        self._check_rows_stay([self.strategy, *([] if warm_start is None else [warm_start])])
        first = HardNegatives(self.corpus, warm_start or "random", **self._mining(self._cache))
        reader = first.selection.reader
        self.negatives = GenerationNegatives(
            generations=self.generations,
            rows=RowKeys.of(self.pairs, reader),
            reader=reader,
            warm_start=None if warm_start is None else first,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    @property
    def ranks(self) -> Ranks:
        """The processes that refresh together.

        Raises:
            RanksError: there are others that train, which Accelerate does not know.
        """
        ranks = launched_ranks()
        if world_size() > ranks.world:
            raise RanksError(
                f"{world_size()} processes train together, and Accelerate knows {ranks.world} of them, so each would "
                "mine for itself; allowed are launches that it knows. Start with torchrun, on CPUs with "
                "ACCELERATE_USE_CPU=true in the environment."
            )
        return ranks

    def claim(self) -> None:
        """Keep the directory to this process, and the ranks of its launch, as long as it lives.

        Raises:
            ConfigError: another process has it.
        """
        if self._lock is not None:
            return
        lock, free, holder = shared(self._cache / ".run.lock"), True, None
        if self.ranks.rank == 0:
            try:
                lock.acquire(timeout=LINGERS)
            except StillHeld as error:
                free, holder = False, error.holder
        if not self.ranks.decided(free):
            raise ConfigError(
                f"directory={str(self.generations.directory)!r} is used by another process that is running"
                f"{f', {holder}' if holder else ''}; each run needs its own. Give another directory, or end that "
                "process to go on with its run."
            )
        self._lock = lock

    @checked
    def at(self, step: AtLeastZero, schedule: Schedule) -> bool:
        """Have readers take what serves after that many optimizer steps; mine it first where a refresh is due.

        Every rank calls it, at the same step. Called at the step of a checkpoint, it takes the run back to there.

        Args:
            step (`int`): optimizer steps so far.
            schedule (`Schedule`): when refreshes are due.

        Returns:
            Whether readers have another generation now.

        Raises:
            RanksError: a rank was killed, hangs or disagrees; the old generation is still the current one.
            ConfigError: another run uses the directory.
            StoreError: a generation that an earlier step made is gone: the directory or schedule is not this run's.
        """
        self.claim()
        number = schedule.number(step)
        if schedule.due(step):
            self.refresh(number, step=step)
        return self.switch(number)

    @checked
    def due(self, step: AtLeastZero, schedule: Schedule) -> bool:
        """Say whether `at` has something to do after that many optimizer steps."""
        return schedule.due(step)

    @checked
    def refresh(self, number: AtLeastOne, *, step: AtLeastZero) -> None:
        """Mine and publish a generation with the weights of this moment; one made of the same is left as it is.

        Random states are left as they were, and so is the model.
        """
        with same_draws(), quiet_transformers():
            encoder = snapshot(self.encoder, self._cache, takes=self._takes)
            self.ranks.agree(encoder.digest, "weights")
        self.mine(number, step=step, encoder=encoder)

    @checked
    def mine(self, number: AtLeastOne, *, step: AtLeastZero, encoder: Any) -> None:
        """Mine and publish a generation with an encoder of the weights after a step, as `refresh` does."""
        with same_draws(), quiet_transformers(), writing(self.generations.directory, other="directory="):
            parameters = self._parameters(number, step, encoder)
            if self.ranks.decided(not self.generations.holds(number, parameters)):
                self._refuse_unchanged(number, step, encoder)
                self._refuse_rows_of_others(number, range(*parameters["rows"]))
                self._mine(number, parameters, encoder)
            self.ranks.wait()
        directories.check(self.generations.place(number))
        for model in VECTOR_MODELS.values():
            model.unload()

    @checked
    def switch(self, number: AtLeastZero) -> bool:
        """Have readers take a generation, and say whether it is another than before; every rank calls it."""
        changes = self.ranks.decided(number != self.generations.pointed)
        if changes and self.ranks.rank == 0:
            self.generations.switch(number)
        if changes:
            self.ranks.wait()
        return changes

    def _mine(self, number: int, parameters: dict[str, Any], encoder: Any) -> None:
        work = self.generations.directory / f".work-{number:06d}"
        work.mkdir(parents=True, exist_ok=True)
        kept = self._with_kept_documents(number, encoder)
        rows = self._rows_of_corpus(number)
        with silenced():
            miner = HardNegatives(
                self.corpus if rows is None else self.corpus.select(rows),
                self.strategy,
                encoder=kept or encoder,
                **self._mining(self._cache if rows is None else work / "cache"),
            )
        covered = range(*parameters["rows"])
        blocks = [range(start, min(start + BLOCK, covered.stop)) for start in covered[::BLOCK]]
        for block in blocks[self.ranks.rank :: self.ranks.world]:
            mined = self._mined(miner, number, block, rows) if kept is None else self._renewed(miner, number, block)
            mined.write(work / f"{block.start}.npz")
        self.ranks.wait()
        if self.ranks.rank == 0:
            index = dense_index(miner.retrieval.searcher)
            if index is not None:
                self.generations.adopt_index(number, index)
            mined = Generation.joined([Generation.read(work / f"{block.start}.npz") for block in blocks])
            self._publish(number, parameters, covered, mined, encoder.digest if kept is None else kept.documents)
            self._tidy(work)

    def _with_kept_documents(self, number: int, encoder: Any) -> QueryEncoder | None:
        """Return the encoder of a cheap refresh, whose index is built; `None` where the refresh is a full one.

        It is where one is due, where the documents of the last full refresh are gone, as after going back to a
        checkpoint before the newest full one, and where documents, pairs or options are others than then.
        """
        holder = None if self.easy_rows is None else self._holder(self.easy_rows.full(number), number)
        if not self.ranks.decided(holder is not None) or holder is None:
            return None
        similarity: Similarity = cast(Dense, dense_of(resolve(self.strategy))).similarity or "cosine"
        kept = QueryEncoder(encoder=encoder, documents=self._documents(holder))
        keep_documents(self.negatives.reader.corpus, self.generations.index(holder, similarity), kept)
        return kept

    def _holder(self, full: int, number: int) -> int | None:
        """Return the generation whose index holds the documents of a full refresh before `number`; `None` for none."""
        if full == number or not (self._is_of_job(full) and self._is_of_job(number - 1)):
            return None
        held = (int(path.name.partition("-")[2]) for path in self.generations.directory.glob("index-*"))
        whole = [each for each in sorted(held) if self._is_of_job(each)]
        return next((each for each in whole if self._documents(each) == self._documents(full)), None)

    def _is_of_job(self, number: int) -> bool:
        """Say whether a generation is there, and of the same documents, pairs, strategy and options."""
        place, job = self.generations.place(number), self._job
        if not place.exists():
            return False
        before = directories.read_manifest(place).parameters
        return all(before.get(name) == value for name, value in job.items())

    def _documents(self, number: int) -> str:
        """Return the digest of the encoder that gave the vectors of documents for a published generation."""
        return str(directories.read_object(self.generations.place(number), REPORT).get("documents"))

    def _renewed(self, miner: HardNegatives, number: int, block: range) -> Generation:
        """Mine the easy rows of a block again; the others keep what they have."""
        before = self.generations.open(number - 1).rows(block.start, block.stop)
        table = self.pairs.with_format("arrow")[block.start : block.stop]
        queries = miner.retrieval.reader.read(named_columns(table))
        easy = cast(EasyRows, self.easy_rows).among(before, miner.retrieval.searcher, queries)
        return before.with_rows(easy, self._of_table(miner, number, table.take(easy), None)) if len(easy) else before

    def _mined(self, miner: HardNegatives, number: int, block: range, rows: np.ndarray | None) -> Generation:
        return self._of_table(miner, number, self.pairs.with_format("arrow")[block.start : block.stop], rows)

    def _of_table(self, miner: HardNegatives, number: int, table: Any, rows: np.ndarray | None) -> Generation:
        queries = miner.retrieval.reader.read(named_columns(table))
        retrieval = replace(miner.retrieval, searcher=miner.retrieval.searcher.at(number))
        candidates = miner.rescoring.add(retrieval.search(queries), queries)
        chosen = replace(miner.selection, generation=number).choose(candidates, queries)
        if rows is not None:
            chosen = replace(chosen, doc=rows[chosen.doc])
        return Generation.of(number, chosen, candidates.listed, candidates.listed_counts)

    def _publish(
        self, number: int, parameters: dict[str, Any], covered: range, mined: Generation, documents: str
    ) -> None:
        size = len(self.pairs)
        before = self.generations.open(number - 1) if number > 1 else Generation.empty(size)
        whole = Generation.joined([before.rows(0, covered.start), mined, before.rows(covered.stop, size)])
        overlap = mined.overlap(before.rows(covered.start, covered.stop))
        report = {
            "sources": list(whole.sources),
            "rows": len(covered),
            "mined_again": int((mined.generations == number).sum()),
            "documents": documents,
            "negatives": len(mined.negatives),
            "short": int((mined.counts < self.options.get("num_negatives", 4)).sum()),
            "overlap": overlap,
        }

        def build(directory: Path) -> None:
            whole.save(directory)
            (directory / REPORT).write_text(json.dumps(report))

        pointed = self.generations.pointed
        if pointed is None or pointed >= number:
            self.generations.switch(number - 1)
        self.generations.publish(number, parameters, build)
        logger.info(
            "generation %d of the weights after step %d: %d negatives for %d rows, %d of them short, %d mined again; "
            "%s of the negatives are those of the generation before",
            number,
            parameters["step"],
            report["negatives"],
            report["rows"],
            report["short"],
            report["mined_again"],
            "none" if np.isnan(overlap) else f"{overlap:.0%}",
        )

    def _parameters(self, number: int, step: int, encoder: Any) -> dict[str, Any]:
        rows = chunk(len(self.pairs), self.query_chunks, number)
        cheap = {} if self.easy_rows is None else {"easy_rows": repr(self.easy_rows)}
        if self.easy_rows is not None and (full := self.easy_rows.full(number)) < number:
            place = self.generations.place(full)
            cheap["full"] = str(directories.read_manifest(place).parameters["encoder"]) if place.exists() else "gone"
        return {
            **cheap,
            "number": number,
            "step": step,
            "encoder": encoder.digest,
            "rows": [rows.start, rows.stop],
            **self._job,
        }

    @property
    def _job(self) -> dict[str, Any]:
        """What is mined, and how, whatever the weights."""
        return {
            "corpus": self.negatives.reader.corpus.digest,
            "pairs": self.negatives.rows.directory.name,
            "strategy": repr(resolve(self.strategy)),
            "fraction": self.corpus_fraction,
            "options": {name: repr(value) for name, value in sorted(self.options.items()) if name != "verify"},
        }

    def _refuse_unchanged(self, number: int, step: int, encoder: Any) -> None:
        """Raise for a callable whose digest stays the same while the model is trained: its vectors would be old."""
        if number < 2 or not isinstance(encoder, TextFunction):
            return
        before = directories.read_manifest(self.generations.place(number - 1)).parameters
        if before.get("encoder") == encoder.digest:
            raise ModelError(
                f"The encoder's digest at step {step} is still the one of step {before.get('step')}, "
                f"{encoder.digest!r}, so vectors of the old weights would be taken for new ones. Give it a digest that "
                "changes with its weights, or pass the model itself: a SentenceTransformer, or LiveModel."
            )

    def _refuse_rows_of_others(self, number: int, covered: range) -> None:
        """Raise where rows would keep the negatives of a generation of other documents, which it names by their rows.

        Raises:
            ConfigError: they would.
        """
        if number < 2 or len(covered) == len(self.pairs):
            return
        place = self.generations.place(number - 1)
        if not place.exists():
            return
        before = directories.read_manifest(place).parameters
        if others := [name for name in ("corpus", "pairs") if before.get(name) != self._job[name]]:
            raise ConfigError(
                f"Generation {number - 1} of directory={str(self.generations.directory)!r} is of other data "
                f"({', '.join(others)}), and the rows beyond the {len(covered)} that are refreshed would keep its "
                "negatives; all generations of a run are of the same data. Give another directory, or query_chunks=1."
            )

    def _rows_of_corpus(self, number: int) -> np.ndarray | None:
        """Draw the documents that a generation searches, ascending; `None` for all."""
        if self.corpus_fraction == 1:
            return None
        reader = self.negatives.reader
        ids = reader.corpus.ids(np.arange(len(reader.corpus))).to_pylist()
        seed = self.options.get("seed", 42)
        drawn = keyed_uniforms(seed, f"corpus_fraction@{number}", "", ids) < self.corpus_fraction
        for table in self.pairs.with_format("arrow").iter(batch_size=BLOCK):
            listed = reader.listed_positives(named_columns(table))
            drawn[listed.row[listed.row >= 0]] = True
        return np.flatnonzero(drawn)

    def _mining(self, cache: Path) -> dict[str, Any]:
        return {**self.options, "known_positives": [self.pairs], "cache_dir": str(cache)}

    @property
    def _takes(self) -> Takes:
        return resolve(self.strategy).takes

    @property
    def _cache(self) -> Path:
        return self.generations.directory / "cache"

    def _tidy(self, work: Path) -> None:
        """Delete what only this refresh needed, and all that depends on its weights."""
        shutil.rmtree(work)
        lasting = {kind.name for kind in KINDS.values() if kind.lasts}
        for path in self._cache.iterdir():
            if path.is_dir() and path.name.partition("-")[0] not in lasting:
                shutil.rmtree(path)

    def _check_rows_stay(self, strategies: Sequence[str | Strategy]) -> None:
        """Raise for rules that leave rows out: a loader goes over the same rows whatever generation serves."""
        rules = [f"{name}='drop_row'" for name in RULES if self.options.get(name) == "drop_row"]
        stages = [stage for strategy in strategies for stage in resolve(strategy).filters]
        rules += [
            repr(stage)
            for stage in stages
            if isinstance(stage, ConsistentPositive) and stage.on_inconsistent == "drop_row"
        ]
        if rules:
            raise ConfigError(
                f"Refresher got {', '.join(rules)}, which leaves rows out, and a refresh keeps all rows of its pairs, "
                "since a loader goes over the same in each generation; rules that keep rows are allowed. Leave it "
                "out, or mine() the pairs with it once and refresh what is left."
            )

    def _check(self, warm_start: str | Strategy | None) -> None:
        strategy = resolve(self.strategy)
        if not strategy.uses_vectors:
            raise ConfigError(
                f"strategy={self.strategy!r} uses no vectors, so new weights change nothing. Refresh a dense one such "
                "as 'ance_offline' or 'positive_aware', and give this one as warm_start=."
            )
        if any(part.searches_elsewhere for part in strategy.retriever.parts):
            raise ConfigError(
                f"strategy={self.strategy!r} searches a document store, whose vectors stay as they are while the model "
                "changes; only what is encoded anew with each refresh is allowed. Give Dense() in its place."
            )
        if warm_start is not None and resolve(warm_start).uses_vectors:
            raise ConfigError(
                f"warm_start={warm_start!r} needs vectors; allowed are 'bm25', 'random' and None. To start with "
                "it, mine() the pairs, pass the result as pairs, and warm_start=None."
            )
        fixed = [f"{name}=" for name in FIXED if name in self.options]
        columns = fit("Refresher", "columns", self.options.get("columns"), Columns | None) or ()
        fixed += [f"columns={{{role!r}: ...}}" for role in VECTORS if role in columns]
        if fixed:
            raise ConfigError(
                f"Refresher got {', '.join(fixed)}; it encodes with encoder=, excludes the positives of its pairs, "
                "and stores in directory=. Drop it."
            )
        if self.easy_rows is not None:
            self.easy_rows.check(strategy, self.corpus_fraction)
        if self.query_chunks > len(self.pairs):
            raise ConfigError(
                f"query_chunks={self.query_chunks} of {len(self.pairs)} rows: 1 to {len(self.pairs)} are allowed; give "
                "1 to refresh all rows at once."
            )
