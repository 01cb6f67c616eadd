"""Read whatever a user has as `Tables`: a value of Python, a file, a folder, a glob, a database, a repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hf_hardneg.corpus.loaded_from import remember
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.formats.compressed import COMPRESSED, suffix_of, words_of
from hf_hardneg.formats.databases import is_database, is_lance, load_database, load_lance
from hf_hardneg.formats.delimited import Kind
from hf_hardneg.formats.files import read_format
from hf_hardneg.formats.importing import from_format
from hf_hardneg.formats.inputs import WILD, check_hub, is_saved, load_splits, loader_of
from hf_hardneg.formats.pair_layouts import MINED
from hf_hardneg.formats.python_values import (
    is_frame,
    of_frame,
    of_judgements,
    of_list,
    of_mapping,
    value_in_json,
)
from hf_hardneg.formats.streams import stored_stream
from hf_hardneg.formats.table_sets import (
    Tables,
    is_set,
    judgements_of,
    kind_of,
    read_judgements,
    set_in_folder,
    set_of_mapping,
)
from hf_hardneg.retrievers.stores.addresses import scheme_of
from hf_hardneg.retrievers.stores.drivers import document_store
from hf_hardneg.runtime.arguments import shown
from hf_hardneg.store.disk import writing

TEXTS = (".txt", ".md")
WHAT_IS_READ = (
    "a Dataset, DatasetDict or stream, a list, a mapping, a frame, an Arrow table, a path, a glob, the URL of a "
    "database or a Hub id"
)


def read(source: Any, kind: Kind, what: str, *, told: Collection[str] = (), cache_dir: Any = None) -> Tables:
    """Read what a user gave, before any column is looked at.

    Args:
        source (`Any`): see `WHAT_IS_READ`.
        kind (`str`): what it is to be, `"pairs"` or `"documents"`, where it says nothing itself.
        what (`str`): what to call it in errors, such as `"mine(corpus=)"`.
        told (`Collection[str]`, *optional*): names of columns that the user said.
        cache_dir (`str`, *optional*): where streams are written.

    Raises:
        ConfigError: it is something else.
        DataError: nothing has that name, or it cannot be read.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(source, str | os.PathLike):
        tables = _of_place(os.fspath(source), kind, told, cache_dir)
        for table in (*tables.rows.values(), tables.documents):
            if table is not None:
                remember(table, tables.name)
        return tables
    if isinstance(source, Dataset):
        return Tables(name="", rows={"": source})
    if isinstance(source, IterableDataset):
        return Tables(name="a stream", rows={"": stored_stream(source, cache_dir)})
    if is_frame(source):
        return Tables(name="a frame", rows={"": of_frame(source)}, has_cells=True)
    if isinstance(source, Mapping):
        return _of_mapping(source, kind, what, cache_dir)
    if _is_listing(source):
        return Tables(name="a list", rows={"": of_list(list(source), kind, what)})
    said = f"{what[:-1]}{shown(source)})" if what.endswith("=)") else f"{what} {shown(source)}"
    raise ConfigError(
        f"{said} of type {type(source).__name__}: allowed is {WHAT_IS_READ}. Give one, such as Dataset.from_list(rows)."
    )


