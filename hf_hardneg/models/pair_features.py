"""A denoiser learns from few pairs: three features of a frozen encoder's tokens, and a logistic model on them.

Fine-tuning a cross-encoder needs thousands of pairs before it tells the relevant from the similar. Here only four
numbers are learnt. The features of a (query, document) pair are the cosine of their vectors; the query tokens' greatest
similarities with a document token (ColBERT's MaxSim, arXiv 2004.12832), in the mean by their inverse document
frequency; and BM25 over token ids by the same frequencies, also per query token. None depends on other pairs.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_hardneg.errors import ModelError
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.models.encoder import TokenVectors, TransformersEncoder
from hf_hardneg.models.families import LATE_INTERACTION as FILE
from hf_hardneg.models.model_files import ModelFiles, content_digests, read_json
from hf_hardneg.models.modules import Kind
from hf_hardneg.models.scorers import ScoreKind
from hf_hardneg.store.directories import digest_of, file_digest
from hf_hardneg.store.disk import save_array
from hf_hardneg.store.stored_arrays import mapped_array

IDF = "idf.npy"
FEATURES = ("cosine", "maxsim", "bm25")
SHARE = 0.3
"""The share of a query's best candidates that is removed by default, as by each of the other safeguards."""
PAIRS_AT_ONCE = 256
REMEMBERED_BYTES = 1 << 29
RIDGE, STEPS, SMALLEST = 1.0, 200, 1e-10
"""Of the fit: its ridge, the most steps, and the step that is its last."""


