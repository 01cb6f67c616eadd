"""Training of a denoiser on a user's own pairs and first-pass negatives, as RocketQA does (arXiv 2010.08191).

By fine-tuning a cross-encoder, as there, or by late interaction of a frozen encoder, which needs far fewer pairs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError, DataError, check_keywords
from hf_hardneg.formats.loading import opened
from hf_hardneg.hard_negatives import OPTIONS, usable
from hf_hardneg.mining import KEYWORDS, mine
from hf_hardneg.models.encoder import TransformersEncoder
from hf_hardneg.models.families import FOLDS, check_family, family_of_folder
from hf_hardneg.models.forward import LENGTH_STEP, loading, quiet_transformers, resolved_device
from hf_hardneg.models.model_files import model_folder, read_model_files
from hf_hardneg.models.pair_features import PairFeatures, copy_encoder, fit, save
from hf_hardneg.models.scorers import folds_of
from hf_hardneg.runtime.arguments import (
    AboveZero,
    AtLeastOne,
    AtLeastZero,
    Checked,
    Folder,
    Name,
    Range,
    ZeroOrMore,
    checked,
)
from hf_hardneg.runtime.progress import bar
from hf_hardneg.samplers import RankZone
from hf_hardneg.signals import POOL
from hf_hardneg.store.disk import check_writable, written
from hf_hardneg.strategies import Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.pipeline.options import Documents, PairRows

logger = logging.getLogger(__name__)

Architecture = Literal["late-interaction", "cross-encoder"]
SORTED_TOGETHER = 16
"""Batches among which pairs are sorted by length, so that a batch needs little padding."""
FIRST_PASS = replace(resolve("hybrid"), sampler=RankZone(10, 100))
"""Ranks deep enough that what no one has labelled is seldom relevant, behind the safeguards of hybrid retrieval."""


@dataclass(frozen=True, kw_only=True)
class Training(Checked):
    """The settings of a denoiser's training.

    Late interaction is solved exactly, from the negatives of all epochs at once: it has `hard`, `random`, `epochs` and
    `seed` only, and refuses the others.

    Args:
        hard (`int`, defaults to 3): first-pass negatives for each positive in an epoch; other ones in each epoch.
        random (`int`, defaults to 2): random negatives, likewise.
        epochs (`int`, defaults to 4): passes over the positives.
        batch_size (`int`, defaults to 16): pairs in a step.
        learning_rate (`float`, defaults to 5e-5): of AdamW; rises over a tenth of the steps, then falls to 0.
        weight_decay (`float`, defaults to 0.01): of AdamW.
        max_length (`int`, defaults to 160): tokens after which pairs are cut, in training and afterwards.
        seed (`int`, defaults to 42): of the fresh head, dropout and order.
    """

    hard: AtLeastOne = 3
    random: AtLeastZero = 2
    epochs: Annotated[int, Range(least=1, most=10_000)] = 4
    batch_size: AtLeastOne = 16
    learning_rate: AboveZero = 5e-5
    weight_decay: ZeroOrMore = 0.01
    max_length: Annotated[int, Range(least=LENGTH_STEP)] = 160
    seed: AtLeastZero = 42


class Pairs(NamedTuple):
    """Labelled (query, document) pairs, equally long; 1 is relevant."""

    queries: list[str]
    documents: list[str]
    labels: list[float]


@checked
def train_denoiser(
    pairs: PairRows,
    corpus: Documents | None = None,
    *,
    encoder: Folder,
    output_dir: Folder,
    architecture: Architecture = "late-interaction",
    training: Training | None = None,
    first_pass: str | Strategy = FIRST_PASS,
    folds: AtLeastOne = 1,
    device: Name = "auto",
    **options: Any,
) -> Path:
    """Train a denoiser by binary cross-entropy, and return its folder, which `cross_encoder=` takes.

    Labels are 1 for (query, positive) and 0 for (query, negative). Negatives are drawn from what a first pass finds
    deep in its ranking, and at random. No known positive of a query is among them.

    Late interaction keeps the encoder as it is and learns the weights of three features of its tokens, so it learns
    from a hundred pairs. A cross-encoder is fine-tuned from the encoder and a fresh head, other negatives in each
    epoch; the embeddings of tokens are not trained. It sees more, and needs many more pairs: on Cranfield, MiniLM
    fine-tuned on 164 pairs ranks an unlabelled positive above another candidate in 58 % of cases, late interaction on
    219 in 81 %.

    With `folds`, so many models are trained, each on the queries of the other folds, and a query is scored by the one
    that has not seen it: a model remembers what it was told about the queries it was trained on, also where that was
    wrong. `load_cross_encoder` reads either as one model.

    Args:
        pairs, corpus (`Dataset` or whatever holds them): as for `mine`; of several splits of pairs, `train`.
        encoder (`str` or `Path`): Hub id or path of the model to start from; also that of a dense first pass.
        output_dir (`str` or `Path`): where to save; must not exist.
        architecture (`str`, defaults to `"late-interaction"`): or `"cross-encoder"`, for many thousands of pairs.
        training (`Training`, *optional*): how to train.
        first_pass (`str` or `Strategy`): where hard negatives come from.
        folds (`int`, defaults to 1): how many models; costs `folds - 1` times as much as one.
        device (`str`, defaults to `"auto"`): a GPU if there is one.
        options: further arguments of `mine`, such as `columns=`.

    Raises:
        ConfigError: something cannot work, before anything is mined.
        DataError: there is no negative to learn from.

    Example:
        >>> encoder = "sentence-transformers/all-MiniLM-L6-v2"
        >>> folder = train_denoiser(pairs, corpus, encoder=encoder, output_dir="denoiser")
        >>> mined = mine(pairs, corpus, "dense+denoised", encoder=encoder, cross_encoder=folder)
    """
    training, target = training or Training(), Path(output_dir)
    check_keywords("train_denoiser()", options, (OPTIONS | KEYWORDS) - {"num_negatives", "seed"})
    job = opened("train_denoiser", pairs, corpus, first_pass, options, default=first_pass, single=True)
    options |= job.options
    _check(target, training, architecture, folds, len(job.pairs))
    device = resolved_device(device)
    start = model_folder(os.fspath(encoder), otherwise="another encoder")
    check_family(family_of_folder(start), "encoder", repr(os.fspath(encoder)))
    files = read_model_files(str(start))
    options |= {"seed": training.seed, "encoder": os.fspath(encoder)}
    parts = _folds(_mined(job.pairs, job.corpus, first_pass, training, options), folds)
    with written(target, other="output_dir=") as partial:
        partial.mkdir()
        if architecture == "late-interaction":
            copied = copy_encoder(files, partial / "encoder")
            tokens = TransformersEncoder(files=copied, digest=copied.digest(), device=device)
            documents = open_corpus(job.corpus, columns=options.get("columns"), cache_dir=options.get("cache_dir"))
            model = PairFeatures.of_corpus(tokens, (batch.to_pylist() for batch in documents.batches()))
        for name, part in parts.items():
            if architecture == "late-interaction":
                _fit_features(model, part, partial / name)
            else:
                _train(part, files.folder, partial / name, training, device)
        if folds > 1:
            (partial / FOLDS).write_text(json.dumps({"folds": folds}))
    return target


def _check(target: Path, training: Training, architecture: Architecture, folds: int, rows: int) -> None:
    """Raise where the folder cannot be written, or options do not fit together."""
    if target.exists():
        raise ConfigError(f"output_dir={str(target)!r} exists; a denoiser is saved to a new folder. Give another name.")
    check_writable(target, "output_dir")
    if folds > rows:
        raise ConfigError(f"folds={folds} of {rows} rows leaves folds without any; give fewer, such as 2.")
    read = {"hard", "random", "epochs", "seed"}
    for field in fields(training) if architecture == "late-interaction" else ():
        value = getattr(training, field.name)
        if field.name not in read and value != field.default:
            raise ConfigError(
                f"Training({field.name}={value}) is for a cross-encoder; late interaction reads "
                f'{", ".join(sorted(read))}. Leave it out, or train with architecture="cross-encoder".'
            )


class _TrainingRow(NamedTuple):
    query: str
    positives: list[str]
    hard: list[str]
    random: list[str]


def _mined(
    pairs: Dataset, corpus: Dataset, first_pass: str | Strategy, training: Training, options: dict[str, Any]
) -> list[_TrainingRow]:
    """Mine the negatives of all epochs, by the first pass and at random."""
    passes = ((first_pass, training.hard), ("random", training.random))
    mined = [
        mine(pairs, corpus, strategy, num_negatives=number * training.epochs, **usable(strategy, options))
        for strategy, number in passes
        if number
    ]
    negatives = [part["negatives"][:] for part in mined]
    negatives += [[[]] * len(mined[0])] * (2 - len(negatives))
    names = PairColumns.of(options.get("columns"))
    positives = [[texts] if isinstance(texts, str) else list(texts) for texts in mined[0][names.positive][:]]
    rows = [_TrainingRow(*row) for row in zip(mined[0][names.query][:], positives, *negatives, strict=True)]
    if not any(row.hard for row in rows):
        raise DataError(
            "No query has a first-pass negative; give a first_pass= with looser filters, or more documents."
        )
    return rows


def _folds(rows: list[_TrainingRow], folds: int) -> dict[str, list[_TrainingRow]]:
    """Return the rows to train each model on, by its folder: all rows, or each time those outside a fold."""
    parts = {"": rows}
    if folds > 1:
        fold = folds_of([row.query for row in rows], folds)
        parts = {f"fold-{n}": [rows[i] for i in np.flatnonzero(fold != n)] for n in range(folds)}
    if not all(any(row.hard or row.random for row in part) for part in parts.values()):
        raise ConfigError(f"folds={folds} leaves nothing to train on for {len(rows)} rows; give fewer folds.")
    return parts


def _epoch(rows: Sequence[_TrainingRow], epoch: int, epochs: int) -> Pairs:
    """List the positives of all rows, each with its part of the row's negatives."""
    labelled = Pairs([], [], [])
    for row in rows:
        for place, positive in enumerate(row.positives):
            part = slice((epoch + place) % epochs, None, epochs)
            documents = [positive, *row.hard[part], *row.random[part]]
            labelled.queries.extend([row.query] * len(documents))
            labelled.documents.extend(documents)
            labelled.labels.extend([1.0] + [0.0] * (len(documents) - 1))
    return labelled


