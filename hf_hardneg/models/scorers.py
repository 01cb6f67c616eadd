"""Scorers give a (query, document) pair a number.

They return and store raw logits wherever the model gives them, never probabilities: a sigmoid squashes just
the differences that distillation needs. `probabilities` converts where a threshold is met. A score does not depend on
what is scored with it (`models/forward.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from hf_hardneg.arrays.vectors import as_numbers
from hf_hardneg.corpus.pictures import refuse_names
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.errors import DataError
from hf_hardneg.models.forward import device_here, in_order, load_model, loading, passes
from hf_hardneg.models.model_files import READ, changed, content_digests
from hf_hardneg.models.modules import modules_digest
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.process import single_thread_in_child
from hf_hardneg.store.directories import digest_of

ScoreKind = Literal["ce_logit", "ce_prob"]
ALLOWED = "a trained cross-encoder's folder or Hub id, a CrossEncoder, a rerankers model, or a callable"
AHEAD = "score in the main process first: stored scores are reused"


@runtime_checkable
class PairScorer(Protocol):
    """The interface to a model, as denoising and distillation use it."""

    @property
    def digest(self) -> str:
        """Identity of everything that changes a score: weights, lengths, activation."""

    @property
    def kind(self) -> ScoreKind:
        """`"ce_logit"` for raw logits, whose sigmoid is a probability, or `"ce_prob"` for probabilities."""

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32; NaN where the model gives none."""


def probabilities(scores: np.ndarray, kind: ScoreKind) -> np.ndarray:
    """Turn stored scores into probabilities of relevance, (n,) float64; NaN stays NaN.

    Args:
        scores (`np.ndarray`): (n,) scores.
        kind (`str`): `"ce_logit"` goes through an exact sigmoid, `"ce_prob"` is taken as it is.

    Raises:
        DataError: a score that should be a probability is outside [0, 1].
    """
    exact = np.asarray(scores, np.float64)
    if kind == "ce_logit":
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-exact))
    outside = exact[(exact < 0) | (exact > 1)]
    if len(outside):
        raise DataError(
            f"The cross-encoder gave {len(outside)} scores outside [0, 1], such as {outside[0]:g}; a threshold on "
            'probabilities needs probabilities. If these are logits, pass activation="sigmoid".'
        )
    return exact


def _checked(scores: Any, expected: int) -> np.ndarray:
    """Check scores, and return them as (n,) float32.

    Raises:
        DataError: there is not one number for each pair, or one is infinite upwards.
    """
    try:
        array = as_numbers(scores).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"The cross-encoder returned no numbers: {error}. Return one score per pair.") from error
    if array.shape == (expected, 1):
        array = array[:, 0]
    if array.shape != (expected,):
        raise DataError(
            f"The cross-encoder returned scores of shape {array.shape} for {expected} pairs; "
            "return one number per pair, in order."
        )
    if np.isposinf(array).any():
        raise DataError(
            f"The cross-encoder returned +inf for {int(np.isposinf(array).sum())} pairs; scores are finite, -inf for a "
            "document that is ruled out, or NaN for none. Look at the model's precision."
        )
    return array


def log_odds(logits: Any) -> Any:
    """Turn the logits of two labels into logits of the positive one; others, (n, 1) or (n,), stay as they are."""
    return logits[:, 1:] - logits[:, :1] if logits.ndim == 2 and logits.shape[1] == 2 else logits


@dataclass(frozen=True, kw_only=True)
class _ModelScorer:
    """A classifier of pairs in a folder, which a process loads when it scores."""

    folder: str
    max_length: int | None
    kind: ScoreKind
    digest: str
    device: str = "auto"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that change a score besides the weights, to be read by people."""
        return {"folder": self.folder, "max_length": self.max_length, "kind": self.kind}

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32.

        Raises:
            ModelError: the model cannot be loaded, or its weights are no longer those the digest was made of.
            ConfigError: a GPU in a worker.
        """
        for texts in (queries, documents):
            refuse_names(f"The cross-encoder {self.folder}", texts)
        device = device_here(self.device, instead=AHEAD)
        if not len(queries):
            return np.zeros(0, np.float32)
        return _checked(log_odds(self._logits(list(queries), list(documents), device)), len(queries))

    def _logits(self, queries: list[str], documents: list[str], device: str) -> np.ndarray:
        """Return the logits of pairs, (n,), (n, 1) or (n, 2)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TransformersScorer(_ModelScorer):
    """A transformers sequence-classification model of one label or two.

    Args:
        folder (`str`): of the model.
        max_length (`int`): tokens after which pairs are cut, the longer of the two texts first.
        kind (`str`): what the logits are.
        digest (`str`): of the files' content and the fields above; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): `"cpu"`, `"cuda"` or `"mps"`; a GPU if there is one.
    """

    max_length: int

    def _logits(self, queries: list[str], documents: list[str], device: str) -> np.ndarray:
        model, tokenizer = _loaded(self.folder, self.max_length, self.kind, self.digest, device)
        tokens = tokenizer(queries, documents, truncation=True, max_length=self.max_length)
        run = lambda inputs: model(**inputs).logits  # noqa: E731
        return in_order(passes(run, tokenizer, tokens, limit=self.max_length, device=device))


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, max_length: int, kind: ScoreKind, digest: str, device: str) -> tuple[Any, Any]:
    if classifier_digest(folder, max_length, kind) != digest:
        raise changed(folder)
    return load_model(folder, "AutoModelForSequenceClassification", device, otherwise=ALLOWED)


def classifier_digest(folder: str, max_length: int, kind: str) -> str:
    """Return the identity of a classifier: the content of its files, where it cuts, and what its logits are."""
    files = content_digests(folder, leave_out=READ)
    return digest_of({"files": files, "max_length": max_length, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class SentenceTransformersScorer(_ModelScorer):
    """A CrossEncoder of several modules or with a prompt, run by sentence-transformers.

    Args:
        folder (`str`): of the model.
        max_length (`int`, *optional*): tokens after which pairs are cut; the model's own limit by default.
        kind (`str`): what it returns before its activation.
        digest (`str`): of its files and the fields above; checked again when the weights are loaded.
        device (`str`, defaults to `"auto"`): where it runs; a GPU if there is one.
        own_code (`bool`, defaults to `False`): whether modules of the user's own are loaded, whose code runs.
    """

    own_code: bool = False

    def _logits(self, queries: list[str], documents: list[str], device: str) -> np.ndarray:
        """Run `predict` without the model's activation."""
        import torch

        pairs = list(zip(queries, documents, strict=True))
        model = _modular(self.folder, self.max_length, self.kind, self.digest, device, self.own_code)
        logits: np.ndarray = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return logits


