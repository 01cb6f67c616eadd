"""The family of a model is told in one place, by its files or its class, for every argument that takes a model.

A model of another kind than an argument needs would often run and give numbers that mean nothing: a reranker's body has
token vectors too. So each kind has a name here, and each argument says which families it takes, and what to do with
the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from hf_hardneg.errors import ConfigError, ModelError, warn
from hf_hardneg.models.model_files import WEIGHTS, described, modules_of, read_json

Slot = Literal["encoder", "sparse", "tokens", "cross_encoder", "model"]
"""The arguments that take a model: `sparse` is `encoder=` for sparse vectors, `tokens` for token vectors, `model` that
of `LocalGenerator`."""

FOLDS, LATE_INTERACTION = "folds.json", "late_interaction.json"
TEXT_ENCODERS_OF_PAIRS = ("t5", "mt5", "umt5")
"""Encoder-decoders whose encoder transformers loads by itself."""
SPARSE = ("SpladePooling", "SparseAutoEncoder", "CSRSparsity", "SparseStaticEmbedding", "MLMTransformer", "IDF")
MANY_VECTORS = ("MultiVectorMask", "TokenPooling", "ColBERT")
OTHER_TASKS = ("ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "ForNextSentencePrediction")
OTHER_WEIGHTS = {".gguf": "GGUF", ".onnx": "ONNX", ".h5": "TensorFlow", ".msgpack": "Flax", ".xml": "OpenVINO"}


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Args:
        name (`str`): with its article, for messages.
        slots (`tuple[str, ...]`): the arguments that take it.
        advice (`str`): what to do instead, for messages.
    """

    name: str
    slots: tuple[Slot, ...] = ()
    advice: str = ""


ENCODER = Family("an encoder of one vector", ("encoder",))
CROSS_ENCODER = Family(
    "a cross-encoder, which scores pairs", ("cross_encoder",), "Pass it as cross_encoder=, and an encoder as encoder=."
)
DENOISER = Family("a denoiser that train_denoiser wrote", ("cross_encoder",), "Pass it as cross_encoder=.")
SPARSE_ENCODER = Family(
    "a sparse encoder (SPLADE), whose vectors are as wide as a vocabulary",
    ("sparse",),
    'Mine with "splade", or take it as a part: Sparse(encoder=...).',
)
MULTI_VECTOR = Family(
    "a late-interaction model (ColBERT), which has a vector for each token",
    ("tokens",),
    'Mine with "colbert", or take it as a part: LateInteraction(encoder=...).',
)
IMAGES = Family(
    "a model of images and texts (CLIP)", ("encoder",), 'Pass it as encoder=, to mine images or texts with "dense".'
)
SEEING = Family(
    "a model that writes texts about images",
    advice="Give a model of one vector for images and texts, such as CLIP, SigLIP or a SentenceTransformer trained "
    "from this one, or a callable over images of PIL.",
)
ADAPTER = Family(
    "an adapter (LoRA) without its base model",
    advice="Merge it (merge_and_unload() of peft), save the whole model and pass that folder.",
)
EXPORTED = Family(
    "a model on ONNX or OpenVINO, whose weights cannot be read",
    advice='Open it with backend="torch", or pass a callable list[str] -> (n, d) that runs it.',
)
BARE = Family(
    "a live transformers model, which says neither how to tokenize nor how to pool",
    advice="Save it with its tokenizer and pass the folder, or pass a SentenceTransformer or CrossEncoder of it.",
)
STATIC = Family(
    "a model2vec folder without sentence-transformers' files",
    advice="Pass SentenceTransformer(modules=[StaticEmbedding.from_model2vec(folder)]).",
)
MASKED = Family("a masked language model", ("encoder", "sparse"), "Train an encoder from it, or take a trained one.")
CAUSAL = Family("a causal language model", ("encoder", "model"), "Train an encoder from it, or take a trained one.")
TEXT_TO_TEXT = Family("an encoder-decoder", ("encoder",), "Train an encoder from it, or take a trained one.")
DPR = Family("one half of a DPR pair", advice="Pass a callable list[str] -> (n, d) for it, or another encoder.")
DECODING = Family(
    "an encoder-decoder, of which no vector of a text comes", advice="Pass an encoder, or a SentenceTransformer of it."
)
UNKNOWN = Family("a model whose files do not say what it is for", ("encoder", "cross_encoder", "model"))
UNTRAINED = (MASKED, CAUSAL, TEXT_TO_TEXT)
"""Encoders by mean or last token only: no one trained them to compare texts."""