@dataclass(frozen=True, kw_only=True)
class PairFeatures:
    """The features of pairs.

    Args:
        encoder (`TransformersEncoder`): gives vectors of tokens.
        idf (`np.ndarray`): (vocabulary,) float32, inverse document frequency of each token id.
        mean_length (`float`): tokens of a document of the corpus, in the mean.
    """

    encoder: TransformersEncoder
    idf: np.ndarray
    mean_length: float

    @classmethod
    def of_corpus(cls, encoder: TransformersEncoder, batches: Iterable[Sequence[str]]) -> PairFeatures:
        """Count the document frequencies of a corpus.

        Args:
            encoder (`TransformersEncoder`): gives tokens.
            batches (`Iterable[Sequence[str]]`): the documents.
        """
        frequency = np.zeros(encoder.vocabulary_size(), np.int64)
        documents = tokens = 0
        for texts in batches:
            tokenized = encoder.tokenized(texts, kind="document")
            for ids, special in zip(tokenized["input_ids"], tokenized["special_tokens_mask"], strict=True):
                plain = np.array(ids, np.int64)[np.array(special) == 0]
                frequency[np.unique(plain)] += 1
                documents, tokens = documents + 1, tokens + len(plain)
        idf = np.log1p((documents - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        return cls(encoder=encoder, idf=idf, mean_length=max(tokens / max(documents, 1), 1.0))

    def features(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Compute the features of pairs, (n, 3) float64, named by `FEATURES`; 0 where a text has no token."""
        features = np.zeros((len(queries), len(FEATURES)))
        for start in range(0, len(queries), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            query_tokens = _remembered(self.encoder, queries[part], "query")
            document_tokens = _remembered(self.encoder, documents[part], "document")
            features[part] = [
                self._pair(query_tokens[query], document_tokens[document])
                for query, document in zip(queries[part], documents[part], strict=True)
            ]
        return features

    def _pair(self, query: TokenVectors, document: TokenVectors) -> tuple[float, float, float]:
        cosine, weights = float(query.pooled @ document.pooled), self.idf[query.ids].astype(np.float64)
        if not len(query.ids) or not len(document.ids):
            return cosine, 0.0, 0.0
        weights /= weights.sum()
        nearest = (query.vectors.astype(np.float32) @ document.vectors.astype(np.float32).T).max(1)
        frequency = (query.ids[:, None] == document.ids).sum(1)
        k1, b = BM25Config.k1, BM25Config.b
        saturation = k1 * (1 - b + b * len(document.ids) / self.mean_length)
        exact = frequency * (k1 + 1) / (frequency + saturation)
        return cosine, float((weights * nearest).sum()), float((weights * exact).sum())


_recent: OrderedDict[tuple[str, str, Kind, str], TokenVectors] = OrderedDict()
"""Tokens of the texts this process met last, the oldest first."""


def _remembered(encoder: TransformersEncoder, texts: Sequence[str], kind: Kind) -> dict[str, TokenVectors]:
    """Encode the tokens of texts, by text; earlier texts are remembered, up to `REMEMBERED_BYTES`."""
    distinct = dict.fromkeys(texts)
    place = (encoder.digest, encoder.device, kind)
    missing = [text for text in distinct if (*place, text) not in _recent]
    for text, tokens in zip(missing, encoder.encode_tokens(missing, kind=kind), strict=True):
        _recent[(*place, text)] = tokens
    for text in distinct:
        _recent.move_to_end((*place, text))
    encoded = {text: _recent[(*place, text)] for text in distinct}
    held = sum(tokens.vectors.nbytes for tokens in _recent.values())
    while held > REMEMBERED_BYTES:
        held -= _recent.popitem(last=False)[1].vectors.nbytes
    return encoded


def fit(features: np.ndarray, labels: np.ndarray, *, candidates: int) -> tuple[np.ndarray, float]:
    """Fit the coefficients, (3,), and intercept of the logistic model with the least loss and ridge.

    Newton's steps, each halved until the loss falls, so that they end also where the ridge alone bounds the
    coefficients, as for pairs that a line parts.

    Negatives count so much that there is one positive among as many candidates as a query will have, whatever the share
    in training: the probability is that of being the one known positive.

    Args:
        features (`np.ndarray`): (n, 3).
        labels (`np.ndarray`): (n,) 1 for a positive, 0 for a negative; both must be there.
        candidates (`int`): 2 or more, of a query.
    """
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    inputs = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    positives = labels.sum()
    weights = np.where(labels == 1, 1.0, (candidates - 1) * positives / (len(labels) - positives))
    ridge = np.diag([RIDGE] * features.shape[1] + [0.0])

    def loss(solution: np.ndarray) -> float:
        odds = inputs @ solution
        return float(weights @ (np.logaddexp(0, odds) - labels * odds) + solution @ ridge @ solution / 2)

    solution = np.append(np.zeros(features.shape[1]), -np.log(candidates - 1))
    for _ in range(STEPS):
        chance = np.exp(-np.logaddexp(0, -inputs @ solution))
        slope = inputs.T @ (weights * (chance - labels)) + ridge @ solution
        curve = (inputs.T * (weights * chance * (1 - chance))) @ inputs + ridge
        step = np.linalg.lstsq(curve, slope, rcond=None)[0]
        while loss(solution - step) > loss(solution) and np.abs(step).max() > SMALLEST:
            step /= 2
        solution -= step
        if np.abs(step).max() <= SMALLEST:
            break
    coefficients = solution[:-1] / scale
    return coefficients, float(solution[-1] - coefficients @ mean)


@dataclass(frozen=True, kw_only=True)
class FeatureScorer:
    """Log-odds of relevance by late interaction, from a folder that `train_denoiser` wrote.

    Args:
        folder (`str`): of the model.
        digest (`str`): of its files and its encoder's; checked again when they are loaded.
        device (`str`, defaults to `"auto"`): where the encoder runs.
    """

    folder: str
    digest: str
    device: str = "auto"
    kind: ScoreKind = "ce_logit"
    share: float = SHARE

    @property
    def settings(self) -> dict[str, Any]:
        """The model's folder."""
        return {"folder": self.folder, "architecture": "late-interaction"}

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32.

        Raises:
            ModelError: the model cannot be loaded, or is no longer that which the digest was made of.
            ConfigError: a GPU in a worker.
        """
        model, coefficients, intercept = _loaded(self.folder, self.digest, self.device)
        return ((model.features(queries, documents) * coefficients).sum(1) + intercept).astype(np.float32)


def open_feature_scorer(folder: Path, *, device: str) -> FeatureScorer:
    """Open the scorer in a folder; its files are read and no more.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    return FeatureScorer(folder=str(folder), digest=_digest(folder), device=device)


def _encoder(folder: Path, device: str) -> TransformersEncoder:
    said = read_json(folder / FILE)
    files = ModelFiles(folder=str((folder / said["encoder"]).resolve()), **said["files"])
    return TransformersEncoder(files=files, digest=files.digest(), device=device)


def _digest(folder: Path) -> str:
    if not (folder / IDF).exists():
        raise ModelError(f"The model {folder} has no {IDF}. Give a complete model folder, or train it again.")
    parts = {name: file_digest(folder / name) for name in (FILE, IDF)}
    return digest_of({**parts, "encoder": _encoder(folder, "cpu").digest})


@functools.lru_cache(maxsize=8)
def _loaded(folder: str, digest: str, device: str) -> tuple[PairFeatures, np.ndarray, float]:
    place = Path(folder)
    if _digest(place) != digest:
        raise ModelError(
            f"The denoiser at {folder} changed since it was chosen: its files have another digest. "
            "Construct the miner again to use the new one."
        )
    said = read_json(place / FILE)
    try:
        idf = mapped_array(place / IDF, np.float32, follow=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{place / IDF} cannot be read: {error}. Fetch the model again, or train it again.") from error
    model = PairFeatures(encoder=_encoder(place, device), idf=idf, mean_length=said["mean_length"])
    return model, np.array([said["coefficients"][name] for name in FEATURES]), said["intercept"]


def save(model: PairFeatures, coefficients: np.ndarray, intercept: float, folder: Path) -> None:
    """Write a model into a folder, which must exist; the folder names its encoder by a relative path.

    Args:
        model (`PairFeatures`): computes the features.
        coefficients (`np.ndarray`): (3,).
        intercept (`float`): of the logistic model.
        folder (`Path`): where the model is written.
    """
    said = {
        "encoder": os.path.relpath(model.encoder.files.folder, folder),
        "files": {name: value for name, value in asdict(model.encoder.files).items() if name != "folder"},
        "coefficients": dict(zip(FEATURES, coefficients.tolist(), strict=True)),
        "intercept": intercept,
        "mean_length": model.mean_length,
    }
    (folder / FILE).write_text(json.dumps(said, indent=1), encoding="utf-8")
    save_array(folder / IDF, model.idf)


def copy_encoder(files: ModelFiles, folder: Path) -> ModelFiles:
    """Copy every file of an encoder that can change a vector, and return the encoder's files in the new place."""
    for name in content_digests(files.folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(files.folder) / name, folder / name)
    return replace(files, folder=str(folder))