def modular_digest(folder: str, max_length: int | None, kind: str, own_code: bool) -> str:
    """Return the identity of a CrossEncoder of several modules; see `classifier_digest`.

    Raises:
        ModelError: it has modules of its own, and `own_code` is not wanted.
    """
    return digest_of({"files": modules_digest(folder, own_code=own_code), "max_length": max_length, "kind": kind})


@functools.lru_cache(maxsize=2)
def _modular(folder: str, max_length: int | None, kind: ScoreKind, digest: str, device: str, own_code: bool) -> Any:
    module = require("sentence_transformers", extra="sentence-transformers", needed_by=f"the cross-encoder at {folder}")
    if not own_code and modular_digest(folder, max_length, kind, own_code) != digest:
        raise changed(folder)
    with loading(folder, otherwise=ALLOWED):
        model = module.CrossEncoder(folder, device=device, trust_remote_code=own_code)
    if max_length is not None:
        model.max_seq_length = max_length
    return model


def forget_scorers() -> None:
    """Forget the cross-encoders that this process has loaded, so that their memory is free."""
    _loaded.cache_clear()
    _modular.cache_clear()


@dataclass(frozen=True, kw_only=True)
class RerankersScorer:
    """Any other model of AnswerDotAI's rerankers, by its `rank(query, docs, doc_ids=)`.

    Args:
        model: must be picklable to be used with `num_proc`.
        kind (`str`): what it returns.
        digest (`str`): its identity.
    """

    model: Any
    kind: ScoreKind
    digest: str

    @property
    def settings(self) -> dict[str, Any]:
        """The model's class."""
        return {"model": type(self.model).__qualname__}

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32, asked once for each distinct query."""
        for texts in (queries, documents):
            refuse_names(f"{type(self.model).__name__}", texts)
        single_thread_in_child()
        rows: dict[str, list[int]] = {}
        for row, query in enumerate(queries):
            rows.setdefault(query, []).append(row)
        scores = np.full(len(queries), np.nan)
        for query, asked in rows.items():
            for result in self.model.rank(query, [documents[row] for row in asked], doc_ids=asked):
                scores[result.document.doc_id] = np.nan if result.score is None else result.score
        return _checked(scores, len(queries))


@dataclass(frozen=True, kw_only=True)
class CallableScorer:
    """Any function from queries and documents, pair by pair, to scores.

    Args:
        function (`Callable[[list[str], list[str]], array (n,)]`): must be picklable to be used with `num_proc`.
        digest (`str`): its identity.
        kind (`str`): what it returns.
    """

    function: Callable[[list[str], list[str]], Any]
    digest: str
    kind: ScoreKind

    @property
    def settings(self) -> dict[str, Any]:
        """The function's name."""
        return {"function": getattr(self.function, "__qualname__", type(self.function).__qualname__)}

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32.

        Raises:
            DataError: the function returns something else than one number per pair.
            ConfigError: texts are names of images.
        """
        for texts in (queries, documents):
            refuse_names(self.settings["function"], texts)
        single_thread_in_child()
        return _checked(self.function(list(queries), list(documents)), len(queries))


def folds_of(queries: Sequence[str], folds: int) -> np.ndarray:
    """Say which fold each query is in, (n,) int64: a function of its text alone."""
    return (keyed_uniforms(0, "folds", "", queries) * folds).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class CrossFitted:
    """Scores of a query by the model of its fold, which was trained on the other folds.

    Args:
        scorers (`tuple[PairScorer, ...]`): one for each fold.
    """

    scorers: tuple[PairScorer, ...]

    @property
    def digest(self) -> str:
        """The identity of all models together."""
        return digest_of({"folds": [scorer.digest for scorer in self.scorers]})

    @property
    def kind(self) -> ScoreKind:
        """The kind of the models' scores."""
        return self.scorers[0].kind

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Score (query, document) pairs, (n,) float32."""
        scores = np.empty(len(queries), np.float32)
        fold = folds_of(queries, len(self.scorers))
        for number, scorer in enumerate(self.scorers):
            rows = np.flatnonzero(fold == number).tolist()
            scores[rows] = scorer.score([queries[i] for i in rows], [documents[i] for i in rows])
        return scores
