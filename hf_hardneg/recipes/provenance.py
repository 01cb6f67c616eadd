"""Say what went into mining: rows by digest and Hub commit, models by their weights, indexes by identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.documents import dataset_digest
from hf_hardneg.corpus.loaded_from import origin_of
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.filters import Disagreement
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.models.model_names import model_name, unwrapped
from hf_hardneg.recipes.serialization import plain
from hf_hardneg.retrievers.base import Retriever
from hf_hardneg.runtime.arguments import Checked
from hf_hardneg.strategies import resolve

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Source(Checked):
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


@dataclass(frozen=True, kw_only=True)
class Model(Checked):
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


def read_source(values: dict[str, Any]) -> Source:
    """Read a source from plain values."""
    return Source(**{**values, "columns": tuple(values["columns"]), "files": tuple(values["files"])})


def searchers_of(miner: HardNegatives) -> list[Any]:
    """List what searches or scores for a miner, each once: its retrievers, and the second view of a filter with one."""
    signals = (getattr(signal, "signal", signal) for signal in miner.rescoring.signals.values())
    views = (signal.searcher for signal in signals if hasattr(signal, "searcher"))
    parts = [part for searcher in (miner.retrieval.searcher, *views) for part in searcher.parts]
    return list({part.identity: part for part in parts}.values())


def models_of_parts(miner: HardNegatives) -> dict[int, dict[str, Any]]:
    """Describe the encoders that parts of a strategy name, by the `id` of the part; nothing where one `encoder=` would
    serve the same strategy without those names."""
    strategy, signals = resolve(miner.strategy or ""), miner.rescoring.signals
    parts = [*_bound(strategy.retriever, miner.retrieval.searcher)]
    for stage in strategy.filters:
        if isinstance(stage, Disagreement) and stage.view is not None:
            signal: Any = signals[stage.signals[0].name]
            parts += _bound(stage.view, getattr(signal, "signal", signal).searcher)
    named = {id(part): model_of(searcher.encoder) for part, searcher in parts if names_encoder(searcher)}
    models = {part: asdict(model) for part, model in named.items() if model is not None}
    by_column = {"vector", "query_vector"} & set(miner.columns or ())
    alone = len({model["digest"] for model in models.values()}) == 1 and not strategy.uses_vectors and not by_column
    return {} if alone else models


def names_encoder(searcher: Any) -> bool:
    """Tell whether a searcher's encoder is one that its part names, rather than `encoder=`."""
    return not getattr(searcher, "by_column", True)


def _bound(retriever: Retriever, searcher: Any) -> Iterator[tuple[Retriever, Any]]:
    """Yield the parts of a retriever, each with what searches for it."""
    for part, bound in zip(retriever.parts, searcher.parts, strict=True):
        if part.parts == (part,):
            yield part, bound
        else:
            yield from _bound(part, bound)


def source_of(split: Dataset, columns: PairColumns) -> Source:
    """Digest the pairs of one split in the columns that mining reads."""
    digested = columns.digested(split)
    digest = dataset_digest(split, digested)
    return Source(rows=len(split), digest=digest, columns=tuple(digested), **origin_of(split))


def model_of(model: Any) -> Model | None:
    """Describe the model behind an encoder or a scorer; stored and cross-fitted ones are opened up."""
    if model is None:
        return None
    name, kind, revision = model_name(model)
    settings = {key: plain(value) for key, value in getattr(unwrapped(model), "settings", {}).items()}
    if not settings.pop("folder", None):
        settings.pop("model", None)
    settings.pop("function", None)
    return Model(name=name, digest=model.digest, kind=kind, revision=revision, settings=settings)


def index_of(searcher: Any) -> dict[str, Any]:
    """Describe an index: its kind and identity, its recall where that is below 1, and how it was measured, if told."""
    index = {"kind": searcher.sources[0], "identity": searcher.identity, "scores": searcher.score_kind}
    if searcher.recall is None:
        return index
    return {**index, "recall": searcher.recall, **searcher.measurement}
