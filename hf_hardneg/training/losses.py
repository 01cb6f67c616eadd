"""InfoNCE with in-batch, mined and cross-batch negatives, as functions of vectors alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.runtime.arguments import AboveZero, AtLeastZero, ZeroOrMore, check_fields, checked
from hf_hardneg.training.compared import ComparedDocuments, Keys
from hf_hardneg.training.contrast import Contrast, Others, check_row_weights, weights_as_logits
from hf_hardneg.training.gather import joined_mean
from hf_hardneg.training.guidance import Guide, OwnScores, own_guide
from hf_hardneg.training.mixing import MoCHi
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores

MultiPositive = Literal["mask", "sum", "pairs", "random"]
Hardness = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]
TEMPERATURES: dict[Similarity, float] = {"cosine": 0.05, "dot": 1.0}


def infonce(logits: Tensor, positive: Tensor, hidden: Tensor) -> Tensor:
    """Return `log sum exp` of what is not hidden, minus that of the positives, (B,).

    Args:
        logits (`Tensor`): (B, n) similarities divided by the temperature.
        positive (`Tensor`): (B, n) bool, at least one in each row.
        hidden (`Tensor`): (B, n) bool, left out of the loss; no positive among them.
    """
    everything = logits.masked_fill(hidden, -torch.inf).logsumexp(dim=1)
    return everything - logits.masked_fill(~positive, -torch.inf).logsumexp(dim=1)


def infonce_of_pairs(logits: Tensor, positive: Tensor, hidden: Tensor) -> Tensor:
    """Return `log(1 + sum_p sum_n exp(n - p))` over positives p and negatives n, (B,); arguments as of `infonce`."""
    lowest = (-logits).masked_fill(~positive, -torch.inf).logsumexp(dim=1, keepdim=True)
    negatives = logits.masked_fill(hidden | positive, -torch.inf)
    return torch.cat([-lowest, negatives], dim=1).logsumexp(dim=1) + lowest.squeeze(1)


@dataclass(frozen=True, kw_only=True)
class CrossBatchLoss:
    """InfoNCE of this rank's queries against the documents of all ranks, its own mined negatives among them.

    Without a process group it is the in-batch loss. What is known to be a positive of a query, by `keys`, or is nearer
    to it than its positive, by `guide`, is not its negative. In place of a `Guide`, a name has the trained model guide
    itself by its own scores, detached: `"own_mask"` leaves out what scores above the positive's plus 0.1
    (Qwen3-Embedding, arXiv 2506.05176), `"own_weights"` halves the weight of what scores above 0.95 of the positive's
    (colpali-engine 0.3.18).

    Args:
        similarity (`str`, defaults to `"cosine"`): or `"dot"`.
        temperature (`float`, *optional*): above 0; by default 0.05 for cosine and 1 for dot.
        multi_positive (`str`, defaults to `"mask"`): what becomes of a query's positives in other rows. They are left
            out; `"sum"` adds them to the numerator; `"pairs"` compares each positive with each negative, `log(1 + sum_p
            sum_n exp(s_n - s_p))`, the steadiest by arXiv 2602.12727; `"random"` takes one of all positives, drawn by
            the texts and the step, in place of the row's own.
        mask_repeats (`bool`, defaults to `False`): a document that several rows bring is one negative, not several.
        contrast_queries (`bool`, defaults to `False`): the other queries are negatives of a query too.
        contrast_documents (`bool`, defaults to `False`): the other positives are negatives of a positive too.
        document_to_query (`bool`, defaults to `False`): the mean with the loss of the other direction, each row's
            positive against the queries of all ranks; those that it answers are left out.
        hardness_mode (`str`, *optional*): which negatives weigh by their hardness: `"in_batch_negatives"` (of
            other rows), `"hard_negatives"` (the row's own mined ones) or `"all_negatives"`.
        hardness_strength (`float`, defaults to 0): times their similarity, detached, is added to their logits
            (arXiv 2503.04812 uses 9 with the first, 2509.20354 uses 5 with the second).
        mixing (`MoCHi`, *optional*): adds mixtures of a query's hardest negatives.

    Raises:
        ConfigError: options that cannot work.
    """

    similarity: Similarity = "cosine"
    temperature: AboveZero | None = None
    multi_positive: MultiPositive = "mask"
    mask_repeats: bool = False
    contrast_queries: bool = False
    contrast_documents: bool = False
    document_to_query: bool = False
    hardness_mode: Hardness | None = None
    hardness_strength: ZeroOrMore = 0.0
    mixing: MoCHi | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.hardness_mode is None) != (self.hardness_strength == 0):
            raise ConfigError(
                f"hardness_mode={self.hardness_mode!r} with hardness_strength={self.hardness_strength}: a mode needs a "
                "strength above 0, and no mode needs 0. Give both, such as 'hard_negatives' and 5, or neither."
            )
        if self.mixing is not None and self.similarity != "cosine":
            raise ConfigError("mixing= makes vectors of unit length, similarity='dot' compares others; use 'cosine'.")

    @checked
    def __call__(
        self,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor | None = None,
        *,
        negative_mask: Tensor | None = None,
        negative_weights: Tensor | None = None,
        weights: Tensor | None = None,
        keys: Keys | None = None,
        guide: Guide | OwnScores | None = None,
        step: AtLeastZero = 0,
    ) -> Tensor:
        """Compute the loss, a scalar; averaged over ranks it is the mean of `rows` over all queries.

        Args:
            queries, positives, negatives, negative_mask, negative_weights, keys, guide, step: see `rows`.
            weights (`Tensor`, *optional*): (B,) of the rows, of at least 0, by which the mean is weighted.

        Raises:
            DataError: shapes that do not fit, within this rank or between ranks; weights below 0 or not finite.
        """
        if weights is not None:
            check_row_weights(weights, len(queries))
        losses = self.rows(
            queries,
            positives,
            negatives,
            negative_mask=negative_mask,
            negative_weights=negative_weights,
            keys=keys,
            guide=guide,
            step=step,
        )
        if weights is None:
            return joined_mean(losses.sum(), len(losses))
        return joined_mean((weights * losses).sum(), weights.sum())

    @checked
    def rows(
        self,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor | None = None,
        *,
        negative_mask: Tensor | None = None,
        negative_weights: Tensor | None = None,
        keys: Keys | None = None,
        guide: Guide | OwnScores | None = None,
        step: AtLeastZero = 0,
    ) -> Tensor:
        """Compute the loss of each query of this rank, (B,).

        Args:
            queries (`Tensor`): (B, d).
            positives (`Tensor`): (B, d).
            negatives (`Tensor`, *optional*): (B, m, d).
            negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
            negative_weights (`Tensor`, *optional*): (B, m) from 0 to 1, how much of a negative each mined one is to its
                own query, such as 1 minus the probability that it is false; it weighs so in the sum of exponentials.
            keys (`Keys`, *optional*): tell which texts are the same.
            guide (`Guide` or `str`, *optional*): vectors of another model, or how this one guides itself.
            step (`int`, defaults to 0): of the training, for `mixing` and `"random"` positives.

        Raises:
            DataError: shapes that do not fit, within this rank or between ranks.
        """
        if keys is None and (self.multi_positive != "mask" or self.mask_repeats):
            raise ConfigError(
                f"multi_positive={self.multi_positive!r}, mask_repeats={self.mask_repeats} need to know which texts "
                "are the same, and keys= is None. Pass Keys(**batch['keys']) of CrossBatchCollator."
            )
        if isinstance(guide, str):
            guide = own_guide(guide, queries, positives, negatives, self.similarity)
        batch = Contrast(queries, positives, negatives, negative_mask, keys, guide)
        parts = [self._of_documents(batch, negative_weights, step)]
        for rows, others in self._contrasted(batch):
            scores = all_scores(rows, others.vectors, self.similarity)
            logits = self._logits(scores, others.lighter, batch.log_weight)
            parts.append((logits, torch.zeros_like(others.left_out), others.left_out))
        if self.mixing is not None:
            documents, (_, positive, hidden) = batch.documents, parts[0]
            mixed, usable = self.mixing(
                queries, positives, documents.vectors, ~(positive | hidden), step=step, first=documents.first_label
            )
            logits = own_scores(queries, mixed, self.similarity) / self._temperature
            parts.append((logits, torch.zeros_like(usable), ~usable))
        logits, positive, hidden = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        if logits.shape[1] == 1:
            warn("A batch of one query and no negative has loss 0; give larger batches or mined negatives.")
        losses = (infonce_of_pairs if self.multi_positive == "pairs" else infonce)(logits, positive, hidden)
        return (losses + self._other_direction(batch)) / 2 if self.document_to_query else losses

    def _of_documents(self, batch: Contrast, negative_weights: Tensor | None, step: int) -> tuple[Tensor, ...]:
        """Return logits of the documents, which are positives and which are left out, (B, n) each."""
        documents, everything = batch.documents, batch.all_documents()
        positive = self._positives(batch, step)
        hidden = (everything.left_out | ~documents.valid) & ~positive
        if self.mask_repeats:
            hidden |= documents.repeats() & ~positive
        scores = all_scores(batch.queries, everything.vectors, self.similarity)
        logits = self._logits(scores, everything.lighter & ~positive, batch.log_weight)
        if self.hardness_mode is not None:
            logits = logits + self._hardness(documents, scores, self.hardness_mode).masked_fill(positive, 0.0)
        if negative_weights is not None:
            added = documents.at_mined(weights_as_logits(negative_weights, documents.mined)).to(logits)
            logits = logits + added.masked_fill(positive, 0.0)
        return logits, positive, hidden

    def _positives(self, batch: Contrast, step: int) -> Tensor:
        """Say which documents are in the numerator, (B, n) bool."""
        documents = batch.documents
        if self.multi_positive == "mask":
            return documents.labels()
        known = batch.known & documents.valid
        return known if self.multi_positive != "random" else batch.drawn(known, step)

    def _other_direction(self, batch: Contrast) -> Tensor:
        """Return the loss of each positive against all queries, (B,)."""
        everyone = batch.all_queries(of="positives")
        label = batch.documents.labels()[:, : batch.documents.num_positives]
        scores = all_scores(batch.positives, everyone.vectors, self.similarity)
        logits = self._logits(scores, everyone.lighter & ~label, batch.log_weight)
        return infonce(logits, label, everyone.left_out & ~label)

    @property
    def _temperature(self) -> float:
        return TEMPERATURES[self.similarity] if self.temperature is None else self.temperature

    def _logits(self, scores: Tensor, lighter: Tensor, log_weight: float) -> Tensor:
        """Return the logits of scores, (B, n), some of which weigh less."""
        logits = scores / self._temperature
        return torch.where(lighter, logits + log_weight, logits) if log_weight else logits

    def _hardness(self, documents: ComparedDocuments, scores: Tensor, mode: Hardness) -> Tensor:
        """Return what hardness adds to logits, (B, n)."""
        mined, label = documents.at(documents.mined), documents.labels()
        of_others = ~(mined | label)
        weighs = {"in_batch_negatives": of_others, "hard_negatives": mined, "all_negatives": ~label}
        return self.hardness_strength * scores.detach() * weighs[mode]

    def _contrasted(self, batch: Contrast) -> Iterator[tuple[Tensor, Others]]:
        """Yield rows of this rank, and what else they are compared with; see `contrast_queries`."""
        if self.contrast_queries:
            yield batch.queries, batch.all_queries(of="queries")
        if self.contrast_documents:
            yield batch.positives, batch.all_positives()


@checked
def cross_batch_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    negative_mask: Tensor | None = None,
    negative_weights: Tensor | None = None,
    weights: Tensor | None = None,
    keys: Keys | None = None,
    guide: Guide | OwnScores | None = None,
    step: AtLeastZero = 0,
    **options: Any,
) -> Tensor:
    """Compute `CrossBatchLoss(**options)` of one batch: InfoNCE with in-batch, mined and cross-batch negatives.

    Args:
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`, *optional*): (B, m, d).
        negative_mask, negative_weights, keys, guide, step: see `CrossBatchLoss.rows`.
        weights (`Tensor`, *optional*): (B,) of the rows.
        options: fields of `CrossBatchLoss`, such as `temperature`.

    Returns:
        `Tensor`, a scalar: the mean over the joined batch, when averaged over ranks.

    Example:
        >>> import torch
        >>> vectors = torch.eye(2)
        >>> round(cross_batch_loss(vectors, vectors, similarity="dot").item(), 4)
        0.3133
    """
    loss = CrossBatchLoss(**options)
    return loss(
        queries,
        positives,
        negatives,
        negative_mask=negative_mask,
        negative_weights=negative_weights,
        weights=weights,
        keys=keys,
        guide=guide,
        step=step,
    )
