"""Estimate how many negatives are relevant by a judge of a keyed random sample, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import FunctionType
from typing import Any

import numpy as np

from hf_hardneg.arrays.statistics import wilson_interval
from hf_hardneg.audits.audited_rows import AuditedBatch, Side, cut
from hf_hardneg.errors import DataError
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.scorers import CallableScorer, PairScorer, probabilities
from hf_hardneg.runtime.arguments import AtLeastOne, AtLeastZero, ShareBetween, check_fields
from hf_hardneg.store.directories import cache_root
from hf_hardneg.text.hashes import NONE, pair_keys

EXAMPLES = 5


@dataclass(frozen=True)
class Share:
    """`accepted` of `asked` pairs that a judge takes for relevant; printed with its Wilson 95 % interval."""

    accepted: int
    asked: int

    @property
    def share(self) -> float:
        """The accepted share; NaN where no pair was asked."""
        return self.accepted / self.asked if self.asked else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest share that the sample agrees with."""
        return wilson_interval(self.accepted, self.asked)

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval)
        return (
            f"{self.accepted:,} of {self.asked:,} ({100 * self.share:.1f} %, 95 % interval {low:.1f} to {high:.1f} %)"
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a judge says of samples of pairs.

    The share among negatives is a share of false negatives as far as the judge is right. How far that is, two samples
    whose answer is known tell: of known positives it should accept nearly all, of random pairs nearly none.

    Args:
        negatives (`Share`): accepted among distinct (query, negative) pairs.
        positives (`Share`): accepted among distinct (query, positive) pairs: the judge's sensitivity.
        random (`Share`): accepted among queries with a positive of another query: its false alarms.
        threshold (`float`): probability from which a pair counts as relevant.
        judge (`str`): the name of the judge.
        seed (`int`): seed of the samples, drawn by keys of the texts alone.
        examples (`tuple[dict, ...]`): the first negatives that are accepted: `row`, `query`, `negative`.
    """

    negatives: Share
    positives: Share
    random: Share
    threshold: float
    judge: str
    seed: int
    examples: tuple[dict[str, Any], ...] = ()

    def __str__(self) -> str:
        return (
            f"likely false negatives {self.negatives}\n"
            f"  of a keyed sample of distinct pairs, by {self.judge},\n"
            f"  relevant from a probability of {self.threshold:g};\n"
            "  how far it can be trusted: it accepts\n"
            f"  {self.positives} known positives and\n"
            f"  {self.random} random pairs"
        )


@dataclass
class SampledPairs:
    """The `size` distinct (query, document) pairs with the smallest keys: the same for any batches and any order."""

    size: int
    seed: int
    pairs: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    def add(self, batch: AuditedBatch, side: Side) -> None:
        """Take in the documents of a batch."""
        if batch.query is None or side.texts is None:
            return
        keys = pair_keys(np.full(len(side.owner), self.seed + 1), pair_keys(batch.seen[side.owner], side.seen))
        kept, place = np.unique(keys, return_index=True)
        place = place[kept != NONE][: self.size]
        for key, row, at in zip(keys[place].tolist(), side.owner[place].tolist(), place.tolist(), strict=True):
            if key not in self.pairs:
                self.pairs[key] = (batch.query[row].as_py(), side.texts[at].as_py(), int(batch.number[row]))
        self.pairs = {key: self.pairs[key] for key in sorted(self.pairs)[: self.size]}


@dataclass(frozen=True)
class Judge:
    """A model that says whether documents are relevant, how many pairs it is asked, and how it is understood.

    Args:
        model: a cross-encoder, as `load_cross_encoder` takes it, or a function (queries, documents) to probabilities
            (or logits, with an attribute `kind` of `"ce_logit"`).
        sample (`int`, defaults to 500): how many distinct pairs of each kind it is asked.
        threshold (`float`, defaults to 0.5): probability from which it says relevant.
        seed (`int`, defaults to 42): seed of the samples, which depend on the texts alone.

    Raises:
        ConfigError: the model is something else, or a number is out of range.
        ModelError: there is no such model.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"query": ["sky"], "positive": ["blue"], "negative": ["azure"]})
        >>> judge = Judge(lambda queries, documents: [0.8] * len(queries), threshold=0.7)
        >>> audit(rows, judge=judge).estimate.negatives.share
        1.0
    """

    model: Any
    sample: AtLeastOne = 500
    threshold: ShareBetween = 0.5
    seed: AtLeastZero = 42
    scorer: PairScorer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.model, FunctionType):
            kind: Any = getattr(self.model, "kind", "ce_prob")
            scorer: PairScorer = CallableScorer(function=self.model, digest="", kind=kind)
        else:
            scorer = load_cross_encoder(self.model, cache_dir=cache_root())
        object.__setattr__(self, "scorer", scorer)

    def estimate(self, negatives: SampledPairs, positives: SampledPairs) -> Estimate:
        """Ask the judge about the samples, and about queries beside the positive of the next query in the sample.

        Raises:
            DataError: a score is NaN, or no probability.
        """
        sampled, known = list(negatives.pairs.values()), list(positives.pairs.values())
        shifted = [(query, text, 0) for (query, *_), (other, text, _) in pairwise(known) if query != other]
        accepted = [self._accepts(pairs) for pairs in (sampled, known, shifted)]
        shares = [Share(int(mask.sum()), len(mask)) for mask in accepted]
        settings = getattr(self.scorer, "settings", {})
        name = next((str(settings[what]) for what in ("folder", "function", "model") if what in settings), "")
        relevant = [pair for pair, yes in zip(sampled, accepted[0], strict=True) if yes][:EXAMPLES]
        return Estimate(
            negatives=shares[0],
            positives=shares[1],
            random=shares[2],
            threshold=self.threshold,
            judge=name.rstrip("/").rpartition("/")[2] or type(self.scorer).__name__,
            seed=self.seed,
            examples=tuple({"row": row, "query": cut(query), "negative": cut(text)} for query, text, row in relevant),
        )

    def _accepts(self, pairs: Sequence[tuple[str, str, int]]) -> np.ndarray:
        if not pairs:
            return np.zeros(0, bool)
        scores = self.scorer.score([query for query, *_ in pairs], [text for _, text, _ in pairs])
        if np.isnan(scores).any():
            raise DataError(
                f"judge= gave NaN for {int(np.isnan(scores).sum()):,} of {len(scores):,} pairs, and every pair needs a "
                "number. Look at what it does with the longest and the emptiest texts."
            )
        if self.scorer.kind == "ce_prob" and ((scores < 0) | (scores > 1)).any():
            raise DataError(
                f"judge= gave scores outside [0, 1], such as {scores[(scores < 0) | (scores > 1)][0]:g}, and is taken "
                'to give probabilities. If these are logits, set its attribute `kind` to "ce_logit".'
            )
        return probabilities(scores, self.scorer.kind) >= self.threshold
