"""Samplers: which of the remaining candidates become negatives. Each is a frozen dataclass with one method, `choose`.

To add one, write the class here and list it in `SAMPLERS`; the contract tests run over that table.
"""

from __future__ import annotations

import functools
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.diagnostics import intrinsic_dimension
from hf_hardneg.draws import effective_sample_sizes, largest, sample_without_replacement
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.filters import Basis, check_basis, rank_by
from hf_hardneg.positives import Dedupe
from hf_hardneg.queries import Columns, query_keys
from hf_hardneg.retrievers import Searcher, dense_part
from hf_hardneg.signals import Signal
from hf_hardneg.topics import SameTopic
from hf_hardneg.unremix import Representativeness, Uncertainty

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

POOL = 200
FLAT, PEAKED = 0.95, 2.0
SAMPLED = 1000

Uniforms = Callable[[str, Candidates], np.ndarray]
"""Keyed draws under a salt for each candidate: (n,) float64 inside (0, 1)."""


class Sampler(Protocol):
    """What mining asks of a sampler; subclasses inherit all but `name`, `choose` and `depth`."""

    name: ClassVar[str]
    needs_positive: ClassVar[bool] = False

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What `choose` reads of `Candidates.signals`."""
        return ()

    def fitted(self, searcher: Searcher) -> Sampler:
        """The same, with constants that depend on the index; raises where it does not suit the scores."""
        self.check_kind(searcher.score_kind)
        return self

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Ascending positions of the chosen candidates, at most `size` for each query."""
        raise NotImplementedError

    def depth(self, num_negatives: int) -> int:
        """How many candidates retrieval should bring."""
        raise NotImplementedError

    def check_known(self, known: Sequence[Dataset], columns: Columns, dedupe: Dedupe) -> None:
        """Raise where the known pairs are too few for it.

        Raises:
            ConfigError: naming how many it needs.
        """
        return

    def for_one_query(self) -> Sampler:
        """The same where a single query is known: what plans measure on samples."""
        return self

    def check_kind(self, score_kind: str) -> None:
        """Raise where scores of a kind mean nothing to it.

        Raises:
            ConfigError: naming the kinds that do.
        """
        return