def _fit_features(model: PairFeatures, rows: Sequence[_TrainingRow], folder: Path) -> None:
    labelled = _epoch(rows, 0, 1)
    features = model.features(labelled.queries, labelled.documents)
    coefficients, intercept = fit(features, np.array(labelled.labels), candidates=POOL)
    folder.mkdir(parents=True, exist_ok=True)
    save(model, coefficients, intercept, folder)


def _train(rows: Sequence[_TrainingRow], start: str, folder: Path, training: Training, device: str) -> None:
    """Fine-tune a classifier of one label and save it."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    epochs = [_epoch(rows, number, training.epochs) for number in range(training.epochs)]
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        with loading(start, otherwise="another encoder"):
            tokenizer = AutoTokenizer.from_pretrained(start, padding_side="right", trust_remote_code=False)
            model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1, trust_remote_code=False)
        model = model.float().to(device).train()
        model.get_input_embeddings().requires_grad_(False)
        _start_at(model, float(np.mean([label for pairs in epochs for label in pairs.labels])))
        _fit(model, tokenizer, epochs, training, device)
    tokenizer.model_max_length = training.max_length
    with quiet_transformers():
        model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _start_at(model: Any, share: float) -> None:
    """Let a fresh head answer the share of positives, so that no step is spent on learning that."""
    import torch

    for parameter in model.parameters():
        if parameter.shape == (1,):
            torch.nn.init.constant_(parameter, float(np.log(share / (1 - share))))


def _fit(model: Any, tokenizer: Any, epochs: Sequence[Pairs], training: Training, device: str) -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    batches = [_batches(pairs, tokenizer, training, number) for number, pairs in enumerate(epochs)]
    steps = sum(map(len, batches))
    warm = max(1, steps // 10)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    with bar(total=steps, desc="Training denoiser", unit=" steps") as progress:
        for number, epoch in enumerate(batches):
            total = 0.0
            for inputs, labels in epoch:
                logits = model(**{name: values.to(device) for name, values in inputs.items()}).logits[:, 0]
                loss = binary_cross_entropy_with_logits(logits, labels.to(device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                total += loss.item()
                progress.update(1)
            logger.info("epoch %d: mean loss %.4f over %d steps", number + 1, total / len(epoch), len(epoch))


def _batches(pairs: Pairs, tokenizer: Any, training: Training, epoch: int) -> list[tuple[dict[str, Any], Any]]:
    """Return padded inputs and labels of an epoch, shuffled; pairs of like length stand together."""
    import torch

    tokens = tokenizer(pairs.queries, pairs.documents, truncation=True, max_length=training.max_length)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    draws, size = np.random.default_rng([training.seed, epoch]), training.batch_size
    order = draws.permutation(len(lengths))
    windows = [order[first : first + size * SORTED_TOGETHER] for first in range(0, len(order), size * SORTED_TOGETHER)]
    ordered = [window[np.argsort(lengths[window], kind="stable")] for window in windows]
    parts = [window[first : first + size] for window in ordered for first in range(0, len(window), size)]
    draws.shuffle(parts)
    labels = torch.tensor(pairs.labels)
    inputs = [{name: [values[i] for i in rows] for name, values in tokens.items()} for rows in parts]
    padded = [tokenizer.pad(part, pad_to_multiple_of=LENGTH_STEP, return_tensors="pt") for part in inputs]
    return [(part, labels[rows]) for part, rows in zip(padded, parts, strict=True)]
