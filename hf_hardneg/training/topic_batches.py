"""Batches of one topic, and pairs whose margins are spread evenly: TAS-Balanced (arXiv 2104.06967).

Queries are clustered once. Each batch comes from one cluster, which makes its in-batch negatives topical.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import Sampler

from hf_hardneg.arrays.vectors import as_numbers, checked_vectors
from hf_hardneg.draws import gumbel_keys, keyed_uniforms
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, Seed, checked
from hf_hardneg.signals.topics import BLOCK, centroids_of, topic_of

Weight = Literal["uniform", "size"]
QUERIES = 200
"""A topic has so many queries on average: 2,000 topics of the 400,000 queries of MS MARCO."""


@checked
def query_topics(
    vectors: Any, *, topics: AtLeastOne | None = None, seed: Seed = 42, normalize: bool = True
) -> np.ndarray:
    """Find the topic of each query by k-means, (n,) int64: store it as a column.

    Args:
        vectors (`np.ndarray`): (n, d) of the queries, by the model before training.
        topics (`int`, *optional*): how many; by default one for every 200 queries.
        seed (`int`, defaults to 42): of k-means.
        normalize (`bool`, defaults to `True`): compare directions alone, as cosine does.

    Raises:
        ConfigError: fewer queries than topics.
    """
    vectors = checked_vectors(vectors, what="vectors of the queries")
    topics = max(len(vectors) // QUERIES, 1) if topics is None else topics
    if topics > len(vectors):
        raise ConfigError(f"topics={topics} of {len(vectors)} queries; give at least 1 and at most one for each query.")
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centroids = centroids_of(vectors, topics, seed=seed, unit=normalize)
    blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
    return np.concatenate([topic_of(block, centroids) for block in blocks])


@checked
def margin_bins(margins: Any, queries: Any, *, bins: AtLeastOne = 10) -> np.ndarray:
    """Sort pairs into bins of their query, (n,) int64: equal widths between its least and largest margin.

    Args:
        margins (`np.ndarray`): (n,) the teacher's score of the positive minus that of the negative.
        queries (`np.ndarray`): (n,) int64 from 0, the query of each pair.
        bins (`int`, defaults to 10): how many; a query whose margins are all equal has one.
    """
    margins, queries = numbers("margins", margins), numbers("queries", queries)
    if len(margins) != len(queries) or queries.dtype.kind not in "iu" or queries.min(initial=0) < 0:
        raise DataError(
            f"margin_bins() got {len(margins)} margins and {len(queries)} queries of type {queries.dtype}; each pair "
            "needs its margin and the number of its query, from 0. Take them from columns of one dataset."
        )
    size = int(queries.max(initial=-1)) + 1
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, queries, margins)
    np.maximum.at(high, queries, margins)
    width = (high - low)[queries]
    place = np.divide(margins - low[queries], width, out=np.zeros(len(margins)), where=width > 0)
    return np.minimum(bins - 1, np.floor(bins * place)).astype(np.int64)


class TopicBatchSampler(Sampler[list[int]]):
    """A batch sampler: rows of one topic; another topic tops up a batch that the first cannot fill.

    Rows are queries, or pairs of a query and a negative, such as `to_format(mined, "triplet", scores=True)` gives where
    a cross-encoder mined: then a batch has at most one pair of a query, from a bin of its margins chosen uniformly. All
    batches are full. Draws are keyed by seed, epoch and batch, so the same on every rank, and Accelerate shards them.
    Split its batches (`DataLoaderConfiguration(split_batches=True)`) for one topic over all ranks; else each rank has
    its own.

    Args:
        topics (`Sequence[int]`): (n,) the topic of each row.
        batch_size (`int`, defaults to 32): queries of a batch, of all ranks where batches are split.
        queries (`Sequence`, *optional*): (n,) the query of each row, ids or texts; by default each row is one.
        margins (`Sequence[float]`, *optional*): (n,) the teacher's margin of each pair; by default a query's pairs are
            drawn uniformly.
        bins (`int`, defaults to 10): of margins.
        topics_per_batch (`int`, defaults to 1): topics that share a batch.
        topic_weight (`str`, defaults to `"uniform"`): how a topic is drawn; `"size"` by its queries, since the uniform
            draw of the paper shows queries of small topics more often.
        seed (`int`, defaults to 42): of the draws.

    Raises:
        ConfigError: options that cannot work, such as a batch larger than all queries.
        DataError: sequences of different lengths, or a query of two topics.
    """

    drop_last = False
    epoch = 0

    @checked
    def __init__(
        self,
        topics: Sequence[Any],
        batch_size: AtLeastOne = 32,
        *,
        queries: Sequence[object] | None = None,
        margins: Sequence[Any] | None = None,
        bins: AtLeastOne = 10,
        topics_per_batch: AtLeastOne = 1,
        topic_weight: Weight = "uniform",
        seed: int = 42,
    ) -> None:
        if topics_per_batch > batch_size:
            raise ConfigError(
                f"topics_per_batch={topics_per_batch} of a batch of {batch_size} queries; at most one for each is "
                "allowed. Give fewer, or larger batches."
            )
        topic = numbered("topics", topics)
        query = np.arange(len(topic)) if queries is None else numbered("queries", queries)
        margin = np.zeros(len(topic)) if margins is None else numbers("margins", margins).astype(np.float64)
        _check_rows(topic, query, margin, batch_size)
        self.batch_size, self.seed = batch_size, seed
        self._each = -(-batch_size // topics_per_batch)
        self._bins = margin_bins(margin, query, bins=bins)
        self._rows = grouped(query)
        self._queries = grouped(topic[[rows[0] for rows in self._rows]])
        sizes = np.array([len(members) for members in self._queries])
        self._log_weights = np.log(sizes) if topic_weight == "size" else np.zeros(len(sizes))

    @property
    def sampler(self) -> TopicBatchSampler:
        """The sampler itself: here Accelerate looks for `set_epoch` once it has sharded the batches."""
        return self

    @checked
    def set_epoch(self, epoch: AtLeastZero) -> None:
        """Draw the batches of another epoch; Accelerate calls it at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._rows) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(len(self)):
            name = str(number)
            yield [self._row(query, name) for query in self._batch(name)]

    def _uniforms(self, what: str, batch: str, items: Iterable[object]) -> np.ndarray:
        return keyed_uniforms(self.seed, f"tasb#{what}@{self.epoch}", batch, map(str, items))

    def _batch(self, name: str) -> list[int]:
        """Draw the queries of a batch."""
        keys = gumbel_keys(self._log_weights, self._uniforms("topic", name, range(len(self._queries))))
        chosen, spare = list[int](), list[int]()
        for topic in np.argsort(-keys):
            members = self._queries[topic]
            size = min(self.batch_size, len(members))
            drawn = members[_shuffled(len(members), self._uniforms("query", f"{name} {topic}", range(size)))].tolist()
            chosen += drawn[: self._each]
            spare += drawn[self._each :]
            if len(chosen) >= self.batch_size:
                break
        return [*chosen, *spare][: self.batch_size]

    def _row(self, query: int, name: str) -> int:
        """Draw a row of a query: a bin uniformly, then one of its rows uniformly."""
        rows = self._rows[query]
        if len(rows) == 1:
            return int(rows[0])
        which, inside = self._uniforms("pair", f"{name} {query}", ("bin", "row"))
        bins = np.unique(self._bins[rows])
        rows = rows[self._bins[rows] == bins[int(which * len(bins))]]
        return int(rows[int(inside * len(rows))])


