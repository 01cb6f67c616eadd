"""The files of a model say where its weights are, how it pools, what it prepends."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hf_hardneg.errors import HardNegError, ModelError, warn
from hf_hardneg.runtime.arguments import AtLeastOne, Checked
from hf_hardneg.store.directories import digest_of, file_digest
from hf_hardneg.store.regular_files import json_of

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "float16", "bfloat16"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
WEIGHTS = ("*.safetensors", "*.bin")
PATTERNS = (*WEIGHTS, "*.json", "*.txt", "*.model", "*.jinja", "*/config.json")
TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
READ = ("modules.json", "config_sentence_transformers.json")
"""Files whose content is in the fields of `ModelFiles`."""
OF_TRAINING = (
    *("data_config.json", "trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin"),
    *("all_results.json", "train_results.json", "eval_results.json"),
)
"""Files of a checkpoint that change no vector."""
IGNORED = (
    *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "__version__", "similarity_fn_name"),
    *("is_local", "local_files_only", "tokenizer_file", "special_tokens_map_file", "_attn_implementation"),
)
"""Keys of JSON files that say where a model came from, or what vectors are used for."""
LIMITS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The files in which sentence-transformers keeps what it does with a text; later versions write the first."""
PLAIN_TEXT = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
"""The settings in these files of an encoder that is run here; all may be left out."""
CLASSIFIER = {
    "transformer_task": "sequence-classification",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}
"""The settings in these files of a cross-encoder that is run here."""
WITHOUT_LIMIT = 1 << 20
LARGEST_JSON = 1 << 28
"""Bytes of a JSON file of a model; vocabularies are the largest."""
MOST_FILES = 10_000
LONGEST_NAME = 1000


