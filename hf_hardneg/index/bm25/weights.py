"""How BM25 weighs terms: its configuration and formulas, bit for bit as `bm25s` computes them (arXiv 2407.03618)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hf_hardneg.runtime.arguments import Checked, Share, ZeroOrMore
from hf_hardneg.text.analysis import Analyzer, Tokenizer

Variant = Literal["lucene", "robertson", "atire"]


@dataclass(frozen=True, kw_only=True)
class BM25Config(Checked):
    """How BM25 weighs terms.

    Args:
        k1 (`float`, defaults to 1.5): term frequency saturation.
        b (`float`, defaults to 0.75): length normalisation, 0 to 1.
        variant (`str`, defaults to `"lucene"`): `"lucene"`, `"robertson"` or `"atire"` (bm25s, arXiv 2407.03618).
        tokenizer (`Callable[[str], list[str]]`): how texts become terms.
    """

    k1: ZeroOrMore = 1.5
    b: Share = 0.75
    variant: Variant = "lucene"
    tokenizer: Tokenizer = field(default_factory=Analyzer)

    def idf(self, having: np.ndarray, documents: int) -> np.ndarray:
        """Inverse document frequencies, (n,) float32, of terms that `having` (n,) of `documents` have."""
        counts, inverse = np.unique(having, return_inverse=True)
        return np.array([self._idf(int(count), documents) for count in counts], np.float32)[inverse]

    def _idf(self, having: int, documents: int) -> float:
        if self.variant == "atire":
            return math.log(documents / having)
        odds = (documents - having + 0.5) / (having + 0.5)
        return math.log(1 + odds) if self.variant == "lucene" else math.log(max(1, odds))

    def weights(self, idf: np.ndarray, frequency: np.ndarray, length: np.ndarray, mean_length: float) -> np.ndarray:
        """Weights of terms in documents.

        Args:
            idf (`np.ndarray`): (n,) float32.
            frequency (`np.ndarray`): (n,) how often the term is in the document.
            length (`np.ndarray`): (n,) terms of the document.
            mean_length (`float`): of the corpus.

        Returns:
            (n,) float32.
        """
        norm = self.k1 * ((1 - self.b) + self.b * length / mean_length)
        tf = frequency.astype(np.float32)
        if self.variant == "atire":
            return (idf * ((tf * np.float32(self.k1 + 1)) / (tf + norm))).astype(np.float32)
        return (idf * (tf / (norm + tf))).astype(np.float32)