def read_rows(source: Any, layout: str | None, what: str) -> Any:
    """Read rows in a trainer's layout, with the tables beside them; data sets, streams and mappings are left alone.

    Args:
        source (`Any`): a path, a Hub id, a list, a frame, or what is left alone.
        layout (`str`, *optional*): of the files in a folder.
        what (`str`): what to call it in errors.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.exists() and not is_saved(path):
            return read_format(path, layout)
        return load_splits(os.fspath(source))
    if is_frame(source):
        return of_frame(source)
    return of_list(source, "pairs", what) if isinstance(source, list | tuple) else source


def _is_listing(source: Any) -> bool:
    """Tell whether a value is a list, a tuple, a column of a data set, a series, or an array of one dimension."""
    if isinstance(source, str | bytes):
        return False
    return isinstance(source, Sequence) or (
        hasattr(source, "__len__") and hasattr(source, "__iter__") and getattr(source, "ndim", 0) == 1
    )


def _of_mapping(source: Mapping[Any, Any], kind: Kind, what: str, cache_dir: Any) -> Tables:
    """Read splits, a set of tables, or a mapping of values."""
    from datasets import Dataset, IterableDataset

    names = [words_of(Path(name)) for name in source if isinstance(name, str)]
    splits = [isinstance(table, Dataset | IterableDataset) for table in source.values()]
    if source and len(names) == len(source) and is_set(names) and not any(map(_is_row_value, source.values())):
        read_tables = {
            str(name): _table(table, kind_of(words_of(Path(name)), in_set=True), f"{what}[{name!r}]", cache_dir)
            for name, table in source.items()
        }
        return set_of_mapping(read_tables, "", "documents, queries and judgements")
    if source and all(splits):
        stored = {
            str(name): split if isinstance(split, Dataset) else stored_stream(split, cache_dir)
            for name, split in source.items()
        }
        return Tables(name="", rows=stored)
    return Tables(name="a mapping", rows={"": of_mapping(source, kind, what)})


def _is_row_value(value: Any) -> bool:
    """Tell whether a value under a name can only be that of a row, as a number is."""
    return value is None or isinstance(value, int | float | bool)


def _table(source: Any, kind: str, what: str, cache_dir: Any) -> Any:
    """Read one table of a set, or its splits."""
    if kind == "judged":
        if isinstance(source, str | os.PathLike) and loader_of(Path(source)) in (None, "csv"):
            return read_judgements(Path(source))
        if type(source) is dict and not any(hasattr(table, "column_names") for table in source.values()):
            return of_judgements(source, what)
    tables = read(source, "pairs" if kind == "rows" else "documents", what, cache_dir=cache_dir)
    splits = {"": tables.documents} if tables.documents is not None else tables.rows
    if kind == "judged":
        splits = {name: judgements_of(table, what) for name, table in splits.items()}
    return splits[""] if list(splits) == [""] else splits


def _of_place(source: str, kind: Kind, told: Collection[str], cache_dir: Any) -> Tables:
    if is_database(source):
        return Tables(name=source.partition("?")[0].rpartition("/")[2], rows={"": load_database(source, cache_dir)})
    path = Path(source).expanduser()
    if scheme_of(source) is not None and not path.exists():
        document_store(source)  # raises: the schemes that are known were read before
    if is_lance(path):
        return Tables(name=path.name, rows={"": load_lance(path, cache_dir)})
    if path.is_dir() and not is_saved(path):
        return _of_folder(path, kind, told)
    if path.is_file():
        return _of_file(path, kind, told)
    if not _is_path(source):
        return _of_hub(source)
    return Tables(name=source, rows=_splits(load_splits(str(path), kind=kind, told=told)), has_cells=True)


def _is_path(source: str) -> bool:
    """Tell whether a text is a path or a glob, there or not, and no Hub id."""
    name = source.partition(":")[0]
    return bool(
        Path(source).exists() or WILD.search(source) or loader_of(Path(source)) or name.count("/") > 1
    ) or source.startswith(("/", ".", "~"))


def is_place(source: str) -> bool:
    """Tell whether a text can only be the name of a place: a path, a glob, the URL of a database, a Hub id."""
    return _is_path(source) or is_database(source) or any(sign in unquote(source) for sign in "/:@")


def _splits(loaded: Any) -> dict[str, Any]:
    """Return splits by name; a single one has none."""
    if isinstance(loaded, Mapping):
        return dict(loaded) if len(loaded) > 1 else {"": next(iter(loaded.values()))}
    return {"": loaded}


def _of_folder(folder: Path, kind: Kind, told: Collection[str]) -> Tables:
    from datasets import config

    with writing(config.HF_DATASETS_CACHE, other="the variable HF_DATASETS_CACHE"):
        tables = _of_trainer(folder) or set_in_folder(folder)
    if tables is not None:
        return tables
    texts = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in TEXTS and path.is_file()]
    data = [path for path in folder.rglob("*") if loader_of(path)]
    if texts and not data:
        return _of_texts(texts, folder)
    loaded = load_splits(str(folder), kind=kind, told=told)
    return Tables(name=folder.name or str(folder), rows=_splits(loaded), has_cells=True)


def _of_trainer(folder: Path) -> Tables | None:
    """Read a folder of ColBERT or NeMo, whose files `from_format` knows; `None` where it is none of those."""
    if not ((folder / "triples.jsonl").exists() or (folder / "corpus" / "merlin_metadata.json").exists()):
        return None
    tables_by_name = read_format(folder, None)
    rows = from_format(tables_by_name)
    rows = rows.select_columns([name for name in MINED if name in rows.column_names])
    documents = tables_by_name.get("collection", tables_by_name.get("corpus"))
    return Tables(name=folder.name, form="the folder of a trainer", rows={"": rows}, documents=documents)


def _of_texts(files: Sequence[Path], folder: Path) -> Tables:
    """Read a folder of texts: each file is a document, called by its path in the folder."""
    from datasets import Dataset

    columns: dict[str, list[str]] = {"_id": [], "text": []}
    for path in files:
        try:
            columns["text"].append(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text in UTF-8 ({error}). Convert the file, or take it away.") from error
        columns["_id"].append(path.relative_to(folder).as_posix())
    return Tables(name=folder.name, form="a folder of texts", documents=Dataset.from_dict(columns))


def _of_file(path: Path, kind: Kind, told: Collection[str]) -> Tables:
    """Read a file: a table, a value in JSON, judgements beside their queries, or a text in each line."""
    from datasets import Dataset

    suffix, name = suffix_of(path), path.name
    if kind == "pairs" and (kind_of(words_of(path)) == "judged" or path.parent.name == "qrels"):
        return _of_judgements(path)
    if suffix in TEXTS and kind == "documents" and path.suffix not in COMPRESSED:
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        if not lines:
            raise DataError(f"{path} is empty; a text has one line at least, each a document. Give another.")
        return Tables(name=name, form="a document in each line", rows={"": Dataset.from_dict({"text": lines})})
    if suffix in (".json", ".jsonl", ".ndjson"):
        with contextlib.suppress(UnicodeDecodeError, OSError):
            value = value_in_json(path)
            if isinstance(value, Mapping):
                return replace(_of_mapping(value, kind, str(path), None), name=name)
            if value is not None:
                return Tables(name=name, rows={"": of_list(value, kind, str(path))})
    rows = _splits(load_splits(str(path), kind=kind, told=told))
    return Tables(name=name, rows=rows, has_cells=loader_of(path) == "csv")


def _of_judgements(path: Path) -> Tables:
    """Read a file of judgements, and the queries and documents in its folder or in the one above."""
    judged = {"": read_judgements(path)}
    for folder in (path.parent, path.parent.parent):
        tables = set_in_folder(folder)
        if tables is not None and tables.queries is not None:
            return replace(tables, name=path.name, form=f"judgements of {folder.name}", rows={}, judged=judged)
    raise DataError(
        f"{path} holds judgements by ids, and neither its folder nor the one above has a table of queries. Put "
        "queries.tsv or queries.jsonl beside it, or give a mapping of corpus, queries and qrels."
    )


def _of_hub(source: str) -> Tables:
    """Read a data set of the Hub; where its configs are documents, queries and judgements, all three."""
    check_hub(source)
    name, config, split = (*source.split(":", 2), "", "")[:3]
    configs = _set_on_hub(name, config)
    if configs is None:
        loaded = load_splits(source)
        return Tables(name=source, rows=_splits(loaded))
    tables = {kind: load_splits(place) for kind, place in configs.items()}
    tables_by_name = set_of_mapping(
        {**tables, "qrels": {part: judgements_of(table, configs["qrels"]) for part, table in tables["qrels"].items()}},
        source,
        "a repository of documents, queries and judgements",
    )
    if not split:
        return tables_by_name
    if split not in tables_by_name.judged:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(tables_by_name.judged)}. Name one of those.")
    return replace(tables_by_name, judged={split: tables_by_name.judged[split]})


def _set_on_hub(name: str, config: str) -> dict[str, str] | None:
    """Name the places of documents, queries and judgements of a repository; `None` where it is no such set."""
    from datasets import get_dataset_config_names

    try:
        configs = get_dataset_config_names(name)
    except Exception:  # what is wrong is said by loading it
        return None
    for pattern in ["{}-{}", "{}_{}"] if config and config not in configs else ["{1}"]:
        chosen = {kind: pattern.format(config, kind) for kind in ("corpus", "queries")}
        if set(chosen.values()) <= set(configs):
            judged = next((each for each in (pattern.format(config, "qrels"), "default") if each in configs), None)
            place = f"{name}:{judged}" if judged else f"{name}-qrels"
            return {**{kind: f"{name}:{each}" for kind, each in chosen.items()}, "qrels": place}
    return None
