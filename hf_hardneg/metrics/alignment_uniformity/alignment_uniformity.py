"""Alignment and uniformity of vectors, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np

from hf_hardneg.arrays.statistics import alignment, uniformity
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import ConfigError, DataError

DESCRIPTION = """Alignment of pairs and uniformity of both sides on the unit sphere, smaller being better for both."""
CITATION = """Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
Hypersphere, ICML 2020, arXiv 2005.10242."""
INPUTS = """
Args:
    predictions: (n, d) vectors of queries; scaled to length 1, as the references are.
    references: (n, d) vectors of their positives.
    power (`float`, defaults to 2): of the distance in alignment.
    t (`float`, defaults to 2): of the kernel in uniformity.
    sample (`int`, defaults to 2000): uniformity compares all pairs of so many rows, drawn by `seed`.
    seed (`int`, defaults to 0): of the sample.
Returns:
    `alignment`, `query_uniformity`, `document_uniformity`, and `pairs`, their number.
Examples:
    >>> from hf_hardneg.metrics import load
    >>> load("alignment_uniformity").compute(predictions=[[1, 0], [0, 1]], references=[[1, 0], [0, 2]])["alignment"]
    0.0
"""


class AlignmentUniformity(evaluate.Metric):  # type: ignore[misc]
    """Vectors of queries, as predictions, and of their positives."""

    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.List(datasets.Value("float64"))
        features = datasets.Features(predictions=vector, references=vector)
        return evaluate.MetricInfo(DESCRIPTION, CITATION, features, INPUTS)

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[float]],
        power: float = 2.0,
        t: float = 2.0,
        sample: int = 2000,
        seed: int = 0,
    ) -> dict[str, float]:
        if sample < 2 or len(predictions) < 2:
            raise ConfigError(
                f"alignment_uniformity(sample={sample}) of {len(predictions):,} pairs; uniformity compares rows, so "
                "both must be at least 2. Give more."
            )
        queries, documents = _unit(predictions, "predictions"), _unit(references, "references")
        if queries.shape != documents.shape:
            raise DataError(
                f"predictions have width {queries.shape[1]} and references {documents.shape[1]}; the distance of a "
                "pair needs one width. Encode both with one model."
            )
        drawn = np.argsort(keyed_uniforms(seed, "uniformity", "", map(str, range(len(queries)))))[:sample]
        return {
            "alignment": alignment(queries, documents, power=power),
            "query_uniformity": uniformity(queries[drawn], t=t),
            "document_uniformity": uniformity(documents[drawn], t=t),
            "pairs": len(queries),
        }


def _unit(rows: list[list[float]], what: str) -> np.ndarray:
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"{what} have vectors of several widths; allowed is one. Encode all with one model.")
    vectors = np.array(rows, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(~((lengths > 0) & np.isfinite(lengths)))
    if len(wrong):
        raise DataError(
            f"{what} have {len(wrong):,} vectors of length zero or not finite, the first in row {wrong[0]}; allowed "
            "are vectors with a direction. Leave these pairs out."
        )
    return vectors / lengths
