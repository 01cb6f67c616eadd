"""Losses that learn a teacher's scores of the same documents, such as a cross-encoder's logits stored in mined data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_hardneg.runtime.arguments import AboveZero, checked
from hf_hardneg.training.compared import check_own, check_shape, checked_mask, gather_documents
from hf_hardneg.training.gather import joined_mean
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores


@checked
def margin_mse_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    scores: Tensor,
    *,
    negative_mask: Tensor | None = None,
    similarity: Similarity = "dot",
) -> Tensor:
    """Compute MarginMSE (arXiv 2010.02666), the mean of `((s+ - s_i) - (c+ - c_i))^2` over all pairs of all ranks.

    Args:
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`): (B, m, d).
        scores (`Tensor`): (B, 1 + m), the teacher's, positive first, as logits: probabilities squash the differences.
        negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
        similarity (`str`, defaults to `"dot"`): of the student.

    Raises:
        DataError: shapes that do not fit.
    """
    student, valid = _student(queries, positives, negatives, scores, negative_mask, similarity)
    margins = (student[:, :1] - student[:, 1:]) - (scores[:, :1] - scores[:, 1:])
    squares = margins.masked_fill(~valid[:, 1:], 0.0) ** 2
    return joined_mean(squares.sum(), valid[:, 1:].sum())


@checked
def in_batch_margin_mse_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None,
    scores: Tensor,
    *,
    negative_mask: Tensor | None = None,
    similarity: Similarity = "dot",
) -> Tensor:
    """Compute MarginMSE of each query's positive and every document of the other queries, of all ranks.

    It is the second half of TAS-Balanced's dual supervision (arXiv 2104.06967); the first is of each query's own
    negatives, with other scores: `margin_mse_loss(...) + 0.75 * in_batch_margin_mse_loss(...)`. Its teacher must be
    cheap for all pairs of a batch, such as ColBERT. A false negative does no harm: the teacher scores it like a
    positive.

    Args:
        queries, positives, negative_mask, similarity: see `margin_mse_loss`.
        negatives (`Tensor`, *optional*): (B, m, d).
        scores (`Tensor`): (B, n), the teacher's of each query with the positives of all rows and then their negatives,
            row by row; under a launcher of all ranks, in the order of `gather_rows`.

    Raises:
        DataError: shapes that do not fit, within this rank or between ranks.
    """
    check_shape("queries", queries, tuple(positives.shape))
    documents = gather_documents(positives, negatives, negative_mask, None)
    check_shape("scores", scores, (len(queries), len(documents.vectors)))
    student = all_scores(queries, documents.vectors, similarity)
    label = documents.label.unsqueeze(1)
    margins = (student.gather(1, label) - student) - (scores.gather(1, label) - scores)
    counted = documents.valid & ~documents.at(torch.cat([label, documents.mined], dim=1))
    return joined_mean((margins.masked_fill(~counted, 0.0) ** 2).sum(), counted.sum())


@checked
def kl_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    scores: Tensor,
    *,
    negative_mask: Tensor | None = None,
    similarity: Similarity = "dot",
    temperature: AboveZero = 1.0,
    teacher_temperature: AboveZero = 1.0,
    rescale: bool = True,
) -> Tensor:
    """Compute `sum P (ln P - ln Q)` over each query's documents; `P` is the teacher's softmax, `Q` the student's.

    Args:
        queries, positives, negatives, scores, negative_mask, similarity: see `margin_mse_loss`.
        temperature (`float`, defaults to 1): the student's.
        teacher_temperature (`float`, defaults to 1): the teacher's.
        rescale (`bool`, defaults to `True`): times `temperature` squared, so that gradients keep their size.

    Raises:
        ConfigError: a temperature that is not above 0.
        DataError: shapes that do not fit.
    """
    student, valid = _student(queries, positives, negatives, scores, negative_mask, similarity)
    log_q = (student / temperature).masked_fill(~valid, -torch.inf).log_softmax(dim=1)
    log_p = (scores / teacher_temperature).masked_fill(~valid, -torch.inf).log_softmax(dim=1)
    each = (log_p.exp() * (log_p - log_q)).masked_fill(~valid, 0.0)
    return joined_mean(each.sum() * (float(temperature) ** 2 if rescale else 1), len(queries))


def _student(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    scores: Tensor,
    negative_mask: Tensor | None,
    similarity: Similarity,
) -> tuple[Tensor, Tensor]:
    """Return the student's scores and which of them count, both (B, 1 + m)."""
    check_shape("queries", queries, tuple(positives.shape))
    check_own(positives, negatives)
    documents = torch.cat([positives.unsqueeze(1), negatives], dim=1)
    check_shape("scores", scores, tuple(documents.shape[:2]))
    counted = checked_mask(negative_mask, tuple(negatives.shape[:2]), scores)
    valid = F.pad(counted, (1, 0), value=True)
    return own_scores(queries, documents, similarity), valid