@dataclass(frozen=True, kw_only=True)
class ModelFiles(Checked):
    """A model folder, as sentence-transformers' files beside it describe it.

    Args:
        folder (`str`): of the transformers model.
        pooling (`str`): how token vectors become one: see `Pooling`.
        normalize (`bool`): whether vectors are scaled to unit length.
        query_prompt, document_prompt (`str`): prepended to texts.
        max_length (`int`): tokens after which texts are cut.
        lower_case (`bool`): whether texts are lower-cased first.
        truncate_dim (`int`, *optional*): how many values of a vector are kept, the first ones.
        precision (`str`): of matrix products; half precision needs a GPU.
    """

    folder: str
    pooling: Pooling = "mean"
    normalize: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    max_length: AtLeastOne = 512
    lower_case: bool = False
    truncate_dim: AtLeastOne | None = None
    precision: Precision = "float32"

    def digest(self) -> str:
        """Return the identity of the model: the content of all files that can change a vector, and the fields above."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "folder"}
        return digest_of({"files": content_digests(self.folder, leave_out=(*READ, *LIMITS)), "options": options})

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool token vectors to one vector per text.

        Args:
            hidden (`torch.Tensor`): (n, length, d) token vectors.
            mask (`torch.Tensor`): (n, length), 1 for tokens and 0 for padding, which is on the right.
        """
        import torch

        weights = mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "lasttoken":
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1).clamp(min=1) - 1]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(weights == 0, float("-inf")).amax(1)
        else:
            if self.pooling == "weightedmean":
                weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device).view(1, -1, 1)
            total = weights.sum(1).clamp(min=1e-9)
            pooled = (hidden * weights).sum(1) / (total.sqrt() if self.pooling == "mean_sqrt_len_tokens" else total)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def content_digests(folder: str, *, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Return the digest of every file of a transformers model that can change its results, by its name.

    Args:
        folder (`str`): of the model.
        leave_out (`Sequence[str]`): names of files whose content is known otherwise.
    """
    root = Path(folder)
    return _digests(root, (path for pattern in PATTERNS[:-1] for path in root.glob(pattern)), leave_out)


def module_digests(folder: str) -> dict[str, str]:
    """Return these digests of a folder of sentence-transformers, with the folders of all its modules and their code."""
    root = Path(folder)
    modules = modules_within(root)
    paths = [path for pattern in (*PATTERNS[:-1], "*.py") for path in root.glob(pattern)]
    paths += [path for module in modules if module["path"] for path in (root / module["path"]).rglob("*")]
    return _digests(root, paths, ())


def _digests(root: Path, paths: Iterable[Path], leave_out: Sequence[str]) -> dict[str, str]:
    files = sorted({path for path in paths if path.is_file()})
    safe = {path.parent for path in files if path.suffix == ".safetensors"}
    return {
        str(path.relative_to(root)): _digest_of(path, (state.st_size, state.st_mtime_ns, state.st_ino))
        for path, state in ((path, path.stat()) for path in files)
        if path.name not in (*leave_out, *OF_TRAINING) and not (path.suffix == ".bin" and path.parent in safe)
    }


@functools.lru_cache(maxsize=256)
def _digest_of(path: Path, version: tuple[int, int, int]) -> str:
    """Return the digest of a file, read once per process as long as its size, time and inode stay."""
    return json_digest(path) if path.suffix == ".json" else file_digest(path)


def json_digest(path: Path) -> str:
    """Return the digest of the content of a JSON file, without what changes no result.

    The state in which a tokenizer of transformers was last used, `truncation` and `padding`, is set anew at each call.
    """
    content = _json(path)
    if not isinstance(content, dict):
        return digest_of({"content": content})
    state = ("truncation", "padding") if path.with_name("tokenizer_config.json").exists() else ()
    return digest_of({name: value for name, value in content.items() if name not in (*IGNORED, *state)})


class NotCovered(ModelError):
    """A model of several or other modules, which is not run here; sentence-transformers runs it."""


def read_model_files(name: str) -> ModelFiles:
    """Read the files of a model folder, or of a Hub id.

    Raises:
        ModelError: there is no such model, or its files are broken.
        NotCovered: a module, or how it is used, is not covered here.
    """
    root = model_folder(name, otherwise="a SentenceTransformer, or a callable")
    modules = modules_of(root)
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    foreign = [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]
    if foreign or kinds not in ([], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise not_covered(name, f"the modules {', '.join(foreign or kinds)}")
    weights = root / modules[0]["path"] if modules else root
    check_complete(weights, name)
    if has_code(weights):
        raise not_covered(name, "code of its own")
    pooling = _pooling(read_json(root / modules[1]["path"] / "config.json"), name) if modules else _default(weights)
    settings = read_json(root / "config_sentence_transformers.json", default={})
    if not is_plain(weights, PLAIN_TEXT):
        raise not_covered(name, f"settings of its own in sentence_bert_config.json of {weights}")
    files = plain_files(weights, settings)
    normalize = kinds[2:] == ["Normalize"]
    return replace(files, pooling=pooling, normalize=normalize, truncate_dim=settings.get("truncate_dim"))


def plain_files(weights: Path, settings: dict[str, Any]) -> ModelFiles:
    """What the files beside the weights of a model say of the texts it takes: prompts, length, lower case.

    Args:
        weights (`Path`): the folder of the transformers model.
        settings (`dict`): of sentence-transformers, where there are any.
    """
    query, document = _prompts(settings)
    return ModelFiles(
        folder=str(weights),
        query_prompt=query,
        document_prompt=document,
        max_length=longest_input(weights),
        lower_case=bool(_limits(weights).get("do_lower_case")),
    )


def _limits(folder: Path) -> dict[str, Any]:
    """Read what sentence-transformers' files beside a transformers model say of its use."""
    return next((read_json(folder / file) for file in LIMITS if (folder / file).exists()), {})


def is_plain(folder: Path, plain: Mapping[str, Any]) -> bool:
    """Say whether these files hold nothing but a length, lower case, and plain settings."""
    said = {name: value for name, value in _limits(folder).items() if name not in ("max_seq_length", "do_lower_case")}
    return all(not value or plain.get(name) == value for name, value in said.items())


def has_code(folder: Path) -> bool:
    """Say whether a model's configuration points to code that lies beside it."""
    return "AutoModel" in str(read_json(folder / "config.json", default={}).get("auto_map")) and any(
        folder.glob("*.py")
    )


def changed(folder: str) -> ModelError:
    """Return the error for a model whose files have changed since it was chosen."""
    return ModelError(
        f"The model at {folder} changed since it was chosen: its files have another digest. "
        "Construct the miner again to use the new weights."
    )


def not_covered(name: str, what: str) -> NotCovered:
    """Return the error for a model that is not run here."""
    return NotCovered(
        f"The model {name!r} has {what}, which is not run here; one Transformer, Pooling and Normalize are. "
        "Run `pip install 'hf-hardneg[sentence-transformers]'`, which runs it."
    )


def _default(folder: Path) -> Pooling:
    """Return how sentence-transformers pools a model without modules: the last token of causal language models."""
    config = read_json(folder / "config.json")
    causal = str((config.get("architectures") or [""])[0]).endswith("ForCausalLM") and config.get("is_causal", True)
    return "lasttoken" if causal else "mean"


def _prompts(settings: dict[str, Any]) -> tuple[str, str]:
    """Return what `encode_query` and `encode_document` prepend: the prompts of these names, and no other."""
    prompts = settings.get("prompts") or {}
    return prompts.get("query") or "", prompts.get("document") or ""


def tell_prompts(settings: dict[str, Any], what: str) -> None:
    """Warn of prompts that a model has and that are used for neither queries nor documents.

    Args:
        settings (`dict`): its `prompts` and `default_prompt_name`.
        what (`str`): the model, for the message.
    """
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    query, document = _prompts(settings)
    others = {
        *((key for key in ("passage", "corpus") if prompts.get(key)) if not document else ()),
        *([default] if prompts.get(default) and not query and not document else ()),
    }
    if others:
        warn(
            f"The model {what} has the prompts {', '.join(map(repr, sorted(others)))}, which encode_query and "
            'encode_document of sentence-transformers do not use, and so not this library: they use "query" and '
            '"document" only. Where it was trained with them, save it with prompts of these names.'
        )


def model_folder(name: str, *, otherwise: str) -> Path:
    """Find the local folder of a path or Hub id, and fetch it if need be.

    Args:
        name (`str`): path or Hub id.
        otherwise (`str`): what else may be passed, for the message.

    Raises:
        ModelError: there is no such model.
    """
    if Path(name).is_dir():
        folder = Path(name).resolve()
        _refuse_devices(folder)
        return folder
    if Path(name).exists():
        raise ModelError(
            f"The model {name!r} is a file; a model is a folder with its configuration, weights and tokenizer. Give "
            f"the folder of the original model (not GGUF or ONNX), a Hub id, {otherwise}."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS)))
    except Exception as error:
        raise ModelError(
            f"There is no model {name!r}: it is neither a local folder nor a Hub id that can be fetched "
            f"({type(error).__name__}: {error}). Give a local folder, a Hub id, {otherwise}."
        ) from error


