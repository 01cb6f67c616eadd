"""`HardNegatives`: the callable. A batch is read, searched, rescored, filtered and sampled, and emitted."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.columns import Columns, in_order
from hf_hardneg.corpus.sides import warn_of_pairs
from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.loading import load_corpus
from hf_hardneg.formats.scanned import check_searchable, strategy_of_store
from hf_hardneg.identity import identify, one_run
from hf_hardneg.pipeline.filtering import Aggregate, MissingPositive
from hf_hardneg.pipeline.padding import Shortage
from hf_hardneg.pipeline.readable import images_in, without_words
from hf_hardneg.pipeline.rescoring import Rescoring
from hf_hardneg.pipeline.retrieval import Retrieval
from hf_hardneg.pipeline.selection import Selection, check_own, written
from hf_hardneg.pipeline.wiring import OF_VECTORS, Inputs, Rules, stages_of
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.retrievers.stores.drivers import document_store_of
from hf_hardneg.runtime.arguments import Folder, Negatives, check_fields
from hf_hardneg.runtime.process import end_with_pool
from hf_hardneg.store import directories
from hf_hardneg.strategies import Strategy, concise, resolve
from hf_hardneg.text.keys import Dedupe

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_hardneg.pipeline.found import Found
    from hf_hardneg.pipeline.options import Documents
    from hf_hardneg.pipeline.padding import Chosen


@dataclass(frozen=True, repr=False)
class HardNegatives:
    """Mines hard negatives for a batch of (query, positive) rows: pass it to any `datasets` verb that takes a function.

    Constructing it builds or opens the index; under a launcher such as `torchrun` all ranks must construct it, and each
    encodes its share. It pickles as paths and digests, a few kilobytes, and what it returns for a row depends on that
    row and these arguments alone, never on the rest of the batch.

    Args:
        corpus (`Dataset` or whatever holds documents): the documents, see `mine`.
        strategy (`str` or `Strategy`, *optional*): a name, a chain such as `"margin+rank_zone"`, or parts; by default
            `"bm25"`, and over a document store its search.
        num_negatives (`int`, defaults to 4): at most so many for each query; fewer are counted, not filled up.
        encoder (`str`, `SentenceTransformer` or `Callable[[list[str]], array (n, d)]`, *optional*): for dense parts; of
            images a model of images and texts, such as CLIP, or a callable that gets images of PIL;
            for `"splade"` and `Sparse()` a sparse encoder, see `Sparse`.
        cross_encoder (*optional*): the model of a denoiser, see `load_cross_encoder`; one that is given is always used:
            where the strategy has no `Denoised`, it is the last filter.
        safeguards (`bool`, defaults to `True`): whether a strategy given by name first removes what is likely an
            unlabelled positive, see `hf_hardneg.strategies.SAFEGUARDS`. A `Strategy` is used as it is written.
        columns (`Columns`, *optional*): names of columns in the pairs and the corpus by role, such as
            `{"query": "question", "positive": "answer", "text": ["title", "body"]}`; see `Columns` for the roles.
        index (`str`, `Path` or `faiss.Index`, *optional*): a user's own: its name on the corpus, a file, an object, a
            document store or its URI.
        known_positives (`Sequence[Dataset]`, *optional*): datasets whose rows' positives are excluded too, by query;
            `mine()` passes the pairs. Without it only the positives of the row itself are known.
        symmetric (`bool`, *optional*): whether pairs hold in both directions, as duplicate questions do. Then
            all texts that the pairs of `known_positives` link, directly or over others, are positives of each other.
            By default not, with a warning where queries stand in the corpus; `False` says that this is meant.
        positive_agg (`str`, defaults to `"min"`): which of several positive scores margins compare with:
            `"min"`, `"max"`, `"mean"`, `"random"` for one that is drawn for each query, as SimANS' code does, or
            `"per_positive"` for rows of one positive each.
        dedupe (`str`, defaults to `"normalized"`): when two texts are the same document; `"exact"`, or `"off"`.
        on_missing_positive_score (`str`, defaults to `"compute"`): scored by the scorer of the candidates, an error
            where that cannot; `"skip_filter"` lets those queries pass, `"drop_row"` leaves them out.
        on_shortage (`str`, defaults to `"keep_fewer"`): or `"drop_row"`; `"error"`; `"pad_next"`, the best of what
            filters removed; `"pad_tail"`, draws from what was too deep for the strategy's cross-encoder, unscored (as
            RocketQA's code for MS MARCO does); `"pad_random"`, draws from the corpus. No padding has an answer or
            the parent of a positive.
        seed (`int`, defaults to 42): draws are keyed by it, the query and the document.
        cache_dir (`str`, *optional*): where indexes live.
        verify (`bool`, defaults to `False`): whether the content of all that is reused from there is compared with its
            checksums; by default that of large files only where their time tells of a change. It changes no result.

    Raises:
        ConfigError: arguments that cannot work, before anything is built.
        ColumnError, DataError, ModelError, StoreError: see `hf_hardneg.errors`.

    Example:
        >>> miner = HardNegatives(corpus, "bm25", num_negatives=2)
        >>> mined = pairs.map(miner, batched=True, num_proc=2)
        >>> mined[0]["negatives"]
        ['The sky of Mars is red by day and blue at sunset.', 'The sky is red at sunset because the light crosses ...']
    """

    corpus: InitVar[Documents]
    strategy: str | Strategy | None = None
    _: KW_ONLY
    num_negatives: Negatives = 4
    encoder: InitVar[Any] = None
    cross_encoder: InitVar[Any] = None
    safeguards: bool = True
    columns: Columns | None = None
    index: InitVar[Any] = None
    known_positives: InitVar[Sequence[Dataset]] = ()
    symmetric: bool | None = None
    positive_agg: Aggregate = "min"
    dedupe: Dedupe = "normalized"
    on_missing_positive_score: MissingPositive = "compute"
    on_shortage: Shortage = "keep_fewer"
    seed: int = 42
    cache_dir: Folder | None = None
    verify: InitVar[bool] = False
    retrieval: Retrieval = field(init=False, repr=False)
    rescoring: Rescoring = field(init=False, repr=False)
    selection: Selection = field(init=False, repr=False)

    def __post_init__(
        self,
        corpus: Documents,
        encoder: Any,
        cross_encoder: Any,
        index: Any,
        known_positives: Sequence[Dataset],
        verify: bool,
    ) -> None:
        if not isinstance(verify, bool):
            raise ConfigError(f"verify={verify!r} of type {type(verify).__name__}: give True or False.")
        check_fields(self, known_positives=known_positives)
        store = document_store_of(corpus)
        strategy = self._resolved(store, encoder, cross_encoder)
        documents = load_corpus(corpus, self.columns, what="HardNegatives(corpus=)", cache_dir=self.cache_dir)
        inputs = Inputs(
            corpus=documents.rows,
            columns=in_order(documents.columns),
            encoder=encoder,
            cross_encoder=cross_encoder,
            index=store if index is None and store is not None and strategy.takes_dense else index,
            known_positives=known_positives,
            cache_dir=self.cache_dir,
        )
        images = images_in(inputs.corpus, known_positives, inputs.columns)
        strategy = without_words(strategy, cast("str | Strategy", self.strategy), images)
        rules = Rules(**{rule.name: getattr(self, rule.name) for rule in fields(Rules)})
        with one_run(), directories.verifying(verify):
            stages = stages_of(strategy, inputs, rules)
            reader = stages.retrieval.reader
            ids = Columns() if reader.corpus.id_column is None else Columns(id=reader.corpus.id_column)
            for name, value in {**vars(stages), "columns": in_order(inputs.columns | ids)}.items():
                object.__setattr__(self, name, value)
            warn_of_pairs(known_positives, reader, documents.rows, symmetric=self.symmetric)

    def _resolved(self, store: DocumentStore | None, encoder: Any, cross_encoder: Any) -> Strategy:
        """The strategy; raises for vectors that are to be searched with queries that have none."""
        if self.strategy is None:
            named = "bm25" if store is None else strategy_of_store(store, safeguards=self.safeguards)
            object.__setattr__(self, "strategy", named)
        if store is not None:
            check_searchable(
                store, cast("str | Strategy", self.strategy), {"encoder": encoder, "columns": self.columns}
            )
        return resolve(cast("str | Strategy", self.strategy), safeguards=self.safeguards, cross_encoder=cross_encoder)

    def __repr__(self) -> str:
        return concise(self)

    def __getstate__(self) -> dict[str, Any]:
        """Its fields and the identity of its code, so that `Dataset.map` stores what other code makes as other rows."""
        parts = (self.retrieval.searcher, self.retrieval.code, self.rescoring, self.selection)
        return {**self.__dict__, "code": identify(parts, what="miner")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name != "code"})

    def __call__(self, batch: Any) -> Any:
        """The batch in the form it came, with `negatives` and the columns that explain them.

        For an iterator of batches, as Spark's `mapInArrow` and `mapInPandas` give, it returns an iterator.

        Raises:
            ColumnError, DataError: the rows cannot be read.
            ConfigError: a margin has no positive score to compare with, or a worker would touch CUDA.
        """
        if isinstance(batch, Iterator):
            return map(self, batch)
        end_with_pool()
        rows = Batch.of(batch, self.retrieval.reader.columns.query)
        names = written(self.selection.filtering.filters)
        check_own(rows.columns, names, rows.fields("mining") if "mining" in rows.columns else ())
        return self.selection.emit(rows, *self._chosen(rows))

    def columns_of(self, batch: Any) -> pa.Table:
        """What mining adds to a batch alone, as `Selection` does for candidates that are stored."""
        rows = Batch.of(batch, self.retrieval.reader.columns.query)
        return self.selection.table(rows, *self._chosen(rows))

    def _chosen(self, rows: Batch) -> tuple[Found, Chosen]:
        queries = self.retrieval.reader.read(rows.columns)
        retrieved = self.rescoring.add(self.retrieval.search(queries), queries)
        return retrieved, self.selection.choose(retrieved, queries)


OPTIONS = frozenset(inspect.signature(HardNegatives).parameters) - {"corpus", "strategy"}
"""Every keyword of `HardNegatives`, which `mine`, `plan` and what calls them take too."""


def usable(strategy: str | Strategy, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of several strategies, without those that a strategy without vectors would not use."""
    leaves_out = () if resolve(strategy).uses_vectors else OF_VECTORS
    return {name: value for name, value in options.items() if name not in leaves_out}