@dataclass(frozen=True)
class Top(Sampler):
    """The best-ranked candidates."""

    name: ClassVar[str] = "top"

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the first `size` candidates of each query."""
        return np.flatnonzero(candidates.survivor_position() < size)

    def depth(self, num_negatives: int) -> int:
        """The request."""
        return num_negatives


@dataclass(frozen=True)
class Uniform(Sampler):
    """A uniform sample, without replacement, from the first `pool` candidates ("sampled top-k" of arXiv 2407.15831).

    Args:
        pool (`int`, *optional*): how many of the best candidates take part; all by default.
    """

    pool: int | None = None
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool < 1:
            raise ConfigError(f"Uniform(pool={self.pool}) draws from nothing; give a pool of at least 1.")

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of each query."""
        inside = np.flatnonzero(candidates.survivor_position() < (self.pool or np.inf))
        return inside[_uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The pool, or ten times the request."""
        return self.pool or 10 * num_negatives


@dataclass(frozen=True)
class RankZone(Sampler):
    """A uniform sample from ranks `[start, end)`.

    Args:
        start, end (`int`, default to 50 and 200): the zone.
        basis (`str`, defaults to `"no_positives"`): see `RankWindow`.
        anchor (`str`, defaults to `"absolute"`): `"positive_rank"` counts from the rank of the positive instead; a
            query whose positive was not retrieved then has no zone.
    """

    start: int = 50
    end: int = 200
    basis: Basis = "no_positives"
    anchor: Literal["absolute", "positive_rank"] = "absolute"
    name: ClassVar[str] = "rank_zone"

    def __post_init__(self) -> None:
        check_basis(self.basis)
        if self.anchor not in ("absolute", "positive_rank"):
            raise ConfigError(f"RankZone(anchor={self.anchor!r}): allowed are 'absolute' and 'positive_rank'.")
        if self.end <= self.start or (self.start < 0 and self.anchor == "absolute"):
            raise ConfigError(f"RankZone(start={self.start}, end={self.end}) is empty; give end above start.")

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of the zone of each query."""
        rank = rank_by(candidates, self.basis).astype(np.int64)
        in_reach = np.ones(len(candidates), bool)
        if self.anchor == "positive_rank":
            origin = candidates.positive_rank[candidates.query]
            rank, in_reach = rank - origin, origin >= 0
        inside = np.flatnonzero(in_reach & (rank >= self.start) & (rank < self.end))
        return inside[_uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """The zone's end."""
        return self.end


def _uniform_sample(candidates: Candidates, size: int, salt: str, uniforms: Uniforms) -> np.ndarray:
    weights, draws = np.zeros(len(candidates)), uniforms(salt, candidates)
    return sample_without_replacement(weights, draws, size, candidates.offsets())


class Weighted(Sampler):
    """A keyed draw without replacement, in proportion to weights of the candidates.

    Warns, once in a process, where the weights draw like another sampler: where the effective sample size `1 / sum p^2`
    is nearly the pool (`Uniform` does that) or under 2 (`Top`), on the mean over a batch.
    """

    @abstractmethod
    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """Logarithms of the weights, (n,) float64; `-inf` is never drawn while a query has another."""

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed weighted sample of each query."""
        weights, offsets = self.log_weights(candidates), candidates.offsets()
        self._warn_of_degenerate_draws(weights, offsets, size)
        return sample_without_replacement(weights, uniforms(self.name, candidates), size, offsets)

    def depth(self, num_negatives: int) -> int:
        """200, or the request."""
        return max(POOL, num_negatives)

    def _warn_of_degenerate_draws(self, weights: np.ndarray, offsets: np.ndarray, size: int) -> None:
        pools = np.diff(offsets)
        drawing = pools > size
        if not drawing.any():
            return
        effective = effective_sample_sizes(weights, offsets)[drawing]
        if (effective / pools[drawing]).mean() > FLAT:
            _warn_once(repr(self), "draws almost uniformly: its weights are flat on scores of this scale")
        elif effective.mean() < PEAKED:
            _warn_once(repr(self), "draws almost always the same few: its weights are all but zero for the others")


@functools.lru_cache(maxsize=256)
def _warn_once(sampler: str, finding: str) -> None:
    logger.warning("%s %s. Look at report(mined), and change its scale, temperature or dimension.", sampler, finding)


@dataclass(frozen=True)
class SimANS(Weighted):
    """Candidates that score like the positive, wherever they rank: `p ~ exp(-a (s - s+ - b)^2)` (arXiv 2210.11773).

    `s+` is the miner's `positive_agg` of the positives' scores; the paper's code draws one positive instead. We draw
    without replacement, exactly in proportion; the paper's code only nearly so.

    Args:
        a (`float`, defaults to 0.5): how fast weights fall. The paper's value is for dot products, whose gaps are of
            several units: on cosines it draws uniformly, and warns, unless `score_scale` says otherwise.
        b (`float`, defaults to 0): how far above the positive the weights have their top, in units of the scaled score.
        kernel (`str`, defaults to `"gaussian"`): or `"laplace"`, `exp(-a |s - s+ - b|)`, with a = 3 in their MS MARCO
            passage code.
        sign (`str`, defaults to `"paper"`): `"code"` takes `b` with the opposite sign, as their scripts do.
        score_scale (`float` or `"auto"`, defaults to 1): scores are multiplied by it; `"auto"` divides them by the
            standard deviation of the query's candidates.
    """

    a: float = 0.5
    b: float = 0.0
    _: KW_ONLY
    kernel: Literal["gaussian", "laplace"] = "gaussian"
    sign: Literal["paper", "code"] = "paper"
    score_scale: float | Literal["auto"] = 1.0
    name: ClassVar[str] = "simans"
    needs_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_choice("SimANS", "kernel", self.kernel, ("gaussian", "laplace"))
        _check_choice("SimANS", "sign", self.sign, ("paper", "code"))
        _check_above_zero("SimANS", "a", self.a, 0.5)
        if self.score_scale != "auto":
            _check_above_zero("SimANS", "score_scale", self.score_scale, "'auto'")

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        shift = self.b if self.sign == "paper" else -self.b
        gap = self._scale(candidates) * (candidates.score - candidates.anchor()) - shift
        return -self.a * (gap**2 if self.kernel == "gaussian" else np.abs(gap))

    def _scale(self, candidates: Candidates) -> float | np.ndarray:
        if self.score_scale != "auto":
            return self.score_scale
        counts = np.maximum(candidates.counts(), 1)
        query, size = candidates.query, candidates.queries
        mean = np.bincount(query, candidates.score, minlength=size) / counts
        variance = np.bincount(query, (candidates.score - mean[query]) ** 2, minlength=size) / counts
        return (1 / np.sqrt(np.where(variance > 0, variance, 1.0)))[query]


@dataclass(frozen=True)
class Importance(Weighted):
    """A softmax over the candidates' scores, `p ~ exp(s / temperature)`.

    In proportion to what InfoNCE would make of each; not the sampler of Wu et al., which is `DistanceWeighted`.

    Args:
        temperature (`float`, defaults to 0.1): in units of the scores; near 0 the best-ranked are taken.
    """

    temperature: float = 0.1
    name: ClassVar[str] = "importance"

    def __post_init__(self) -> None:
        _check_above_zero("Importance", "temperature", self.temperature, 0.1)

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        _refuse_unscored("Importance", score_kind)

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        return candidates.score / self.temperature


@dataclass(frozen=True)
class DistanceWeighted(Weighted):
    """Distances drawn evenly: weights are one over the density of distances on the sphere (Wu et al., 1706.07567).

    Args:
        cutoff (`float`, defaults to 0.5): nearer candidates count as if at this distance.
        nonzero_loss_cutoff (`float`, *optional*, defaults to 1.4): candidates beyond have no weight. It belongs to the
            paper's margin loss; InfoNCE has no such distance, so `None` may be right.
        dim (`str` or `int`, defaults to `"embedding"`): dimension of the sphere; `"intrinsic"` fits it to distances of
            the corpus. Text vectors fill a narrow cone, and with hundreds of dimensions what is nearest has all the
            weight.
    """

    cutoff: float = 0.5
    nonzero_loss_cutoff: float | None = 1.4
    dim: int | Literal["embedding", "intrinsic"] = "embedding"
    name: ClassVar[str] = "distance_weighted"

    def __post_init__(self) -> None:
        end = 2.0 if self.nonzero_loss_cutoff is None else self.nonzero_loss_cutoff
        if not 0 < self.cutoff < end <= 2:
            raise ConfigError(
                f"DistanceWeighted(cutoff={self.cutoff}, nonzero_loss_cutoff={self.nonzero_loss_cutoff}) leaves no "
                "distances: those of unit vectors lie in (0, 2). Give 0 < cutoff < nonzero_loss_cutoff <= 2."
            )
        if self.dim not in ("embedding", "intrinsic") and (not isinstance(self.dim, int) or self.dim < 4):
            raise ConfigError(
                f"DistanceWeighted(dim={self.dim!r}): allowed are 'embedding', 'intrinsic' and whole numbers from 4; "
                "give the dimension of the vectors, or what they fill of it."
            )

    def check_kind(self, score_kind: str) -> None:
        """Raise for scores that are not cosines."""
        if score_kind != "cosine":
            raise ConfigError(
                f"DistanceWeighted needs distances of unit vectors, and these scores are {score_kind!r}, not 'cosine'. "
                "Retrieve with Dense(similarity='cosine'), or draw with Importance(temperature)."
            )

    def fitted(self, searcher: Searcher) -> DistanceWeighted:
        """The same with its dimension as a number."""
        self.check_kind(searcher.score_kind)
        part = dense_part(searcher)
        if isinstance(self.dim, int) or part is None:
            return self
        if self.dim == "embedding":
            return replace(self, dim=max(part.index.width, 4))
        rows = np.unique(np.linspace(0, part.index.documents - 1, SAMPLED).astype(np.int64))
        return replace(self, dim=max(round(intrinsic_dimension(part.index.vectors(rows))), 4))

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        if isinstance(self.dim, str):
            raise ConfigError(f"{self!r} has no number for dim: call fitted(searcher) first, or give one.")
        distance = np.sqrt(np.maximum(2 - 2 * candidates.score, 0.0))
        clipped = np.maximum(distance, self.cutoff)
        outside = np.log(np.maximum(1 - clipped**2 / 4, 1e-8))
        weights = (2 - self.dim) * np.log(clipped) - (self.dim - 3) / 2 * outside
        end = np.inf if self.nonzero_loss_cutoff is None else self.nonzero_loss_cutoff
        return np.where(clipped < end, weights, -np.inf)


@dataclass(frozen=True)
class UnReMix(Weighted):
    """Candidates that are similar, uncertain and representative (arXiv 2206.01197), by a weighted sum of the three.

    Each is scaled to 0 to 1 over the query's candidates; one that cannot be told counts as 0. See `hf_hardneg.unremix`
    for what they are. The weights are ours: the paper's could not be verified.

    Args:
        similarity, uncertainty, representativeness (`float`, default to 1/3): weights.
        temperature (`float`, defaults to 0.5): of the softmax that uncertainty is taken from.
        draw_temperature (`float`, *optional*): draws by `exp(sum / draw_temperature)`; by default the highest sums are
            taken.
    """

    similarity: float = 1 / 3
    uncertainty: float = 1 / 3
    representativeness: float = 1 / 3
    _: KW_ONLY
    temperature: float = 0.5
    draw_temperature: float | None = None
    name: ClassVar[str] = "unremix"

    def __post_init__(self) -> None:
        _check_above_zero("UnReMix", "temperature", self.temperature, 0.5)
        if self.draw_temperature is not None:
            _check_above_zero("UnReMix", "draw_temperature", self.draw_temperature, 0.1)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The two components that are no score."""
        return (Uncertainty(self.temperature), Representativeness())

    def check_kind(self, score_kind: str) -> None:
        """Raise for candidates without scores."""
        _refuse_unscored("UnReMix", score_kind)

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of the highest sums of each query, or of a keyed sample."""
        if self.draw_temperature is None:
            return largest(self.sums(candidates), size, candidates.offsets())
        return super().choose(candidates, size, uniforms)

    def log_weights(self, candidates: Candidates) -> np.ndarray:
        """See `Weighted`."""
        return self.sums(candidates) / (self.draw_temperature or 1.0)

    def sums(self, candidates: Candidates) -> np.ndarray:
        """The weighted sum for each candidate, (n,) float64."""
        components = (candidates.score, *(candidates.signals[signal.name] for signal in self.signals))
        weights = (self.similarity, self.uncertainty, self.representativeness)
        scaled = [_min_max(values, candidates) for values in components]
        return sum(weight * values for weight, values in zip(weights, scaled, strict=True)) + np.zeros(len(candidates))


@dataclass(frozen=True)
class TopicNegatives(Sampler):
    """A uniform sample from the candidates of the query's topic.

    Topics are clusters of the known queries' vectors, by k-means; a document belongs to the nearest. A sketch that
    TAS-B (arXiv 2104.06967) is often taken for, which composes training batches of one topic instead.

    Args:
        topics (`int`, defaults to 100): how many; at most the known queries.
        seed (`int`, defaults to 42): of k-means.
    """

    topics: int = 100
    seed: int = 42
    name: ClassVar[str] = "topic_negatives"

    def __post_init__(self) -> None:
        if self.topics < 1:
            raise ConfigError(f"TopicNegatives(topics={self.topics}) has no topic; give at least 1, such as 100.")

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Whether a candidate is of the query's topic."""
        return (SameTopic(self.topics, self.seed),)

    def check_known(self, known: Sequence[Dataset], columns: Columns, dedupe: Dedupe) -> None:
        """Raise for more topics than known queries."""
        keys = [query_keys(rows, columns, dedupe) for rows in known]
        found = len(np.unique(np.concatenate(keys))) if keys else self.topics
        if found < self.topics:
            raise ConfigError(
                f"TopicNegatives(topics={self.topics}) makes topics of {found} different queries; at most one for each "
                f"is allowed. Give fewer, such as {max(found // 10, 1)}, or more pairs."
            )

    def for_one_query(self) -> TopicNegatives:
        """The same with one topic."""
        return replace(self, topics=1)

    def choose(self, candidates: Candidates, size: int, uniforms: Uniforms) -> np.ndarray:
        """Positions of a keyed uniform sample of the topic's candidates of each query."""
        inside = np.flatnonzero(candidates.signals[self.signals[0].name] == 1)
        return inside[_uniform_sample(candidates.take(inside), size, self.name, uniforms)]

    def depth(self, num_negatives: int) -> int:
        """200, or ten times the request."""
        return max(POOL, 10 * num_negatives)


def _min_max(values: np.ndarray, candidates: Candidates) -> np.ndarray:
    """Values scaled to 0 to 1 over each query's candidates; 0 where they are all alike, or NaN."""
    low, high = np.full(candidates.queries, np.inf), np.full(candidates.queries, -np.inf)
    np.fmin.at(low, candidates.query, values)
    np.fmax.at(high, candidates.query, values)
    low, high = low[candidates.query], high[candidates.query]
    scaled = np.divide(values - low, high - low, out=np.zeros(len(values)), where=high > low)
    return np.nan_to_num(scaled)


def _check_choice(sampler: str, parameter: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise unknown_name(f"{sampler}({parameter}=...)", given, allowed)


def _check_above_zero(sampler: str, parameter: str, given: float, usual: float | str) -> None:
    if not (isinstance(given, int | float) and given > 0):
        raise ConfigError(f"{sampler}({parameter}={given!r}): numbers above 0 are allowed; give one, such as {usual}.")


def _refuse_unscored(sampler: str, score_kind: str) -> None:
    if score_kind == "none":
        raise ConfigError(
            f"{sampler} weighs candidates by their scores, but random retrieval scores nothing. "
            "Use a bm25 or dense retriever, or the sampler Uniform()."
        )


SAMPLERS: dict[str, type[Sampler]] = {
    "top": Top,
    "uniform": Uniform,
    "rank_zone": RankZone,
    "simans": SimANS,
    "importance": Importance,
    "distance_weighted": DistanceWeighted,
    "unremix": UnReMix,
    "topic_negatives": TopicNegatives,
}
"""Every sampler by its name."""
