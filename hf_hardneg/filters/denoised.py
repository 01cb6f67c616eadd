"""Denoising by a cross-encoder: what it takes for relevant is no negative (RocketQA, arXiv 2010.08191)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.filters.base import ScoringFilter, of_positive, share_of
from hf_hardneg.models.cross_encoder import Activation, Length, load_cross_encoder, may_score
from hf_hardneg.models.forward import check_device
from hf_hardneg.models.model_names import unwrapped
from hf_hardneg.models.score_store import stored
from hf_hardneg.models.scorers import ALLOWED, PairScorer, ScoreKind, probabilities
from hf_hardneg.retrievers import Sources
from hf_hardneg.runtime.arguments import AtLeastOne, Name, Share, ShareAboveZero, ShareBetween, check_fields
from hf_hardneg.signals import SMALLEST_POOL

PseudoPositives = Literal["off", "best", "all"]
THRESHOLD = 0.1


@dataclass(frozen=True)
class Denoised(ScoringFilter):
    """Keep a candidate only where a cross-encoder is confident that it is not relevant: `p < threshold`.

    Or, with `share`, where the model does not rate it among the highest of the query's best candidates. That asks a
    model only for an order, and suits one trained on few pairs, whose probabilities no one can check.

    Candidates that no filter before has removed are scored in the retriever's order, until enough pass or
    `scored_depth` is reached; those that were not scored are removed too. Each pair is scored once, ever: scores are
    stored in the cache as the model's raw logits, and mined rows carry them as `negative_denoised_scores` and
    `positive_denoised_scores`, which `to_format(..., scores="denoised")` hands to MarginMSE or KL distillation.

    Args:
        model (*optional*): see `load_cross_encoder`; by default the `cross_encoder=` of `HardNegatives`.
        threshold (`float`, *optional*): probability of relevance from which a candidate is removed, of a logit `x`
            `1 / (1 + exp(-x))`; 0.1 where there is no `share`.
        scored_depth (`int`, defaults to 50): candidates of a query that may be scored.
        share (`float`, *optional*): of the query's `scored_depth` best candidates, instead of a threshold: those
            that the model rates highest are removed, whether or not another filter removes them too. All are then
            scored. A query with fewer than 10 candidates loses none. By default the model's own, which is 0.3 for
            late interaction (`train_denoiser`) and none for other models.
        prob_margin (`float`, *optional*): also remove where `p > p+ - prob_margin`, `p+` being the lowest probability
            of the row's positives; no further rule where no positive could be scored.
        pseudo_positives (`str`, defaults to `"off"`): with `"best"` or `"all"`, the best candidate above
            `promote_above`, or all of them, come out in the columns `pseudo_positives` and `pseudo_positive_ids`; then
            all candidates to `scored_depth` are scored.
        promote_above (`float`, defaults to 0.9): probability above which a candidate is taken for relevant.
        activation (`str`, defaults to `"auto"`), max_length (`int`, *optional*), device (`str`, defaults to `"auto"`):
            see `load_cross_encoder`.
        kind (`str`, defaults to `"ce_prob"`): what the scores are; mining takes it from the model.

    Raises:
        ConfigError: a threshold is no probability, or they overlap, or there is a share as well.
    """

    model: Any = None
    threshold: ShareAboveZero | None = None
    scored_depth: AtLeastOne = 50
    prob_margin: Share | None = None
    pseudo_positives: PseudoPositives = "off"
    promote_above: ShareAboveZero = 0.9
    activation: Activation = "auto"
    max_length: Length | None = None
    device: Name = "auto"
    kind: ScoreKind = "ce_prob"
    share: ShareBetween | None = None
    name: ClassVar[str] = "denoised"

    def __post_init__(self) -> None:
        check_fields(self)
        check_device(self.device)
        if not (self.model is None or may_score(self.model)):
            raise ConfigError(f"Denoised(model=) got a {type(self.model).__name__}; allowed are {ALLOWED}.")
        if self.share is not None:
            self._check_share(self.share)
        if self.share is None and self.promote_above < self.limit:
            raise ConfigError(
                f"Denoised(threshold={self.limit}, promote_above={self.promote_above}) would promote "
                "what it keeps as a negative; give promote_above at least threshold, such as 0.9."
            )

    def _check_share(self, share: float) -> None:
        if self.threshold is not None:
            raise ConfigError(f"Denoised(threshold={self.threshold}, share={share}) has two rules; give one of them.")
        if self.scored_depth < SMALLEST_POOL:
            raise ConfigError(
                f"Denoised(share={share}, scored_depth={self.scored_depth}) is no part of a pool; give a "
                f"scored_depth of at least {SMALLEST_POOL}."
            )

    @property
    def limit(self) -> float:
        """The threshold, or its default."""
        return THRESHOLD if self.threshold is None else self.threshold

    def bind(self, sources: Sources) -> PairScorer:
        """The model, its scores stored in the corpus' cache.

        Raises:
            ConfigError: there is no model.
        """
        model = sources.cross_encoder if self.model is None else self.model
        if model is None:
            raise ConfigError(
                "denoised needs a cross-encoder, and none was given. Pass cross_encoder=, such as a Hub id or a path, "
                "or train one on your own pairs: `hf-hardneg train-denoiser`."
            )
        options: dict[str, Any] = {"activation": self.activation, "max_length": self.max_length, "device": self.device}
        cache = sources.corpus.cache
        return stored(load_cross_encoder(model, cache_dir=cache, **options), cache)

    def fitted(self, scorer: PairScorer) -> Denoised:
        """The same, with what the model's scores are and its own rule; a live model is only named from here on."""
        named = None if self.model is None else _name(self.model)
        share = self.share
        if share is None and self.threshold is None:
            share = getattr(unwrapped(scorer), "share", None)
        return replace(self, model=named, kind=scorer.kind, share=share)

    @property
    def exhaustive(self) -> bool:
        """Whether candidates are scored to the full depth even where enough have passed."""
        return self.promotes or self.compares

    @property
    def compares(self) -> bool:
        """Whether it goes by a share of the best candidates."""
        return self.share is not None

    @property
    def promotes(self) -> bool:
        """Whether candidates come out as pseudo-positives."""
        return self.pseudo_positives != "off"

    def depth(self, num_negatives: int) -> int:
        """As deep as scores go, at least ten times the request."""
        return max(self.scored_depth, 10 * num_negatives)

    def keep(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates confidently not relevant, or not in the share; not of those without a score.

        Raises:
            DataError: scores that should be probabilities are not.
        """
        scores = candidates.signals[self.name]
        chance = probabilities(scores, self.kind)
        if self.share is None:
            low = chance < self.limit
        else:
            low = ~(candidates.signals[share_of(self.name)].astype(np.float32) >= np.float32(1 - self.share))
        keep = low & (scores > -np.inf)
        if self.prob_margin is not None:
            positive = probabilities(candidates.signals[of_positive(self.name)], self.kind)
            keep &= ~(chance > positive - self.prob_margin)
        return keep

    def promoted(self, candidates: Candidates) -> np.ndarray:
        """Mask (n,) of the candidates that come out as pseudo-positives."""
        chance = probabilities(candidates.signals[self.name], self.kind)
        relevant = chance > self.promote_above
        if self.pseudo_positives == "all":
            return relevant
        best = np.full(candidates.queries, -np.inf)
        np.fmax.at(best, candidates.query, chance)
        first = np.zeros(len(candidates), bool)
        rows = np.flatnonzero(relevant & (chance == best[candidates.query]))
        first[rows[np.unique(candidates.query[rows], return_index=True)[1]]] = self.pseudo_positives == "best"
        return first


def _name(model: Any) -> str:
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__qualname__
