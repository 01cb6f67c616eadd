"""InfoNCE with in-batch, mined and cross-batch negatives, as functions of vectors alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hf_hardneg.errors import ConfigError, warn
from hf_hardneg.runtime.arguments import AboveZero, AtLeastZero, ZeroOrMore, check_fields, checked
from hf_hardneg.training.compared import ComparedDocuments, Keys, check_shape, gather_documents
from hf_hardneg.training.gather import gather_rows, joined_mean
from hf_hardneg.training.guidance import Guide
from hf_hardneg.training.mixing import MoCHi
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores

MultiPositive = Literal["mask", "sum"]
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


@dataclass(frozen=True, kw_only=True)
class CrossBatchLoss:
    """InfoNCE of this rank's queries against the documents of all ranks, its own mined negatives among them.

    Without a process group it is the in-batch loss. What is known to be a positive of a query, by `keys`, or is nearer
    to it than its positive, by `guide`, is not its negative.

    Args:
        similarity (`str`, defaults to `"cosine"`): or `"dot"`.
        temperature (`float`, *optional*): above 0; by default 0.05 for cosine and 1 for dot.
        multi_positive (`str`, defaults to `"mask"`): other positives of a query are left out; `"sum"` adds them to the
            numerator.
        mask_repeats (`bool`, defaults to `False`): a document that several rows bring is one negative, not several.
        contrast_queries (`bool`, defaults to `False`): the other queries are negatives of a query too.
        contrast_documents (`bool`, defaults to `False`): the other positives are negatives of a positive too.
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
        keys: Keys | None = None,
        guide: Guide | None = None,
        step: AtLeastZero = 0,
    ) -> Tensor:
        """Compute the loss, a scalar; averaged over ranks it is the mean of `rows` over all queries.

        Raises:
            DataError: shapes that do not fit, within this rank or between ranks.
        """
        losses = self.rows(
            queries, positives, negatives, negative_mask=negative_mask, keys=keys, guide=guide, step=step
        )
        return joined_mean(losses.sum(), len(losses))

    @checked
    def rows(
        self,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor | None = None,
        *,
        negative_mask: Tensor | None = None,
        keys: Keys | None = None,
        guide: Guide | None = None,
        step: AtLeastZero = 0,
    ) -> Tensor:
        """Compute the loss of each query of this rank, (B,).

        Args:
            queries (`Tensor`): (B, d).
            positives (`Tensor`): (B, d).
            negatives (`Tensor`, *optional*): (B, m, d).
            negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
            keys (`Keys`, *optional*): tell which texts are the same.
            guide (`Guide`, *optional*): vectors of another model.
            step (`int`, defaults to 0): of the training, for `mixing`.

        Raises:
            DataError: shapes that do not fit, within this rank or between ranks.
        """
        if keys is None and (self.multi_positive == "sum" or self.mask_repeats):
            raise ConfigError(
                f"multi_positive={self.multi_positive!r}, mask_repeats={self.mask_repeats} need to know which texts "
                "are the same, and keys= is None. Pass Keys(**batch['keys']) of CrossBatchCollator."
            )
        batch = _Batch(queries, positives, negatives, negative_mask, keys, guide)
        documents = batch.documents
        scores = all_scores(queries, documents.vectors, self.similarity)
        positive = batch.known & documents.valid if self.multi_positive == "sum" else documents.labels()
        hidden = batch.not_negatives() & ~positive
        if self.mask_repeats:
            hidden |= documents.repeats() & ~positive
        parts = [(scores / self._temperature + self._hardness(documents, scores), positive, hidden)]
        for rows, others, same in self._contrasted(batch):
            parts.append(self._negatives(all_scores(rows, others, self.similarity), same))
        if self.mixing is not None:
            allowed = ~(positive | hidden)
            mixed, usable = self.mixing(
                queries, positives, documents.vectors, allowed, step=step, first=documents.first_label
            )
            parts.append(self._negatives(own_scores(queries, mixed, self.similarity), ~usable))
        logits, positive, hidden = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        if logits.shape[1] == 1:
            warn("A batch of one query and no negative has loss 0; give larger batches or mined negatives.")
        return infonce(logits, positive, hidden)

    @property
    def _temperature(self) -> float:
        return TEMPERATURES[self.similarity] if self.temperature is None else self.temperature

    def _negatives(self, scores: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return scores / self._temperature, torch.zeros_like(hidden), hidden

    def _hardness(self, documents: ComparedDocuments, scores: Tensor) -> Tensor:
        """Return what hardness adds to logits, (B, n)."""
        if self.hardness_mode is None:
            return scores.new_zeros(())
        mined, label = documents.at(documents.mined), documents.labels()
        of_others = ~(mined | label)
        weighs = {"in_batch_negatives": of_others, "hard_negatives": mined, "all_negatives": ~label}
        return self.hardness_strength * scores.detach() * weighs[self.hardness_mode]

    def _contrasted(self, batch: _Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows of this rank, what else they are compared with, and what is the same; see `contrast_queries`."""
        if self.contrast_queries:
            yield batch.queries, *batch.other_queries()
        if self.contrast_documents:
            yield batch.positives, *batch.other_positives()


@dataclass
class _Batch:
    """The rows of this rank and what they are compared with."""

    queries: Tensor
    positives: Tensor
    negatives: InitVar[Tensor | None]
    negative_mask: InitVar[Tensor | None]
    keys: Keys | None
    guide: Guide | None

    def __post_init__(self, negatives: Tensor | None, negative_mask: Tensor | None) -> None:
        check_shape("queries", self.queries, tuple(self.positives.shape))
        self.documents = gather_documents(self.positives, negatives, negative_mask, self.keys)
        if (guide := self.guide) is not None:
            self.guide_vectors = gather_documents(guide.positives, guide.negatives, None, None).vectors
            check_shape("guide.queries", guide.queries, tuple(guide.positives.shape))
            check_shape("vectors of the guide", self.guide_vectors[:, 0], (len(self.documents.vectors),))

    @functools.cached_property
    def known(self) -> Tensor:
        """Which documents are known positives of which query, that of its row among them, (B, n) bool."""
        label = self.documents.labels()
        return label if self.keys is None else label | self.keys.are_positives(self.documents)

    @functools.cached_property
    def excluded(self) -> Tensor:
        """Which documents answer or repeat which query, (B, n) bool."""
        return self.known if self.keys is None else self.known | self.keys.are_queries(self.documents)

    def not_negatives(self) -> Tensor:
        """Say which documents are no negatives of which query, (B, n) bool."""
        hidden = self.excluded | ~self.documents.valid
        if self.guide is not None:
            hidden = hidden | self.guide.forbids(self.guide.queries, self.guide_vectors)
        return hidden

    def other_queries(self) -> tuple[Tensor, Tensor]:
        """Return all queries, (b, d), and which are, or share a positive with, which of this rank, (B, b) bool."""
        same = self.excluded[:, : self.documents.num_positives]
        if self.guide is None:
            return gather_rows({"queries": self.queries}).rows["queries"], same
        rows = gather_rows({"queries": self.queries, "guide": self.guide.queries}).rows
        return rows["queries"], same | self.guide.forbids(self.guide.queries, rows["guide"])

    def other_positives(self) -> tuple[Tensor, Tensor]:
        """Return all positives, (b, d), and which of them answer which query of this rank, (B, b) bool."""
        number = self.documents.num_positives
        same = self.excluded[:, :number]
        if self.guide is not None:
            same = same | self.guide.forbids(self.guide.positives, self.guide_vectors[:number])
        return self.documents.vectors[:number], same


@checked
def cross_batch_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    negative_mask: Tensor | None = None,
    keys: Keys | None = None,
    guide: Guide | None = None,
    step: AtLeastZero = 0,
    **options: Any,
) -> Tensor:
    """Compute `CrossBatchLoss(**options)` of one batch: InfoNCE with in-batch, mined and cross-batch negatives.

    Args:
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`, *optional*): (B, m, d).
        negative_mask, keys, guide, step: see `CrossBatchLoss.rows`.
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
    return loss(queries, positives, negatives, negative_mask=negative_mask, keys=keys, guide=guide, step=step)
