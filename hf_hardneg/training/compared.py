"""The documents with which the queries of this rank are compared, and which of them are known positives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_hardneg.errors import DataError
from hf_hardneg.runtime.arguments import Checked
from hf_hardneg.training.gather import gather_rows


@dataclass(frozen=True, kw_only=True)
class Keys(Checked):
    """64-bit keys of the texts of a batch, equal where the texts are, as `CrossBatchCollator` makes them.

    Args:
        queries (`Tensor`): (B,) int64.
        positives (`Tensor`): (B,) int64.
        known (`Tensor`): (B, p) int64, every known positive of each query, filled up with any of them.
        negatives (`Tensor`, *optional*): (B, m) int64.
    """

    queries: Tensor
    positives: Tensor
    known: Tensor
    negatives: Tensor | None = None

    def are_positives(self, documents: ComparedDocuments) -> Tensor:
        """Say which documents are known positives of which query, also by another row of the batch, (B, n) bool."""
        keys = documents.known_keys()
        table = torch.cat([self.known, self.positives.unsqueeze(1)], dim=1).sort(dim=1).values
        texts, number = torch.unique(keys.documents, return_inverse=True)
        wanted = texts.expand(len(table), -1).contiguous()
        place = torch.searchsorted(table, wanted).clamp(max=table.shape[1] - 1)
        same_query = (keys.queries == self.queries.unsqueeze(1)).int()
        beside = torch.zeros_like(wanted, dtype=torch.int32).index_add(1, number[: documents.num_positives], same_query)
        return ((table.gather(1, place) == wanted) | (beside > 0))[:, number]

    def are_queries(self, documents: ComparedDocuments) -> Tensor:
        """Say which documents have the text of which query, (B, n) bool."""
        return documents.known_keys().documents == self.queries.unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class DocumentKeys:
    """Keys of the documents of all ranks.

    Args:
        documents (`Tensor`): (n,) int64.
        queries (`Tensor`): (num_positives,) int64, the key of each positive's query.
    """

    documents: Tensor
    queries: Tensor


@dataclass(frozen=True, kw_only=True)
class ComparedDocuments:
    """ComparedDocuments of all ranks: every rank's positives, then every rank's negatives.

    Args:
        vectors (`Tensor`): (n, d).
        valid (`Tensor`): (n,) bool, False for documents that only fill a row up.
        first_label (`int`): place of the positive of this rank's first query, and of that query among all.
        label (`Tensor`): (B,) int64, place of each query's positive.
        mined (`Tensor`): (B, m) int64, places of each query's mined negatives.
        num_positives (`int`): how many of the n are positives.
        keys (`DocumentKeys`, *optional*): the keys of the documents.
    """

    vectors: Tensor
    valid: Tensor
    first_label: int
    label: Tensor
    mined: Tensor
    num_positives: int
    keys: DocumentKeys | None = None

    def known_keys(self) -> DocumentKeys:
        """Return the keys.

        Raises:
            DataError: the documents were gathered without keys.
        """
        if self.keys is None:
            raise DataError("Documents without keys were compared with keys; gather them with keys=.")
        return self.keys

    def at(self, places: Tensor) -> Tensor:
        """Return True at some places (B, k) of each row, (B, n) bool."""
        empty = torch.zeros(len(places), len(self.vectors), dtype=torch.bool, device=places.device)
        return empty.scatter(1, places, True)

    def at_mined(self, values: Tensor) -> Tensor:
        """Return values (B, m) at each query's mined negatives, 0 elsewhere, (B, n)."""
        empty = values.new_zeros(len(self.mined), len(self.vectors))
        return empty.scatter(1, self.mined, values)

    def labels(self) -> Tensor:
        """Return True at the positive of each query, (B, n) bool."""
        return self.at(self.label.unsqueeze(1))

    def repeats(self) -> Tensor:
        """Say which documents come a second time, (n,) bool; those that only fill up do not count."""
        size = len(self.vectors)
        place = torch.where(self.valid, torch.arange(size, device=self.valid.device), size)
        keys, number = torch.unique(self.known_keys().documents, return_inverse=True)
        first = place.new_full((len(keys),), size).scatter_reduce(0, number, place, "amin")
        return place > first[number]