def read_json(path: Path, default: Any = None) -> Any:
    """Read a JSON file of a model: a list where that is the default, else an object.

    Args:
        path (`Path`): the file.
        default (`list` or `dict`, *optional*): where there is no such file.

    Raises:
        ModelError: the file cannot be read, or says something else.
    """
    if default is not None and not os.path.lexists(path):
        return default
    said, kind = _json(path), list if isinstance(default, list) else dict
    if not isinstance(said, kind):
        raise ModelError(
            f"{path} holds a {type(said).__name__} where models have a {kind.__name__}. Fetch the model again."
        )
    return said


def _json(path: Path) -> Any:
    try:
        return json_of(path, LARGEST_JSON, follow=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. The model folder is incomplete; fetch it again.") from error


def modules_of(folder: Path) -> list[dict[str, str]]:
    """List the modules of a folder of sentence-transformers, their `type` and `path`; none in one of transformers.

    Raises:
        ModelError: the list cannot be read, or names a place outside the folder.
    """
    path = folder / "modules.json"
    modules: list[dict[str, str]] = read_json(path, default=[])
    _check_modules(path, modules)
    return modules


def modules_within(folder: Path) -> list[dict[str, str]]:
    """List these modules, and those that a router among them sends queries or documents to.

    Raises:
        ModelError: as `modules_of`.
    """
    modules = modules_of(folder)
    for module in modules:
        inside = Path(module["path"])
        path = folder / inside / "router_config.json"
        routed = read_json(path, default={}).get("types") or {}
        within = [{"type": kind, "path": str(name)} for name, kind in routed.items()]
        _check_modules(path, within)
        modules = [*modules, *({**each, "path": str(inside / each["path"])} for each in within)]
    return modules


def _check_modules(path: Path, modules: list[Any]) -> None:
    for module in modules:
        names = [module.get("type"), module.get("path")] if isinstance(module, dict) else [None]
        if not all(isinstance(name, str) and name.isprintable() and len(name) < LONGEST_NAME for name in names):
            raise ModelError(f"{path} has a module without a type and a path. Fetch the model again.")
        place = Path(module["path"])
        if place.is_absolute() or ".." in place.parts or "\\" in module["path"]:
            raise ModelError(
                f"{path} names {module['path'][:60]!r}, which does not lie in its folder, as modules do. Do not "
                "load this model."
            )


@contextlib.contextmanager
def described(name: str) -> Iterator[None]:
    """Turn what cannot be understood of a model's files, inside, into a `ModelError`.

    Args:
        name (`str`): of the model, for the message.
    """
    try:
        yield
    except HardNegError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ModelError(
            f"The files of the model {name!r} say what no model's say ({type(error).__name__}: {str(error)[:200]}). "
            "Fetch the model again, or give another."
        ) from error


def _refuse_devices(folder: Path) -> None:
    """Raise where a folder holds what blocks or never ends when it is read, by whatever software."""
    for path in itertools.islice(itertools.chain(folder.glob("*"), folder.glob("*/*")), MOST_FILES):
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ModelError(f"{path} is a pipe or a device; models are of files. Do not load this folder.")


def _pooling(config: dict[str, Any], name: str) -> Pooling:
    flags = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "weightedmean_tokens": "weightedmean"}
    chosen = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    modes = config.get("pooling_mode", [flags.get(mode, mode) for mode in chosen])
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in get_args(Pooling) or config.get("include_prompt", True) is False:
        raise not_covered(name, f"the pooling {config}")
    return modes[0]


def check_complete(folder: Path, name: str) -> None:
    """Raise if a model folder has no configuration, no weights or no tokenizer.

    Raises:
        ModelError: naming what is missing.
    """
    for needed, patterns in (("config.json", ("config.json",)), ("weights", WEIGHTS), ("tokenizer", TOKENIZERS)):
        if not any(path for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(f"The model {name!r} has no {needed} in {folder}. Give a complete model folder.")


def longest_input(folder: Path) -> int:
    """Return how many tokens the model of a folder can take, or is to take."""
    if chosen := _limits(folder).get("max_seq_length"):
        if int(chosen) < 1:
            raise ModelError(f"{folder} says max_seq_length={chosen!r}; lengths are at least 1. Fetch the model again.")
        return int(chosen)
    config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json", default={})
    positions = "n_positions" if str(config.get("model_type")).startswith("gpt") else "max_position_embeddings"
    limits = [config.get(positions), tokenizer.get("model_max_length")]
    return int(min((min(limit, WITHOUT_LIMIT) for limit in limits if limit and limit > 0), default=512))