CLASSES = {
    "SparseEncoder": SPARSE_ENCODER,
    "MultiVectorEncoder": MULTI_VECTOR,
    "ColBERT": MULTI_VECTOR,
    "CrossEncoder": CROSS_ENCODER,
}
MARKS = (
    (FOLDS, DENOISER),
    (LATE_INTERACTION, DENOISER),
    ("adapter_config.json", ADAPTER),
    ("artifact.metadata", MULTI_VECTOR),
)
"""Files that tell a family by themselves."""
TAKES = {
    "encoder": "a model of one vector for each text",
    "sparse": "a sparse encoder, such as SPLADE,",
    "tokens": "a late-interaction model, such as ColBERT,",
    "cross_encoder": "a trained cross-encoder",
    "model": "a causal language model",
}
INSTEAD = {
    "encoder": "",
    "sparse": 'Mine with "dense", or give a SparseEncoder, a masked language model trained as one, or a callable.',
    "tokens": 'Mine with "dense", or give a MultiVectorEncoder (MultiVectorEncoder(path) makes an untrained one), or a '
    "callable.",
    "cross_encoder": "It has no trained head to score pairs; train one from it with `hf-hardneg train-denoiser`.",
    "model": "Give a text-generation model of transformers, or serve the model and use EndpointGenerator.",
}
"""The advice for a family that has none, or whose advice is about another argument."""


@dataclass(frozen=True)
class _Said:
    """The marks of a family: sentence-transformers' kind, the names of its modules, transformers' configuration."""

    kind: str = ""
    modules: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def family(self) -> Family:
        if self.kind in CLASSES:
            return CLASSES[self.kind]
        names, types = {module.rpartition(".")[2] for module in self.modules}, " ".join(self.modules)
        if names & set(SPARSE):
            return SPARSE_ENCODER
        if names & set(MANY_VECTORS) or "pylate" in types or "colbert" in str(self.config.get("architectures")).lower():
            return MULTI_VECTOR
        if "CLIPModel" in names or (names and "vision_config" in self.config):
            return IMAGES
        if "vision_config" in self.config:
            architectures = [str(name) for name in self.config.get("architectures") or ()]
            compares = "text_config" in self.config and all(name.endswith("Model") for name in architectures)
            return IMAGES if architectures and compares else SEEING
        if "LogitScore" in names:
            return CROSS_ENCODER
        return ENCODER if names - {"Transformer"} else self._by_architecture()

    def _by_architecture(self) -> Family:
        architectures = [str(name) for name in self.config.get("architectures") or ()]
        heads = {
            "ForSequenceClassification": CROSS_ENCODER,
            "ForMaskedLM": MASKED,
            "ForPreTraining": MASKED,
            "ForCausalLM": CAUSAL,
            "LMHeadModel": CAUSAL,
            "QuestionEncoder": DPR,
            "ContextEncoder": DPR,
            **{task: Family(f"a model {_spaced(task)}", advice="Pass an encoder.") for task in OTHER_TASKS},
        }
        for ending, family in heads.items():
            if any(name.endswith(ending) for name in architectures):
                return family
        if self.config.get("model_type") == "model2vec":
            return STATIC
        if self.config.get("is_encoder_decoder") or self.config.get("model_type") in TEXT_ENCODERS_OF_PAIRS:
            if self.config.get("model_type") not in TEXT_ENCODERS_OF_PAIRS:
                return DECODING
            return ENCODER if any(name.endswith("EncoderModel") for name in architectures) else TEXT_TO_TEXT
        return ENCODER if architectures else UNKNOWN