def gather_documents(
    positives: Tensor, negatives: Tensor | None, negative_mask: Tensor | None, keys: Keys | None
) -> ComparedDocuments:
    """Gather the documents of all ranks, with gradients.

    Args:
        positives (`Tensor`): (B, d).
        negatives (`Tensor`, *optional*): (B, m, d); m may differ between ranks.
        negative_mask (`Tensor`, *optional*): (B, m) bool, False for a negative that only fills its row up.
        keys (`Keys`, *optional*): of this rank's batch.

    Raises:
        DataError: shapes that do not fit, within this rank or between ranks.
    """
    size, width = positives.shape
    negatives = positives.new_zeros(size, 0, width) if negatives is None else negatives
    check_own(positives, negatives)
    count = negatives.shape[1]
    rows = {"positives": positives, "negatives": negatives.flatten(0, 1)}
    rows["positive_mask"] = torch.ones(size, dtype=torch.int64, device=positives.device)
    rows["negative_mask"] = checked_mask(negative_mask, (size, count), positives).flatten().long()
    if keys is not None:
        rows["positive_keys"] = keys.positives
        rows["negative_keys"] = keys.positives.new_zeros(size, 0) if keys.negatives is None else keys.negatives
        rows["query_keys"] = keys.queries
        check_shape("query_keys", keys.queries, (size,))
        check_shape("positive_keys", keys.positives, (size,))
        check_shape("negative_keys", rows["negative_keys"], (size, count))
        rows["negative_keys"] = rows["negative_keys"].flatten()
    gathered = gather_rows(rows)

    def both(first: str, second: str) -> Tensor:
        return torch.cat([gathered.rows[first], gathered.rows[second]])

    place = torch.arange(size * count, device=positives.device).view(size, count)
    num_positives, document_keys = len(gathered.rows["positives"]), None
    if keys is not None:
        document_keys = DocumentKeys(
            documents=both("positive_keys", "negative_keys"), queries=gathered.rows["query_keys"]
        )
    return ComparedDocuments(
        vectors=both("positives", "negatives"),
        valid=both("positive_mask", "negative_mask").bool(),
        first_label=gathered.start["positives"],
        label=gathered.start["positives"] + torch.arange(size, device=positives.device),
        mined=num_positives + gathered.start["negatives"] + place,
        num_positives=num_positives,
        keys=document_keys,
    )


def check_own(vectors: Tensor, documents: Tensor) -> None:
    """Raise unless each vector (B, d) has its own documents (B, m, d).

    Raises:
        DataError: naming both shapes.
    """
    if documents.dim() != 3 or vectors.shape != (documents.shape[0], documents.shape[2]):
        raise DataError(
            f"Documents of shape {tuple(documents.shape)} came with vectors of {tuple(vectors.shape)}; (B, m, d) and "
            "(B, d) are allowed. Give encoded rows their shape with .unflatten(0, (B, m))."
        )


def checked_mask(mask: Tensor | None, shape: tuple[int, ...], like: Tensor, name: str = "negative_mask") -> Tensor:
    """Return a bool mask of a shape; without one, all count.

    Raises:
        DataError: the mask has another shape.
    """
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    check_shape(name, mask, shape)
    return mask


def check_shape(name: str, tensor: Tensor, allowed: tuple[int, ...]) -> None:
    """Raise if a tensor has another shape than the batch needs.

    Raises:
        DataError: naming both.
    """
    if tuple(tensor.shape) != allowed:
        raise DataError(
            f"{name} has shape {tuple(tensor.shape)}; this batch needs {allowed}. "
            "Take vectors, masks and keys from one batch of CrossBatchCollator."
        )
