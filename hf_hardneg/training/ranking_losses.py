"""Losses of pairs: ANCE's pairwise NLL, STAR's, and ADORE's LambdaLoss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_hardneg.runtime.arguments import AtLeastOne, checked
from hf_hardneg.training.compared import Keys, check_own, check_shape, checked_mask, gather_documents
from hf_hardneg.training.gather import joined_mean
from hf_hardneg.training.similarity import Similarity, all_scores, own_scores


@checked
def pairwise_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    negative_mask: Tensor | None = None,
    similarity: Similarity = "dot",
) -> Tensor:
    """Compute ANCE's loss (arXiv 2007.00808): the mean of `-log softmax` of the pairs `[s+, s-]` of each query.

    Args:
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`): (B, m, d).
        negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
        similarity (`str`, defaults to `"dot"`): or `"cosine"`.

    Raises:
        DataError: shapes that do not fit.
    """
    check_shape("queries", queries, tuple(positives.shape))
    check_own(positives, negatives)
    positive = own_scores(queries, positives.unsqueeze(1), similarity)
    losses = F.softplus(own_scores(queries, negatives, similarity) - positive)
    valid = checked_mask(negative_mask, tuple(negatives.shape[:2]), losses)
    return joined_mean(losses.masked_fill(~valid, 0.0).sum(), valid.sum())


@checked
def star_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    negative_mask: Tensor | None = None,
    keys: Keys | None = None,
    similarity: Similarity = "dot",
) -> Tensor:
    """Compute STAR's loss (arXiv 2104.08051): the mean `softplus(s_ij - s_ii)` over documents that are no positives.

    Each query of this rank meets the positives and the mined negatives of all queries of all ranks; the random ones
    keep training with static hard negatives stable. DRhard gives each query one mined negative, another at each visit:
    `TopicBatchSampler` over triplets, all of one topic, draws so.

    Args:
        queries (`Tensor`): (B, d).
        positives (`Tensor`): (B, d).
        negatives (`Tensor`): (B, m, d).
        negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
        keys (`Keys`, *optional*): tell other known positives; without, only the query's positive is left out.
        similarity (`str`, defaults to `"dot"`): or `"cosine"`.

    Raises:
        DataError: shapes that do not fit, within this rank or between ranks.
    """
    check_shape("queries", queries, tuple(positives.shape))
    documents = gather_documents(positives, negatives, negative_mask, keys)
    counted = documents.valid & ~documents.labels()
    if keys is not None:
        counted &= ~(keys.are_positives(documents) | keys.are_queries(documents))
    positive = own_scores(queries, positives.unsqueeze(1), similarity)
    losses = F.softplus(all_scores(queries, documents.vectors, similarity) - positive)
    return joined_mean(losses.masked_fill(~counted, 0.0).sum(), counted.sum())


@checked
def lambda_loss(
    queries: Tensor,
    documents: Tensor,
    relevant: Tensor,
    *,
    metric_cut: AtLeastOne,
    mask: Tensor | None = None,
    similarity: Similarity = "dot",
) -> Tensor:
    """Compute ADORE's LambdaLoss for MRR (arXiv 2104.08051), the mean over all queries of all ranks.

    It is `1 / pairs * sum |w_i - w_j| softplus(s_j - s_i)` over relevant `i` and others `j`, with `w = 1 / position`
    up to `metric_cut` and 0 below it. A query without such a pair has loss 0.

    Args:
        queries (`Tensor`): (B, d).
        documents (`Tensor`): (B, n, d) in the order they were retrieved; positives that were not found come last.
        relevant (`Tensor`): (B, n) bool.
        metric_cut (`int`): the last position that counts, usually as many as were retrieved.
        mask (`Tensor`, *optional*): (B, n) bool, False for a document that only fills its row up.
        similarity (`str`, defaults to `"dot"`): or `"cosine"`.

    Raises:
        ConfigError: a cut below 1, for which loss and gradient would be 0.
        DataError: shapes that do not fit.
    """
    check_own(queries, documents)
    shape = tuple(documents.shape[:2])
    check_shape("relevant", relevant, shape)
    valid = checked_mask(mask, shape, relevant, "mask")
    scores = own_scores(queries, documents, similarity)
    position = torch.arange(1, shape[1] + 1, device=scores.device, dtype=scores.dtype)
    weight = torch.where(position <= metric_cut, 1 / position, 0.0)
    weights = (weight.unsqueeze(1) - weight).abs()
    pairs = (relevant & valid).unsqueeze(2) & (~relevant & valid).unsqueeze(1)
    losses = weights * F.softplus(scores.unsqueeze(1) - scores.unsqueeze(2)) * pairs
    each = losses.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
    return joined_mean(each.sum(), len(each))
