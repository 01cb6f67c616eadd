"""Distance-weighted sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np

from hf_hardneg.arrays.statistics import intrinsic_dimension
from hf_hardneg.candidates import Candidates
from hf_hardneg.errors import ConfigError
from hf_hardneg.retrievers import Retriever, Searcher, vector_part
from hf_hardneg.runtime.arguments import AboveZero, Range, check_fields
from hf_hardneg.samplers.base import Weighted

SAMPLED = 1000


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

    cutoff: AboveZero = 0.5
    nonzero_loss_cutoff: Annotated[float, Range(above=0, most=2)] | None = 1.4
    dim: Annotated[int, Range(least=4)] | Literal["embedding", "intrinsic"] = "embedding"
    name: ClassVar[str] = "distance_weighted"

    def __post_init__(self) -> None:
        check_fields(self)
        end = 2.0 if self.nonzero_loss_cutoff is None else self.nonzero_loss_cutoff
        if not self.cutoff < end:
            raise ConfigError(
                f"DistanceWeighted(cutoff={self.cutoff}, nonzero_loss_cutoff={self.nonzero_loss_cutoff}) leaves no "
                "distances: those of unit vectors lie in (0, 2). Give 0 < cutoff < nonzero_loss_cutoff <= 2."
            )

    def check_kind(self, score_kind: str) -> None:
        """Raise for scores that are not cosines."""
        if score_kind != "cosine":
            raise ConfigError(
                f"DistanceWeighted needs distances of unit vectors, and these scores are {score_kind!r}, not 'cosine'. "
                "Retrieve with Dense(similarity='cosine'), or draw with Importance(temperature)."
            )

    def check(self, retriever: Retriever) -> None:
        """Raise where nothing tells the dimension."""
        super().check(retriever)
        if isinstance(self.dim, str) and not retriever.has_vectors:
            raise ConfigError(
                f"DistanceWeighted(dim={self.dim!r}) reads the dimension off vectors of documents, and "
                f"{retriever.name} has none. Give dim= as a number, or use a dense retriever."
            )

    def fitted(self, searcher: Searcher, documents: int) -> DistanceWeighted:
        """The same with its dimension as a number."""
        self.check_kind(searcher.score_kind)
        part = vector_part(searcher)
        if isinstance(self.dim, int) or part is None:
            return self
        if self.dim == "embedding":
            return replace(self, dim=max(part.vectors(np.zeros(1, np.int64)).shape[1], 4))
        rows = np.unique(np.linspace(0, documents - 1, SAMPLED).astype(np.int64))
        return replace(self, dim=max(round(intrinsic_dimension(part.vectors(rows))), 4))

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