def _spaced(task: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in task).strip()


def family_of_folder(folder: Path) -> Family:
    """Return the family of a model folder, by its files.

    Raises:
        ModelError: it holds no model, or one in a format that is not read here.
    """
    names = {path.name for path in folder.iterdir()}
    for name, family in MARKS:
        if name in names:
            return family
    with described(str(folder)):
        modules = modules_of(folder)
        settings = read_json(folder / "config_sentence_transformers.json", default={})
        if not modules and not any(Path(name).match(pattern) for name in names for pattern in WEIGHTS):
            _refuse_format(folder)
        types = tuple(str(module["type"]) for module in modules)
        body = next((module["path"] for module in modules if module["type"].endswith("Transformer")), "")
        config = read_json(folder / body / "config.json", default={})
        similarity = str(settings.get("similarity_fn_name") or "")
        kind = "ColBERT" if "maxsim" in similarity.lower() else str(settings.get("model_type") or "")
        return _Said(kind, types, config).family()


def _refuse_format(folder: Path) -> None:
    """Raise where the weights are in another format than safetensors or PyTorch's."""
    suffixes = sorted({path.suffix for path in folder.rglob("*")} & OTHER_WEIGHTS.keys())
    if suffixes:
        formats = " and ".join(OTHER_WEIGHTS[suffix] for suffix in suffixes)
        raise ModelError(
            f"The model folder {folder} holds {formats} weights only; safetensors or PyTorch's .bin are read. Give the "
            "folder or Hub id of the original weights, or a callable that runs these."
        )


def family_of_live(model: Any) -> Family | None:
    """Return the family of a model object; `None` for objects of other libraries."""
    classes = [kind.__name__ for kind in type(model).__mro__]
    if "PreTrainedModel" in classes:
        return BARE
    if "maxsim" in str(getattr(model, "similarity_fn_name", "")).lower():
        return MULTI_VECTOR
    kind = next((name for name in classes if name in CLASSES), "")
    if not kind and "SentenceTransformer" not in classes:
        return None
    modules = list(model.children())
    body = getattr(next(iter(modules), None), "auto_model", None)
    if getattr(model, "backend", "torch") != "torch":
        return EXPORTED
    if hasattr(body, "peft_config") or getattr(body, "_hf_peft_config_loaded", False):
        return ADAPTER
    types = tuple(f"{type(module).__module__}.{type(module).__name__}" for module in modules)
    config = body.config.to_dict() if body is not None and hasattr(body, "config") else {}
    return _Said(kind, types, config).family()


def check_family(family: Family, slot: Slot, what: str, *, live: bool = False) -> None:
    """Raise where an argument does not take a family; warn where it takes one that was not trained for it.

    Args:
        family (`Family`): of the model.
        slot (`str`): the argument.
        what (`str`): the model, for the message: its path or Hub id, or its class.
        live (`bool`, defaults to `False`): whether it is an object.

    Raises:
        ModelError: a folder of another kind.
        ConfigError: an object of another kind.
    """
    if slot not in family.slots:
        refuse(family, slot, what, live=live)
    if slot == "encoder" and family in UNTRAINED:
        warn(
            f"encoder={what} is {family.name}, which no one trained to compare texts: its vectors say little about "
            f"relevance. {family.advice}"
        )


def refuse(family: Family, slot: Slot, what: str, *, live: bool = False) -> NoReturn:
    """Raise the error of `check_family`."""
    elsewhere = slot == "model" or (slot in ("cross_encoder", "sparse", "tokens") and "encoder" in family.slots)
    argument, advice = (
        "encoder" if slot in ("sparse", "tokens") else slot,
        INSTEAD[slot] if elsewhere else family.advice,
    )
    raise (ConfigError if live else ModelError)(
        f"{argument}= got {what}, {family.name}; {TAKES[slot]} is allowed. {advice}"
    )
