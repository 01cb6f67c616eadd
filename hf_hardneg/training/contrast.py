"""The vectors that the rows of this rank are compared with in a loss: which of them are left out, or weigh less."""

from __future__ import annotations

import functools
from dataclasses import InitVar, dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hf_hardneg.draws import uniforms_of_keys
from hf_hardneg.errors import DataError
from hf_hardneg.training.compared import Keys, check_shape, gather_documents
from hf_hardneg.training.gather import gather_rows
from hf_hardneg.training.guidance import Guide

SEED = 42
"""Of the draws of positives, which their texts and the step tell apart."""


class Others(NamedTuple):
    """What the n others are to the B rows of this rank.

    Args:
        vectors (`Tensor`): (n, d) of the others.
        left_out (`Tensor`): (B, n) bool.
        lighter (`Tensor`): (B, n) bool, what weighs less by the guide.
    """

    vectors: Tensor
    left_out: Tensor
    lighter: Tensor


@dataclass
class Contrast:
    """The rows of this rank, and the documents and queries of all ranks."""

    queries: Tensor
    positives: Tensor
    negatives: InitVar[Tensor | None]
    negative_mask: InitVar[Tensor | None]
    keys: Keys | None
    guide: Guide | None

    def __post_init__(self, negatives: Tensor | None, negative_mask: Tensor | None) -> None:
        check_shape("queries", self.queries, tuple(self.positives.shape))
        self.documents = gather_documents(self.positives, negatives, negative_mask, self.keys)
        self.log_weight = 0.0 if self.guide is None else self.guide.log_weight
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

    def all_documents(self) -> Others:
        """Return the documents of all ranks, for queries."""
        vectors = self.documents.vectors
        if self.guide is None:
            return self._guided(vectors, self.excluded, None)
        return self._guided(vectors, self.excluded, self.guide.forbids(self.guide.queries, self.guide_vectors))

    def all_positives(self) -> Others:
        """Return the positives of all ranks, for positives; left out is what answers the query of their row."""
        number, near = self.documents.num_positives, None
        if self.guide is not None:
            near = self.guide.forbids(self.guide.positives, self.guide_vectors[:number])
        return self._guided(self.documents.vectors[:number], self.excluded[:, :number], near)

    def all_queries(self, *, of: Literal["queries", "positives"]) -> Others:
        """Return the queries of all ranks; left out are those that are, or share a positive with, a query.

        Or, for positives, those that the positive answers or repeats, its own among them.
        """
        left_out = self.excluded[:, : self.documents.num_positives]
        if of == "positives":
            everyone = gather_rows({"left_out": left_out.to(torch.uint8)}).rows["left_out"]
            left_out = everyone[:, self.documents.label].T.bool()
        if self.guide is None:
            return self._guided(gather_rows({"queries": self.queries}).rows["queries"], left_out, None)
        rows = gather_rows({"queries": self.queries, "guide": self.guide.queries}).rows
        return self._guided(rows["queries"], left_out, self.guide.forbids(getattr(self.guide, of), rows["guide"]))

    def _guided(self, vectors: Tensor, left_out: Tensor, near: Tensor | None) -> Others:
        """Return what is compared, with what the guide finds too near either left out or lighter."""
        nothing = torch.zeros_like(left_out)
        if near is None:
            return Others(vectors, left_out, nothing)
        return Others(vectors, left_out, near) if self.log_weight else Others(vectors, left_out | near, nothing)

    def drawn(self, positives: Tensor, step: int) -> Tensor:
        """Say which of the positives (B, n) bool of each query is drawn, (B, n) bool; by texts and step alone."""
        if self.keys is None:
            raise DataError("Positives without keys cannot be drawn; pass keys= of CrossBatchCollator.")
        query, document = (
            keys.cpu().numpy().astype("uint64") for keys in (self.keys.queries, self.documents.known_keys().documents)
        )
        draws = torch.from_numpy(uniforms_of_keys(SEED, f"positive@{step}", query[:, None], document[None, :]))
        first = draws.to(positives.device).masked_fill(~positives, -1.0).argmax(dim=1, keepdim=True)
        return self.documents.at(first)


def weights_as_logits(weights: Tensor, mined: Tensor) -> Tensor:
    """Return what weights of mined negatives (B, m) add to their logits, (B, m).

    Raises:
        DataError: another shape, or weights that are not from 0 to 1.
    """
    check_shape("negative_weights", weights, tuple(mined.shape))
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise DataError(
            "negative_weights holds numbers that are not from 0 to 1; each says how much of a negative one is. Give 1 "
            "minus the probability that it is false, as the collator does."
        )
    return weights.detach().log()


def check_row_weights(weights: Tensor, rows: int) -> None:
    """Raise for weights of rows, by which a mean is weighted, that cannot be.

    Raises:
        DataError: another shape than (rows,), or weights that are below 0 or not finite.
    """
    check_shape("weights", weights, (rows,))
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise DataError(
            "weights holds numbers that are below 0 or not finite; each says how much a row counts. Give numbers of at "
            "least 0, as the collator does, and 0 for a row that is left out."
        )