def _shuffled(size: int, uniforms: np.ndarray) -> list[int]:
    """Draw different whole numbers below `size`, one for each uniform: the first steps of Fisher and Yates' shuffle."""
    moved: dict[int, int] = {}
    numbers = []
    for place, uniform in enumerate(uniforms):
        other = place + int(uniform * (size - place))
        numbers.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return numbers


def numbers(name: str, values: Any) -> np.ndarray:
    """Return finite numbers, (n,).

    Raises:
        DataError: the values are none.
    """
    try:
        array = as_numbers(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds no numbers ({error}); give one for each row, as a column holds them.") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise DataError(
            f"{name} has shape {array.shape}, or holds NaN or infinity; give one finite number for each row."
        )
    return array


def numbered(name: str, values: Any) -> np.ndarray:
    """Number ids or texts from 0 on, (n,) int64."""
    with contextlib.suppress(TypeError, ValueError):  # values that NumPy cannot order are refused below
        if (array := np.asarray(values)).ndim == 1:
            return np.unique(array, return_inverse=True)[1]
    raise DataError(f"{name} holds no ids or texts of one type; give one for each row, as a column holds them.")


def grouped(labels: np.ndarray) -> list[np.ndarray]:
    """List the places of each label, ascending; labels are whole numbers from 0."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels))[:-1])


def _check_rows(topic: np.ndarray, query: np.ndarray, margin: np.ndarray, batch_size: int) -> None:
    if not len(topic) == len(query) == len(margin):
        raise DataError(
            f"There are {len(topic)} topics, {len(query)} queries and {len(margin)} margins; each row needs one "
            "of each. Take them from columns of one dataset."
        )
    count = int(query.max(initial=-1)) + 1
    if batch_size > count:
        raise ConfigError(
            f"batch_size={batch_size} is more than the {count} different queries, and a batch has each only once. "
            "Give smaller batches, or more queries."
        )
    if len(np.unique(np.stack([query, topic]), axis=1).T) > count:
        raise DataError(
            "Some query has rows of different topics; all rows of a query belong to one. "
            "Take the topic of the query, as query_topics gives it, for each of its rows."
        )
