"""What the files of a model say: where its weights are, how it pools, what it prepends."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hf_hardneg.errors import ConfigError, ModelError
from hf_hardneg.index.store import digest_of, file_digest

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "float16", "bfloat16"]
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
PATTERNS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model", "*.jinja", "*/config.json")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model folder, as sentence-transformers' files beside it describe it.

    Args:
        folder (`str`): of the transformers model.
        pooling (`str`): how token vectors become one: see `POOLINGS`.
        normalize (`bool`): whether vectors are scaled to unit length.
        query_prompt, document_prompt (`str`): prepended to texts.
        max_length (`int`): tokens after which texts are cut.
        lower_case (`bool`): whether texts are lower-cased first.
        precision (`str`): of matrix products; half precision needs a GPU.
    """

    folder: str
    pooling: str = "mean"
    normalize: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    max_length: int = 512
    lower_case: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"precision={self.precision!r} is not known; allowed are {', '.join(get_args(Precision))}."
            )

    def digest(self) -> str:
        """Identity of the model: the content of every file that can change a vector, and the fields above."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "folder"}
        return digest_of({"files": content_digests(self.folder), "options": options})

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """One vector per text.

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


def content_digests(folder: str) -> dict[str, str]:
    """Digest of every file of a model folder that can change what the model returns, by its name."""
    root = Path(folder)
    paths = sorted({path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()})
    return {str(path.relative_to(root)): _content_digest(path) for path in paths}


def _content_digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of_version(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=256)
def _digest_of_version(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Digest of a file, read once per process as long as its size, time and inode stay."""
    return file_digest(path)


def read_model_files(name: str) -> ModelFiles:
    """What the files of a model folder, or of a Hub id, say.

    Raises:
        ModelError: there is no such model, its files are broken, or a module is not supported.
    """
    root = model_folder(name, otherwise="a SentenceTransformer, or a callable")
    modules = read_json(root / "modules.json", default=[])
    pooling, normalize, weights = "mean", False, root
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        if kind == "Transformer":
            weights = root / module["path"]
        elif kind == "Pooling":
            pooling = _pooling(read_json(root / module["path"] / "config.json"), name)
        elif kind == "Normalize":
            normalize = True
        else:
            raise ModelError(
                f"The model {name!r} has a {kind} module, which is not supported here; Transformer, Pooling and "
                "Normalize are. Run `pip install 'hf-hardneg[sentence-transformers]'` and pass "
                f"encoder=SentenceTransformer({name!r})."
            )
    check_complete(weights, name)
    settings = read_json(root / "config_sentence_transformers.json", default={})
    limits = read_json(weights / "sentence_bert_config.json", default={})
    prompts = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name"), "")
    return ModelFiles(
        folder=str(weights),
        pooling=pooling,
        normalize=normalize,
        query_prompt=prompts.get("query") or default,
        document_prompt=prompts.get("document") or prompts.get("passage") or default,
        max_length=int(limits.get("max_seq_length") or longest_input(weights)),
        lower_case=bool(limits.get("do_lower_case")),
    )


def model_folder(name: str, *, otherwise: str) -> Path:
    """The local folder of a path or Hub id, fetched if need be.

    Args:
        name (`str`): path or Hub id.
        otherwise (`str`): what else may be given, for the message.

    Raises:
        ModelError: there is no such model.
    """
    if Path(name).is_dir():
        return Path(name).resolve()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS)))
    except Exception as error:
        raise ModelError(
            f"There is no model {name!r}: it is neither a local folder nor a Hub id that can be fetched "
            f"({type(error).__name__}: {error}). Give a local folder, a Hub id, {otherwise}."
        ) from error


def read_json(path: Path, default: Any = None) -> Any:
    """The content of a JSON file; `default`, unless it is None, where there is no such file.

    Raises:
        ModelError: the file cannot be read.
    """
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. The model folder is incomplete; fetch it again.") from error


def _pooling(config: dict[str, Any], name: str) -> str:
    flags = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "weightedmean_tokens": "weightedmean"}
    chosen = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    modes = config.get("pooling_mode", [flags.get(mode, mode) for mode in chosen])
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS or config.get("include_prompt", True) is False:
        raise ModelError(
            f"The pooling of {name!r} is not supported: {config}. One of {', '.join(POOLINGS)} over the whole text is. "
            "Run `pip install 'hf-hardneg[sentence-transformers]'` and pass a SentenceTransformer."
        )
    return str(modes[0])


def check_complete(folder: Path, name: str) -> None:
    """Raise if a model folder has no configuration or no weights.

    Raises:
        ModelError: naming what is missing.
    """
    for needed, patterns in (("config.json", ["config.json"]), ("weights", ["*.safetensors", "*.bin"])):
        if not any(path for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(f"The model {name!r} has no {needed} in {folder}. Give a complete model folder.")


def longest_input(folder: Path) -> int:
    """How many tokens a model of that folder can take."""
    config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json", default={})
    limits = [config.get("max_position_embeddings"), tokenizer.get("model_max_length")]
    return int(min((limit for limit in limits if limit), default=512))
