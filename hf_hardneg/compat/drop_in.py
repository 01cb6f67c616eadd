"""`mine_hard_negatives`, as sentence-transformers calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_hardneg.compat.grouped_rows import GroupedRows
from hf_hardneg.compat.opening import Prompts, encoder_of, processes_of, reranked
from hf_hardneg.compat.selecting import Drawing, OutputFormat, Selecting, absolute_of, check_ranking, output_of
from hf_hardneg.compat.telling import told
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import warn
from hf_hardneg.formats.exporting import Converter
from hf_hardneg.formats.scores import RETRIEVER
from hf_hardneg.mining import mine
from hf_hardneg.retrievers import Dense, Retriever
from hf_hardneg.runtime.arguments import AtLeastOne, Folder, Name, Seed, Share, checked
from hf_hardneg.steps import BATCH
from hf_hardneg.store import directories

if TYPE_CHECKING:
    from datasets import Dataset


@checked
def mine_hard_negatives(
    dataset: Dataset,
    model: Any,
    anchor_column_name: Name | None = None,
    positive_column_name: Name | None = None,
    corpus: Any = None,
    cross_encoder: Any = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: Share | None = None,
    num_negatives: int = 3,
    sampling_strategy: Drawing = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: OutputFormat = "triplet",
    output_scores: bool = False,
    batch_size: AtLeastOne = 32,
    faiss_batch_size: AtLeastOne = 16384,
    use_faiss: bool = False,
    use_multi_process: bool | Sequence[str] = False,
    verbose: bool = True,
    cache_folder: Folder | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    seed: Seed = 42,
) -> Dataset:
    """Mine hard negatives for (query, positive) rows with the arguments of sentence-transformers' function.

    Candidates are the `range_max` documents nearest to each query by the model, without its positives; margins and
    bounds remove some, `range_min` skips the best of those that are left. Nothing of sentence-transformers is called,
    and it need not be installed unless a live model of it is passed.

    Args:
        dataset (`Dataset`): rows of a query and a positive; rows of the same query are one query with several.
        model (`SentenceTransformer`, `str`, `Path`, `Callable` or `Encoder`): as `mine(encoder=)` takes it, or any
            object with `encode_query` and `encode_document`.
        anchor_column_name, positive_column_name (`str`, *optional*): by default the first and the second column.
        corpus (`list[str]`, *optional*): documents beside the positives.
        cross_encoder (*optional*): as `mine(cross_encoder=)` takes it; where margins or bounds are asked for, it scores
            and orders the candidates, by what its `predict` returns.
        range_min, range_max (`int`): ranks among the candidates that are left, from the first to before the second; by
            default as many as are needed, ten times that where some may be removed, and the most positives of a query.
        max_score, min_score (`float`, *optional*): bounds of a negative's score.
        absolute_margin, relative_margin (`float`, *optional*): how far a negative must score below the lowest of the
            query's positives; relative, as a part of that score's magnitude.
        num_negatives (`int`, defaults to 3): for each query.
        sampling_strategy (`str`, defaults to `"top"`): the best, or `"random"` ones, drawn by `seed`.
        query_prompt, corpus_prompt (`str`, *optional*): prepended to queries and to documents.
        query_prompt_name, corpus_prompt_name (`str`, *optional*): names of such prompts of the model.
        include_positives (`bool`, defaults to `False`): whether positives stay in the ranking, written as `"n-tuple"`.
        output_format (`str`, defaults to `"triplet"`): see `to_format`; `"n-tuple"`, `"labeled-pair"` or
            `"labeled-list"` otherwise.
        output_scores (`bool`, defaults to `False`): whether scores are written, in the place of labels where there are.
        batch_size, faiss_batch_size (`int`), use_faiss (`bool`): taken, and change no row: texts are encoded in passes
            of equal memory, search is exact, and its batches are of at most `faiss_batch_size` queries.
        use_multi_process (`bool` or `list[str]`, defaults to `False`): so many worker processes on CPUs.
        verbose (`bool`, defaults to `True`): whether scores, removals and shortages are printed.
        cache_folder (`str`, *optional*): where indexes and vectors live; by default under the datasets cache.
        as_triplets, margin (*optional*): old names of `output_format` and `absolute_margin`.
        seed (`int`, defaults to 42): of random draws; not an argument of sentence-transformers.

    Raises:
        ConfigError, ColumnError, DataError, ModelError: what cannot be honoured, before anything is encoded.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"question": ["sky at noon", "sky at dusk"], "answer": ["blue", "red"]})
        >>> mine_hard_negatives(rows, model, num_negatives=1, verbose=False)[0]
        {'question': 'sky at noon', 'answer': 'blue', 'negative': 'red'}
    """
    layout, scores = output_of(output_format, output_scores, include_positives, as_triplets)
    absolute, bounds = absolute_of(absolute_margin, margin), (max_score, min_score)
    window = (num_negatives, range_min, range_max)
    selecting = Selecting(*window, absolute, relative_margin, *bounds, sampling_strategy)
    if include_positives:
        check_ranking(selecting)
    rows = GroupedRows.of(dataset, anchor_column_name, positive_column_name, corpus, layout)
    prompts = Prompts(query_prompt, query_prompt_name, corpus_prompt, corpus_prompt_name)
    options = {"num_proc": processes_of(use_multi_process), "batch_size": min(faiss_batch_size, BATCH), "seed": seed}
    job = Mining(rows, selecting, model, cross_encoder, prompts, cache_folder, options)
    mined = job.ranking() if include_positives and not selecting.margins else job.negatives()
    written = _written(mined, layout, scores, num_negatives, rows)
    for line in told(mined, written, rows, selecting, layout) if verbose else ():
        print(line)
    return written


@dataclass(frozen=True)
class Mining:
    """A call of `mine_hard_negatives`, its arguments checked."""

    rows: GroupedRows
    selecting: Selecting
    model: Any
    cross_encoder: Any
    prompts: Prompts
    cache_folder: Any
    options: dict[str, Any]

    def negatives(self, *, with_positives: bool = True) -> Dataset:
        """The queries with their negatives; of queries without positives, the ranking of all documents."""
        last = self.selecting.last(self.rows.most, rescored=self.cross_encoder is not None)
        depth, cache = last + self.rows.most, directories.cache_root(self.cache_folder)
        retriever: Retriever = Dense(depth, factory="exact")
        if self.cross_encoder is not None:
            scored = reranked(retriever, self.cross_encoder, depth, cache)
            retriever = scored if self.selecting.filters else retriever
            if not self.selecting.filters:
                warn("cross_encoder= scores nothing without a margin, max_score or min_score. Give one, or drop it.")
        return mine(
            self.rows.pairs(with_positives=with_positives),
            self.rows.corpus(),
            self.selecting.strategy(retriever, last, depth),
            encoder=encoder_of(self.model, self.prompts, cache),
            num_negatives=self.selecting.num_negatives,
            symmetric=False,
            cache_dir=cache,
            confirm_cost=True,
            **self.options,
        )

    def ranking(self) -> Dataset:
        """The queries with the best documents, positives among them."""
        from datasets import concatenate_datasets

        ranked, mined = self.negatives(with_positives=False), self.negatives()
        beside = mined.select_columns(["positive", "positive_scores"])
        beside.info.description = ""
        return concatenate_datasets([ranked.remove_columns(["positive", "positive_scores"]), beside], axis=1)


def _written(mined: Dataset, layout: str, scores: bool, size: int, rows: GroupedRows) -> Dataset:
    """The rows in a layout, with the column names and types of sentence-transformers."""
    from datasets import Dataset, Features, List, Value

    converter = Converter(layout, RETRIEVER if scores else None, size, PairColumns())
    written = mined.with_format("arrow").map(converter, batched=True, desc=f"To {layout}").with_format(None)
    written = written.rename_columns({"query": rows.anchor, "positive": rows.positive})
    numbers = {"score": Value("float64"), "scores": List(Value("float64")), "label": Value("int64")}
    numbers["labels"] = List(Value("int64"))
    texts = List(Value("string")) if layout == "labeled-list" else Value("string")
    kinds = {name: Value("string") for name in written.column_names} | {rows.positive: texts}
    added = set(numbers) & set(written.column_names) - {rows.anchor, rows.positive}
    features = Features(kinds | {name: numbers[name] for name in added})
    if not len(written):  # whose columns `cast` leaves as they are
        empty = Dataset.from_dict({name: [] for name in features}, features=features)
        empty.info.description = written.info.description
        return empty
    return written.cast(features)
