"""Tell what each config of a mined dataset is for, and write a few lines that train on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.recipes.serialization import literal

LIST = "list"
"""The config of the mined rows as they are."""
ENCODER, CROSS_ENCODER = "sentence-transformers/all-MiniLM-L6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2"


class Use(NamedTuple):
    """The use of a config.

    Args:
        purpose (`str`): a sentence.
        code (`str`): lines that load it, and train where a loss reads it as it is.
    """

    purpose: str
    code: str


class _Loss(NamedTuple):
    purpose: str
    module: str
    model: str
    trainer: str
    name: str
    start: str

    def code(self, rows: str) -> str:
        package = self.module.removesuffix(".losses")
        return (
            f"from datasets import load_dataset\nfrom {package} import {self.model}, {self.trainer}\n"
            f"from {self.module} import {self.name}\n\n"
            f"rows = {rows}\nmodel = {self.model}({literal(self.start)})  # or yours\n"
            f"trainer = {self.trainer}(model=model, train_dataset=rows, loss={self.name}(model))\ntrainer.train()\n"
        )


def _bi_encoder(purpose: str, loss: str) -> _Loss:
    trainer = "SentenceTransformerTrainer"
    return _Loss(purpose, "sentence_transformers.losses", "SentenceTransformer", trainer, loss, ENCODER)


def _cross_encoder(purpose: str, loss: str) -> _Loss:
    module = "sentence_transformers.cross_encoder.losses"
    return _Loss(purpose, module, "CrossEncoder", "CrossEncoderTrainer", loss, CROSS_ENCODER)


LOSSES = {
    "tuple": _bi_encoder("A query, a positive and negatives, for contrastive losses.", "MultipleNegativesRankingLoss"),
    "scored tuple": _bi_encoder("The same with scores, the positive's first, for distillation.", "MarginMSELoss"),
    "label": _cross_encoder("Pairs with a label, for rerankers.", "BinaryCrossEntropyLoss"),
    "score": _cross_encoder("Pairs with a score, to distil into rerankers.", "MSELoss"),
    "labels": _cross_encoder("Lists of documents with labels, for rerankers.", "LambdaLoss"),
    "scores": _cross_encoder("Lists of documents with scores, to distil into rerankers.", "ListNetLoss"),
}


def loading(repo_id: str, config: str, split: str) -> str:
    """Write code that loads a split of a config."""
    return f"load_dataset({literal(repo_id)}, {literal(config)}, split={literal(split)})"


def use_of(config: str, columns: Sequence[str], *, repo_id: str, split: str) -> Use:
    """Tell from its columns what a config is for.

    Args:
        config (`str`): its name; `-ids` at its end means ids in the place of texts.
        columns (`Sequence[str]`): their names, in order.
        repo_id, split (`str`): the repository and the split to load.
    """
    rows = loading(repo_id, config, split)
    plain = f"from datasets import load_dataset\n\nrows = {rows}\n"
    if {"negatives", "mining"} <= set(columns):
        code = f"from datasets import load_dataset\nfrom hf_hardneg import to_format\n\nmined = {rows}\n"
        return Use("Everything mining knows, a row for each query.", f'{code}rows = to_format(mined, "triplet")\n')
    if config.endswith("-ids"):
        return Use("Ids in the place of texts, to be looked up in the corpus.", plain)
    layout = next((name for name, shape in LAYOUTS.items() if shape.has_columns(columns)), None)
    if layout:
        return Use(f"The layout {layout} of hf_hardneg's to_format.", plain)
    loss = LOSSES.get(_kind(columns))
    if loss:
        return Use(loss.purpose, loss.code(rows))
    return Use("Texts that the ids of other configs stand for." if "text" in columns else "Further rows.", plain)


def _kind(columns: Sequence[str]) -> str:
    if "negative" in columns or "negative_1" in columns:
        return "scored tuple" if "scores" in columns else "tuple"
    return columns[-1] if len(columns) == 3 else ""
