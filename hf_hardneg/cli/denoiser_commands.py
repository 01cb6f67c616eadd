"""`train-denoiser`: a model that judges candidates, from one's own pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from typer import Option

from hf_hardneg.cli.commands import command
from hf_hardneg.cli.named_sources import pairs_and_corpus
from hf_hardneg.cli.option_groups import PairsOfCorpus
from hf_hardneg.cli.terminal import answer
from hf_hardneg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is trained, and how long."""

    out: Annotated[str, Option(help="new folder for the model")]
    architecture: Annotated[
        str,
        Option(help="late-interaction, which learns from a hundred pairs, or cross-encoder, for tens of thousands"),
    ] = "late-interaction"
    first_pass: Annotated[
        str | None, Option(help="strategy that finds hard negatives (default: hybrid, ranks 10 to 100)")
    ] = None
    folds: Annotated[int, Option(help="models to cross-fit, so that none judges what it learnt")] = 1
    epochs: Annotated[int, Option(help="passes over the pairs")] = 4
    max_length: Annotated[int, Option(help="tokens after which pairs are cut")] = 160
    seed: Annotated[int, Option(help="of all draws")] = 42


@command("train-denoiser", kept="The hard negatives are kept in the cache; the training starts again.")
def train(sources: PairsOfCorpus, trained: Trained) -> None:
    """Train a denoiser on your own pairs.

    `mine` judges candidates by it, as --cross-encoder.
    """
    from hf_hardneg.training.denoiser import FIRST_PASS, Training, train_denoiser

    if sources.encoder is None:
        raise ConfigError("train-denoiser got no --encoder; give the Hub id or path of the model to start from.")
    training = Training(epochs=trained.epochs, max_length=trained.max_length, seed=trained.seed)
    inputs: dict[str, Any] = {**sources.inputs, "architecture": trained.architecture}
    job = pairs_and_corpus(sources, strategy=trained.first_pass or FIRST_PASS)
    folder = train_denoiser(
        job.pairs,
        job.corpus,
        output_dir=trained.out,
        training=training,
        first_pass=trained.first_pass or FIRST_PASS,
        folds=trained.folds,
        **{**inputs, **job.options},
    )
    answer({"folder": folder}, f"Written to {folder}: mine with --cross-encoder {folder}")
