"""Where mining took things from: rows by their digest and Hub commit, models by their weights, indexes by identity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.documents import dataset_digest
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.recipes.serialization import plain
from hf_hardneg.runtime.arguments import check_fields
from hf_hardneg.store.kinds import CROSS_ENCODER, ENCODER

if TYPE_CHECKING:
    from datasets import Dataset

MOST_FILES = 8
_HUB_FILE = re.compile(r"^hf://datasets/([^@]+?)@([0-9a-f]{40})/")
_PREPARED = re.compile(r"/([^/]+)/([^/]+)/[\d.]+/([0-9a-f]{40})(?:\.incomplete)?/[^/]+$")
_SNAPSHOT = re.compile(r"(models|datasets)--([^/]+)/snapshots/([0-9a-f]{40})")
_MODULE, _SAVED = re.compile(r"^\d+_\w+$"), re.compile(rf"({ENCODER}|{CROSS_ENCODER})-[0-9a-f]{{32}}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows that went into mining.

    Args:
        rows (`int`): how many.
        digest (`str`): of the texts and ids that mining reads; equal content has an equal digest.
        columns (`tuple[str, ...]`): what the digest covers.
        hub_id, revision, config, split (`str`, *optional*): where the rows come from, if from the Hub. What was done to
            them since is only in the digest.
        files (`tuple[str, ...]`): else names of the files that hold them, without folders.
    """

    rows: int
    digest: str
    columns: tuple[str, ...]
    hub_id: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Model:
    """An encoder or a cross-encoder.

    Args:
        name (`str`): its Hub id, else the last part of its path, or of a live object its class or name.
        digest (`str`): of its weights and of all settings that change what it returns.
        kind (`str`): `"hub"`, `"folder"`, or `"live"` for what only a running process holds.
        revision (`str`, *optional*): the commit, of one from the Hub.
        settings (`dict`): such as prompts, pooling, and where texts are cut.
    """

    name: str
    digest: str
    kind: str
    revision: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


def read_source(values: dict[str, Any]) -> Source:
    """A source of plain values."""
    return Source(**{**values, "columns": tuple(values["columns"]), "files": tuple(values["files"])})


def searchers_of(miner: HardNegatives) -> list[Any]:
    """What searches or scores for a miner: its retrievers, and the second view of a filter that has one."""
    first = miner.retrieval.searcher
    signals = (getattr(one, "signal", one) for one in miner.rescoring.signals.values())
    views = (one.searcher for one in signals if hasattr(one, "searcher"))
    found = {one.identity: one for one in (*getattr(first, "members", (first,)), *views) if not hasattr(one, "members")}
    return list(found.values())


def source_of(split: Dataset, columns: PairColumns) -> Source:
    """The pairs of one split, digested in the columns that mining reads."""
    digested = columns.digested(split)
    digest = dataset_digest(split, digested)
    return Source(rows=len(split), digest=digest, columns=tuple(digested), **origin_of(split))


def origin_of(dataset: Dataset | None) -> dict[str, Any]:
    """Where a dataset was loaded from, as far as its files tell: a Hub id with its commit, else names of files."""
    if dataset is None:
        return {}
    paths = [Path(one["filename"]).as_posix() for one in dataset.cache_files]
    split = None if dataset.split is None else str(dataset.split)
    for url in dataset.info.download_checksums or ():
        if found := _HUB_FILE.match(url):
            hub_id, revision = found.groups()
            return {"hub_id": hub_id, "revision": revision, "config": dataset.info.config_name, "split": split}
    for path in paths:
        if found := _PREPARED.search(path):
            prepared, config, revision = found.groups()
            hub_id = _downloaded(revision) or prepared.replace("___", "/")
            return {
                "hub_id": hub_id,
                "revision": revision,
                "config": dataset.info.config_name or config,
                "split": split,
            }
    return {"files": tuple(dict.fromkeys(Path(path).name for path in paths))[:MOST_FILES]}


def _downloaded(revision: str) -> str | None:
    """The Hub id of a commit that was downloaded; folders of prepared datasets spell it in lower case."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in Path(HF_HUB_CACHE).glob(f"datasets--*/snapshots/{revision}"):
        return _hub_id(str(folder))[0]
    return None


def _hub_id(folder: str) -> tuple[str | None, str | None]:
    """The Hub id and the commit of a downloaded snapshot, from its folder."""
    found = _SNAPSHOT.search(Path(folder).as_posix())
    return (found.group(2).replace("--", "/"), found.group(3)) if found else (None, None)


def model_of(model: Any) -> Model | None:
    """The model behind an encoder or a scorer; stored and cross-fitted ones are opened up."""
    if model is None:
        return None
    digest = model.digest
    model = getattr(model, "scorer", model)
    model = getattr(model, "scorers", (model,))[0]
    settings = {name: plain(one) for name, one in getattr(model, "settings", {}).items()}
    folder, function = settings.pop("folder", None), settings.pop("function", None)
    folder = folder or settings.pop("model", None) or ""
    hub_id, revision = _hub_id(folder)
    if hub_id:
        return Model(name=hub_id, digest=digest, kind="hub", revision=revision, settings=settings)
    path = Path(folder)
    if path.is_absolute() and not _SAVED.search(folder):
        parts = [part for part in path.parts if not _MODULE.match(part) and not part.startswith("fold-")]
        return Model(name=parts[-1], digest=digest, kind="folder", settings=settings)
    name = function or (type(model).__name__ if path.is_absolute() else folder)
    return Model(name=name or type(model).__name__, digest=digest, kind="live", settings=settings)


def index_of(searcher: Any) -> dict[str, Any]:
    """What was searched: its kind and identity, its recall where that is below 1, and how it was measured, if told."""
    found = {"kind": searcher.sources[0], "identity": searcher.identity, "scores": searcher.score_kind}
    if searcher.recall is None:
        return found
    return {**found, "recall": searcher.recall, **getattr(searcher, "measurement", {})}
