"""`Recipe`: how a mined dataset was made, as plain values that travel with it and can be written on a card.

A recipe is JSON: names of known classes with their arguments, digests, versions. Nothing of it is ever evaluated. It
lies as one line in the `description` of the dataset's `DatasetInfo`, which `datasets` hands on through maps, views,
`save_to_disk` and `concatenate_datasets`; it is lost in `to_iterable_dataset` and in files of other formats, where
`Recipe.from_json` and cards keep it.
"""

from __future__ import annotations

import functools
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hf_hardneg
from hf_hardneg.corpus import dataset_digest
from hf_hardneg.errors import DataError
from hf_hardneg.index import store
from hf_hardneg.masking import scrubbed
from hf_hardneg.negatives import HardNegatives
from hf_hardneg.queries import Columns
from hf_hardneg.serialization import CUSTOM, expression, names, plain, rebuilt
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FORMAT = 1
PACKAGES = ("datasets", "numpy", "torch", "transformers", "bm25s", "faiss-cpu", "faiss-gpu", "sentence-transformers")
NOT_OPTIONS = ("strategy", "safeguards", "cache_dir")
"""Arguments of `HardNegatives` that the resolved strategy holds, or that decide no row."""
MODELS = ("encoder", "cross_encoder")
ADOPTED = "faiss-"
"""How the identity of a user's own index begins."""
MOST_FILES = 8
SECTION = ("<!-- hf_hardneg:start -->", "<!-- hf_hardneg:end -->")
"""What stands around our section of a card, on lines of their own."""
RECIPE = "<!-- hf_hardneg:recipe -->"
_BLOCK = re.compile(rf"^{SECTION[0]}$.*?^{RECIPE}$\s*^```json$\n(.*?)\n^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"\n*^hf_hardneg recipe: (\{.*\})$", re.MULTILINE)
_HUB_FILE = re.compile(r"^hf://datasets/([^@]+?)@([0-9a-f]{40})/")
_PREPARED = re.compile(r"/([^/]+)/([^/]+)/[\d.]+/([0-9a-f]{40})(?:\.incomplete)?/[^/]+$")
_SNAPSHOT = re.compile(r"(models|datasets)--([^/]+)/snapshots/([0-9a-f]{40})")
_MODULE, _SAVED = re.compile(r"^\d+_\w+$"), re.compile(r"(?:cross)?encoder-[0-9a-f]{32}")


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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a mined dataset was made. `mine()` attaches one to what it returns; `recipe_of` reads it.

    Tokens and absolute paths are taken out of every text in it.

    Args:
        versions (`dict[str, str]`): of this library, Python, and the packages that decide rows.
        strategy (`dict`): the resolved strategy: `class`, and its arguments by name; see `serialization.CLASSES`.
        options (`dict`): the arguments of `HardNegatives` that decide rows.
        corpus (`Source`): the documents.
        pairs (`dict[str, Source]`): by split, `""` where there are none; empty where not known.
        known (`tuple[str, ...]`): digests of the datasets whose positives were excluded beyond each row's own.
        encoder, cross_encoder (`Model`, *optional*): the models.
        indexes (`tuple[dict, ...]`): kind, identity, and the measured recall where search is approximate.

    Example:
        >>> recipe = recipe_of(mined)
        >>> recipe.options["num_negatives"]
        2
    """

    versions: dict[str, str]
    strategy: dict[str, Any]
    options: dict[str, Any]
    corpus: Source
    pairs: dict[str, Source] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    encoder: Model | None = None
    cross_encoder: Model | None = None
    indexes: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(
        cls, miner: HardNegatives, *, pairs: Dataset | DatasetDict | None = None, corpus: Dataset | None = None
    ) -> Recipe:
        """The recipe of what a miner makes; `mine()` attaches it, for `pairs.map(miner, batched=True)` pass it on.

        Args:
            miner (`HardNegatives`): as it was mapped.
            pairs (`Dataset` or `DatasetDict`, *optional*): what it was mapped over.
            corpus (`Dataset`, *optional*): as the miner got it, for where it came from.
        """
        reader, searchers = miner.retrieval.reader, _searchers(miner)
        documents, scorers = reader.corpus, list(miner.rescoring.scorers.values())
        ids = (documents.id_column,) if documents.id_column else ()
        splits = pairs if isinstance(pairs, Mapping) else {} if pairs is None else {"": pairs}
        known = () if reader.known is None else store.read_manifest(reader.known.directory)["parameters"]["pairs"]
        made = cls(
            versions=installed(),
            strategy=plain(miner.strategy),
            options={name: plain(getattr(miner, name)) for name in _option_names()},
            corpus=Source(
                rows=len(documents),
                digest=documents.digest,
                columns=(*ids, *documents.text_columns),
                **_origin(corpus),
            ),
            pairs={name: _source(split, reader.columns) for name, split in splits.items()},
            known=tuple(known),
            encoder=next((_model(one.encoder) for one in searchers if getattr(one, "encoder", None)), None),
            cross_encoder=_model(scorers[0]) if scorers else None,
            indexes=tuple(map(_index, searchers)),
        )
        return made.scrubbed()

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe in what `to_json` wrote.

        Raises:
            DataError: it is none, or one of a later version of this library.
        """
        try:
            return _read(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                f"This is no recipe that can be read ({type(error).__name__}: {error}): {text[:80]!r}. Give what "
                f"Recipe.to_json() wrote, in format {FORMAT}; a later format needs a later hf_hardneg."
            ) from error

    @classmethod
    def from_card(cls, text: str) -> Recipe:
        """The recipe in the text of a rendered card.

        Raises:
            DataError: the card holds none, or one that cannot be read.
        """
        found = _BLOCK.search(text.replace("\r\n", "\n"))
        if not found:
            raise DataError(
                f"The card holds no recipe: no JSON block follows the line `{RECIPE}`. Give the text of a card that "
                "hf_hardneg rendered."
            )
        return cls.from_json(found.group(1))

    def to_json(self, *, indent: int | None = None) -> str:
        """Canonical JSON: equal recipes are equal text, of ASCII, without back ticks, `<`, `>` and `&`."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, allow_nan=False, indent=indent)
        return re.sub("[<>&`\x7f]", lambda one: f"\\u{ord(one.group()):04x}", text)

    def scrubbed(self) -> Recipe:
        """The same without tokens and absolute paths; `of` returns it so."""
        return _read(_scrubbed(asdict(self)))

    def rebuilt(self) -> Strategy:
        """The strategy, made of the classes in `serialization.CLASSES`.

        Raises:
            ConfigError: it holds a class of the user's own, or arguments that this version does not know.
        """
        return rebuilt(self.strategy)

    @property
    def uses_mine(self) -> bool:
        """Whether the positives of exactly these pairs were excluded across rows, as `mine()` does."""
        return bool(self.known) and sorted(self.known) == sorted(one.digest for one in self.pairs.values() if one.rows)

    @property
    def uses_own_index(self) -> bool:
        """Whether documents were searched in an index that the user brought."""
        return any(str(one.get("identity", "")).startswith(ADOPTED) for one in self.indexes)

    def code(self) -> str:
        """How it was made, as Python: runs as it is where everything is on the Hub, and else says what to put in."""
        return _code(self)


def recipe_of(dataset: Dataset | DatasetDict) -> Recipe | None:
    """The recipe that a mined dataset carries; `None` where it carries none.

    Raises:
        DataError: it was put together from several, or what it carries cannot be read.
    """
    splits = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    found = {line for split in splits for line in _LINE.findall(split.info.description or "")}
    if len(found) > 1:
        raise DataError(
            f"The dataset carries {len(found)} recipes, of parts that were mined differently; one is needed. Push the "
            "parts as configs of their own, or pass the one that counts as recipe=."
        )
    return Recipe.from_json(found.pop()) if found else None


def attach(dataset: Dataset, recipe: Recipe) -> None:
    """Puts a recipe into the description of a dataset, in place of one that is there; rows and fingerprint stay."""
    kept = _LINE.sub("", dataset.info.description or "")
    dataset.info.description = f"{kept}\n\nhf_hardneg recipe: {recipe.to_json()}".strip()


def _read(values: dict[str, Any]) -> Recipe:
    """A recipe of plain values.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are those of no recipe.
    """
    if values.get("format", FORMAT) != FORMAT:
        raise ValueError(f"format {values['format']!r}")
    unknown = values["options"].keys() - set(_option_names())
    if unknown or values["strategy"].get("class") != Strategy.__name__:
        raise ValueError(f"options {sorted(unknown)}, strategy {values['strategy'].get('class')!r}")
    models = {name: _checked(Model(**values[name])) for name in MODELS if values[name]}
    recipe = Recipe(
        versions=dict(values["versions"]),
        strategy=values["strategy"],
        options=values["options"],
        corpus=_read_source(values["corpus"]),
        pairs={name: _read_source(one) for name, one in values["pairs"].items()},
        known=tuple(values["known"]),
        indexes=tuple(dict(one) for one in values["indexes"]),
        **models,
    )
    if not all(isinstance(one, str) for one in (*recipe.versions.values(), *recipe.known)):
        raise TypeError("versions and digests are strings")
    return recipe


def _read_source(values: dict[str, Any]) -> Source:
    return _checked(Source(**{**values, "columns": tuple(values["columns"]), "files": tuple(values["files"])}))


def _checked(made: Any) -> Any:
    """A `Source` or `Model` whose fields have the types that they declare."""
    for one in fields(made):
        kinds = {"int": int, "dict": dict, "tupl": tuple}.get(str(one.type)[:4].rstrip("["), str)
        value = getattr(made, one.name)
        if not (isinstance(value, kinds) or (value is None and "None" in str(one.type))):
            raise TypeError(f"{one.name} is {value!r}")
    return made


def _scrubbed(value: Any) -> Any:
    """The same with every string scrubbed."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, Mapping):
        return {scrubbed(key): _scrubbed(one) for key, one in value.items()}
    return [_scrubbed(one) for one in value] if isinstance(value, list | tuple) else value


@functools.cache
def installed() -> dict[str, str]:
    """Versions of this library, Python, and those of `PACKAGES` that are here."""
    found = {"hf_hardneg": hf_hardneg.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _option_names() -> list[str]:
    return [one.name for one in fields(HardNegatives) if one.init and one.name not in NOT_OPTIONS]


def _searchers(miner: HardNegatives) -> list[Any]:
    """What searches or scores for a miner: its retrievers, and the second view of a filter that has one."""
    first = miner.retrieval.searcher
    signals = (getattr(one, "signal", one) for one in miner.rescoring.signals.values())
    views = (one.searcher for one in signals if hasattr(one, "searcher"))
    found = {one.identity: one for one in (*getattr(first, "members", (first,)), *views) if not hasattr(one, "members")}
    return list(found.values())


def _source(split: Dataset, columns: Columns) -> Source:
    digested = columns.digested(split.column_names)
    digest = dataset_digest(split, digested)
    return Source(rows=len(split), digest=digest, columns=tuple(digested), **_origin(split))


def _origin(dataset: Dataset | None) -> dict[str, Any]:
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
            return {"hub_id": hub_id, "revision": revision, "config": config, "split": split}
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


def _model(model: Any) -> Model | None:
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


def _index(searcher: Any) -> dict[str, Any]:
    """What was searched: its kind and identity, and how an approximate search measured itself."""
    found = {"kind": searcher.sources[0], "identity": searcher.identity, "scores": searcher.score_kind}
    if searcher.recall is None:
        return found
    measured = searcher.index.measured
    asked = {name: getattr(measured, name) for name in ("recall", "target", "depth", "queries", "sample")}
    return {**found, **asked, "factory": store.read_manifest(searcher.index.proposer)["parameters"]["factory"]}


def _code(recipe: Recipe) -> str:
    parts = [f"{name}={expression(recipe.strategy[name])}," for name in ("retrievers", "filters", "sampler")]
    own = "  # put classes of your own where dots are" if CUSTOM in names(recipe.strategy) else ""
    made = [f"strategy = Strategy({own}", *(f"    {part}" for part in parts), ")"]
    arguments = [f"    {one}" for one in _arguments(recipe)]
    if recipe.uses_mine:
        last = ["mined = mine(", "    pairs,", "    corpus,", "    strategy,", *arguments, ")"]
    else:
        last = ["miner = HardNegatives(", "    corpus,", "    strategy,", *arguments, ")"]
        last.append("mined = pairs.map(miner, batched=True)")
    code = "\n".join([f"corpus = {_loading('corpus', recipe.corpus)}", *_pairs(recipe.pairs), *made, *last])
    return f"{_imports(recipe, code)}\n\n{code}\n"


def _imports(recipe: Recipe, code: str) -> str:
    entry = "mine" if recipe.uses_mine else "HardNegatives"
    ours = sorted({one for one in names(recipe.strategy) if re.search(rf"\b{one}\(", code)} - {"float"} | {entry})
    theirs = [name for name in ("DatasetDict", "load_dataset", "load_from_disk") if f"{name}(" in code]
    lines = [f"from datasets import {', '.join(theirs)}", f"from hf_hardneg import {', '.join(ours)}"]
    if "snapshot_download(" in code:
        lines.append("from huggingface_hub import snapshot_download")
    return "\n".join(lines)


def _loading(name: str, source: Source | None) -> str:
    if source is None:
        return f'load_from_disk("{name}")  # yours'
    if source.hub_id is None:
        return f'load_from_disk("{name}")  # yours: {source.rows:,} rows, digest {source.digest!r}'
    config = [repr(source.config)] if source.config not in (None, "default") else []
    options = [f"{key}={getattr(source, key)!r}" for key in ("split", "revision") if getattr(source, key)]
    given = ", ".join([repr(source.hub_id), *config, *options])
    return f"load_dataset({given})  # {source.rows:,} rows, digest {source.digest!r}"


def _pairs(pairs: Mapping[str, Source]) -> list[str]:
    if list(pairs) in ([], [""]):
        return [f"pairs = {_loading('pairs', pairs.get(''))}"]
    lines = ["pairs = DatasetDict()"]
    return lines + [
        f"pairs[{name!r}] = {_loading(f'pairs-{place}', one)}" for place, (name, one) in enumerate(pairs.items())
    ]


def _arguments(recipe: Recipe) -> list[str]:
    defaults = {one.name: plain(one.default) for one in fields(HardNegatives)}
    shown = {name: value for name, value in recipe.options.items() if value != defaults.get(name)}
    shown |= {name: recipe.options[name] for name in ("num_negatives", "seed") if name in recipe.options}
    lines = [f"{name}={expression(value)}," for name, value in sorted(shown.items())]
    lines += [_model_argument(name, getattr(recipe, name)) for name in MODELS if getattr(recipe, name)]
    if recipe.uses_own_index:
        lines.append("index_name=...,  # your own index")
    return lines


def _model_argument(name: str, model: Model) -> str:
    if model.kind == "hub" and model.revision:
        return f"{name}=snapshot_download({model.name!r}, revision={model.revision!r}),  # digest {model.digest!r}"
    given = "..." if model.kind == "live" else repr(model.name)
    return f"{name}={given},  # your copy of {model.name!r}, digest {model.digest!r}"
