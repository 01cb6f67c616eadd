"""Scorers are made of what a user calls a cross-encoder: a path or Hub id, a live model, or a function.

Opening a scorer reads its files and no more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.identity import identify
from hf_hardneg.models import model_files, scorers
from hf_hardneg.models.families import FOLDS, LATE_INTERACTION, check_family, family_of_folder, family_of_live
from hf_hardneg.models.forward import check_device
from hf_hardneg.models.live import check_same, same_modes, saved
from hf_hardneg.models.model_files import modules_of, read_json
from hf_hardneg.models.modules import OURS
from hf_hardneg.models.pair_features import open_feature_scorer
from hf_hardneg.models.scorers import PairScorer, ScoreKind
from hf_hardneg.runtime.arguments import Folder, Name, Range, checked
from hf_hardneg.store import kinds
from hf_hardneg.store.directories import digest_of

Activation = Literal["auto", "sigmoid", "identity"]
Length = Annotated[int, Range(least=8, such_as=512)]
"""Tokens that leave room for a query and a document."""
KNOWN_ACTIVATIONS = ("Sigmoid", "Identity")
MOST_FOLDS = 1000
TRAINED_HEAD = "ForSequenceClassification"
PROBES = [("dark rock", "Basalt is dark rock from lava."), ("", "ÉTÉ 東京"), ("A [MASK]", "")]
PROBES += [("what is Rock", " ".join(f"word{n} Rock" for n in range(300)))]
"""Pairs that show another case, language, prompt, side or length."""


@checked
def load_cross_encoder(
    model: Any,
    *,
    cache_dir: Folder,
    device: Name = "auto",
    activation: Activation = "auto",
    max_length: Length | None = None,
) -> PairScorer:
    """Make a scorer of what a user passes. A path or Hub id is checked by its files; no model is loaded yet.

    Args:
        model (`str`, `Path`, `CrossEncoder`, rerankers model, `Callable[[list[str], list[str]], array (n,)]` or
            `PairScorer`): a sequence-classification model has one label, or two, whose scores are then the differences
            of the second logit and the first; or a denoiser that `train_denoiser` wrote.
        cache_dir (`str` or `Path`): where a live model is saved once, so that workers can load it.
        device (`str`, defaults to `"auto"`): for a path or Hub id, such as `"cuda"`; a GPU if there is one.
        activation (`str`, defaults to `"auto"`): what makes probabilities of what the model returns: `"sigmoid"` where
            it returns logits, `"identity"` where it returns probabilities. `"auto"` takes classifiers for logits,
            whether or not their own configuration ends in a sigmoid; a callable says it by an attribute `kind`, and is
            taken for probabilities without.
        max_length (`int`, *optional*): tokens after which pairs are cut; the model's own limit by default.

    Raises:
        ModelError: there is no such model, it has no trained classification head, or an activation nobody knows.
        ConfigError: something else was passed.
    """
    if isinstance(model, PairScorer):
        return model
    check_device(device)
    cache_dir = Path(cache_dir)
    if isinstance(model, (str, os.PathLike)):
        with model_files.described(os.fspath(model)):
            return _from_folder(os.fspath(model), device, activation, max_length)
    if (family := family_of_live(model)) is not None:
        check_family(family, "cross_encoder", f"a {type(model).__name__}", live=True)
        return _from_sentence_transformers(model, cache_dir, activation, max_length)
    if hasattr(model, "rank") and hasattr(model, "score"):
        return _from_rerankers(model, cache_dir, activation, max_length)
    if callable(model):
        digest = identify(model, what="cross-encoder")
        kind = _kind(activation, auto=getattr(model, "kind", "ce_prob"))
        return scorers.CallableScorer(function=model, digest=digest_of({"function": digest, "kind": kind}), kind=kind)
    raise ConfigError(f"cross_encoder= got a {type(model).__name__}; allowed are {scorers.ALLOWED}.")


def may_score(model: Any) -> bool:
    """Say whether something can be a cross-encoder, as far as can be told before it is loaded."""
    return isinstance(model, (str, os.PathLike)) or callable(model) or hasattr(model, "score")


def gives_probabilities(model: Any) -> bool:
    """Say whether `predict` of sentence-transformers returns probabilities of a model, by its own activation.

    Args:
        model: as `load_cross_encoder` takes it; what sentence-transformers cannot run gives what it gives.

    Raises:
        ModelError: there is no such folder.
    """
    if isinstance(model, (str, os.PathLike)):
        folder = model_files.model_folder(
            os.fspath(model), otherwise="a CrossEncoder, a rerankers model, or a callable"
        )
        return _own_activation(folder, read_json(folder / "config.json", default={})) == "Sigmoid"
    return type(getattr(model, "activation_fn", None)).__name__ == "Sigmoid"


def _kind(activation: Activation, *, auto: ScoreKind) -> ScoreKind:
    return {"auto": auto, "sigmoid": "ce_logit", "identity": "ce_prob"}[activation]


def _from_folder(
    name: str, device: str, activation: Activation, max_length: int | None, own_code: bool = False
) -> PairScorer:
    folder = model_files.model_folder(name, otherwise="a CrossEncoder, a rerankers model, or a callable")
    check_family(family_of_folder(folder), "cross_encoder", repr(name))
    if (folder / FOLDS).exists():
        members = [folder / f"fold-{number}" for number in range(_folds(folder))]
        return scorers.CrossFitted(
            scorers=tuple(_from_folder(str(member), device, activation, max_length) for member in members)
        )
    if (folder / LATE_INTERACTION).exists():
        if activation == "identity" or max_length is not None:
            raise ConfigError(
                f"{name!r} is a denoiser by late interaction, and activation={activation!r}, max_length={max_length} "
                "were given; it returns logits and has its encoder's length. Leave both out."
            )
        return open_feature_scorer(folder, device=device)
    model_files.check_complete(folder, name)
    config = read_json(folder / "config.json")
    if activation == "auto":
        _check_activation(_own_activation(folder, config), name)
    kind, limit = _kind(activation, auto="ce_logit"), max_length or model_files.longest_input(folder)
    if _is_modular(folder):
        digest = scorers.modular_digest(str(folder), max_length, kind, own_code)
        return scorers.SentenceTransformersScorer(
            folder=str(folder), max_length=max_length, kind=kind, digest=digest, device=device, own_code=own_code
        )
    labels = len(config.get("id2label") or {}) or int(config.get("num_labels", 2))
    if labels > 2:
        raise ModelError(
            f"The model {name!r} has {labels} labels; one (relevance) or two (not relevant, relevant) can be read. "
            "Pass a callable (queries, documents) -> scores that says which labels mean relevant."
        )
    digest = scorers.classifier_digest(str(folder), limit, kind)
    return scorers.TransformersScorer(folder=str(folder), max_length=limit, kind=kind, digest=digest, device=device)


def _folds(folder: Path) -> int:
    folds = read_json(folder / FOLDS).get("folds")
    if type(folds) is not int or not 1 <= folds <= MOST_FOLDS:
        raise ModelError(f"{folder / FOLDS} names no number of models up to {MOST_FOLDS}. Train the denoiser again.")
    return folds


def _is_modular(folder: Path) -> bool:
    """Say whether a folder has more than a classifier of pairs: other modules, a prompt, or settings of its own."""
    modules = [str(module["type"]) for module in modules_of(folder)]
    settings = read_json(folder / "config_sentence_transformers.json", default={})
    plain = modules == [] or (len(modules) == 1 and modules[0].startswith(OURS) and modules[0].endswith(".Transformer"))
    plain = plain and model_files.is_plain(folder, model_files.CLASSIFIER)
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"))
    return not plain or bool(prompt) or bool(settings.get("keep_in_fp32_modules"))


def _own_activation(folder: Path, config: dict[str, Any]) -> str:
    """Return the name of the activation in a model's files: each generation of sentence-transformers has its place.

    One label without any means a sigmoid.
    """
    settings = read_json(folder / "config_sentence_transformers.json", default={})
    nested = config.get("sentence_transformers") or {}
    name = settings.get("activation_fn") or nested.get("activation_fn")
    return str(name or config.get("sbert_ce_default_activation_function") or "Sigmoid").rpartition(".")[2]


def _check_activation(name: str, model: str) -> None:
    if name not in KNOWN_ACTIVATIONS:
        raise ModelError(
            f"The cross-encoder {model!r} ends in the activation {name}; {' and '.join(KNOWN_ACTIVATIONS)} over logits "
            'are known. Say what its raw outputs are: activation="sigmoid" for logits, "identity" for probabilities.'
        )


def _from_sentence_transformers(
    model: Any, cache_dir: Path, activation: Activation, max_length: int | None
) -> PairScorer:
    """Save a live CrossEncoder once, so that workers can load it, and open what was saved."""
    if not hasattr(model, "max_seq_length"):
        raise ModelError(
            f"A live {type(model).__name__} of sentence-transformers before 5.4 cannot be taken over. Install a later "
            "one, or save it (model.save_pretrained(folder)) and pass the folder."
        )
    if activation == "auto":
        _check_activation(type(model.activation_fn).__name__, type(model).__name__)
    device, kind = str(model.device), _kind(activation, auto="ce_logit")
    said: Activation = "sigmoid" if kind == "ce_logit" else "identity"

    def opened(directory: Path, length: int) -> PairScorer:
        return _from_folder(str(directory / "model"), device, said, length, own_code=True)

    def check(directory: Path) -> None:
        _check_saved(model, opened(directory, model.max_seq_length))

    directory = saved(model, cache_dir, kinds.CROSS_ENCODER, check=check)
    return opened(directory, max_length or model.max_seq_length)


def _check_saved(model: Any, scorer: PairScorer) -> None:
    """Raise where a saved CrossEncoder gives other scores than the live one; see `check_same`."""
    import torch

    with same_modes(model):
        live = model.predict(PROBES, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    opened = scorer.score(*zip(*PROBES, strict=True))
    scorers.forget_scorers()
    instead = "a callable (queries, documents) -> scores that calls its predict()"
    check_same(model, scorers.log_odds(live), opened, slot="cross_encoder", results="scores", instead=instead)


def _from_rerankers(model: Any, cache_dir: Path, activation: Activation, max_length: int | None) -> PairScorer:
    """Save the classifier that a model of AnswerDotAI's rerankers wraps, and open it; ask any other query by query."""
    classifier: Any = getattr(model, "model", None)
    if not type(classifier).__name__.endswith(TRAINED_HEAD) or not hasattr(model, "tokenizer"):
        kind = _kind(activation, auto="ce_prob")
        digest = identify(model, what="cross-encoder")
        return scorers.RerankersScorer(model=model, kind=kind, digest=digest_of({"model": digest, "kind": kind}))

    folder = saved(classifier, cache_dir, kinds.CROSS_ENCODER, tokenizer=model.tokenizer) / "model"
    said: Activation = "sigmoid" if _kind(activation, auto="ce_logit") == "ce_logit" else "identity"
    return _from_folder(str(folder), str(classifier.device), said, max_length)
