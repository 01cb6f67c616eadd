"""Load pairs and corpora from whatever a user has, the same for Python and the command line.

A source is read as tables (`reading`), pairs are recognised by their columns (`pair_layouts`), documents by theirs, and
both are handed to mining as data sets with the roles of their columns. Data sets whose columns are called as mining
reads them pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.columns import Columns, in_order
from hf_hardneg.corpus.documents import id_column_of, image_columns, text_columns_of
from hf_hardneg.corpus.ids import is_text
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ColumnError, ConfigError, DataError, UnknownNameError, warn
from hf_hardneg.formats.beir import judged_pairs, with_queries
from hf_hardneg.formats.found_documents import documents_found
from hf_hardneg.formats.loaded import JobInputs, LoadedCorpus, LoadedPairs
from hf_hardneg.formats.matching import corpus_of_positives, with_ids
from hf_hardneg.formats.pair_columns import ROLES, ReadPairs
from hf_hardneg.formats.pair_layouts import read_pairs
from hf_hardneg.formats.reading import is_place, read
from hf_hardneg.formats.roles import PASSAGES, POSITIVE, is_query_id, is_usual_name
from hf_hardneg.formats.scanned import check_searchable, scanned, strategy_of_store
from hf_hardneg.formats.table_sets import Tables
from hf_hardneg.retrievers.stores.attached import share_clients
from hf_hardneg.retrievers.stores.document_store import FOUND, DocumentStore
from hf_hardneg.retrievers.stores.drivers import document_store_of
from hf_hardneg.runtime.arguments import fit
from hf_hardneg.strategies import Strategy, resolve

TEXT_NAMES = ("text", *PASSAGES, *(name for name in POSITIVE if name not in PASSAGES), "abstract", "description")
"""Names of columns that hold the texts of documents, the likeliest first."""
KNOWS_ITS_JOB = ("mine", "shards.mine", "hf-hardneg mine")
"""Functions that know every query of a job before any is searched."""
CORPUS_SPLITS = ("corpus", "train")


def load_pairs(
    source: Any, columns: Columns | None = None, *, what: str = "pairs", cache_dir: Any = None
) -> LoadedPairs:
    """Load pairs of whatever kind and layout; see `docs/data_layouts.md`.

    Args:
        source (`Any`): a data set, stream, list, mapping, frame, path, glob, URL of a database or Hub id.
        columns (`Columns`, *optional*): names of columns as the user said; they go before what is recognised.
        what (`str`, defaults to `"pairs"`): what to call the source in errors.
        cache_dir (`str`, *optional*): where streams are written.

    Raises:
        ConfigError, DataError, ColumnError: it cannot be read, or nothing tells which column is what.
    """
    from datasets import DatasetDict

    told = columns or Columns()
    tables = read(source, "pairs", what, told=_names(told), cache_dir=cache_dir)
    recognised = {name: read_pairs(rows, told) for name, rows in _pair_rows(tables, what).items()}
    chosen: list[dict[str, Any]] = [dict(each.columns) for each in recognised.values()]
    if any(each != chosen[0] for each in chosen):
        raise ColumnError(
            f"The splits {', '.join(recognised)} of {what} have other columns: {chosen[0]} and "
            f"{next(each for each in chosen if each != chosen[0])}. Give one split, or name the columns with columns=."
        )
    first = next(iter(recognised.values()))
    rows = {name: each.rows for name, each in recognised.items()}
    roles = cast("Columns", {**told, **chosen[0]})
    pairs = LoadedPairs(
        rows=rows[""] if list(rows) == [""] else DatasetDict(rows),
        columns=roles,
        documents=tables.documents,
        ids=first.ids,
        symmetric=first.symmetric,
    )
    if tables.has_cells:
        names = PairColumns.of(roles)
        pairs = pairs.mapped(lambda rows: _without_empty(rows, (names.query, names.positive, names.positive_ids), what))
    return replace(pairs, words=_pair_words(tables, recognised, pairs))


def _pair_words(tables: Tables, recognised: Mapping[str, ReadPairs], pairs: LoadedPairs) -> str:
    roles: Any = pairs.columns
    words = [each.words for each in recognised.values() if each.words][:1]
    words = words or [f"{role.replace('_', ' ')} {roles[role]!r}" for role in ROLES if role in roles]
    if not tables.name and not words:
        return ""
    sizes = ", ".join(
        f"{len(each.rows):,} of {name}" if name else f"{len(each.rows):,}" for name, each in recognised.items()
    )
    return ", ".join(filter(None, [f"{tables.name or 'pairs'}: {sizes} pairs", tables.form, *words]))


def _names(columns: Mapping[str, Any]) -> set[str]:
    """Return every name of a column in the roles that a user said."""
    return {name for value in columns.values() for name in ([value] if isinstance(value, str) else value)}


def _pair_rows(tables: Tables, what: str) -> dict[str, Any]:
    """Return the tables of pairs by split, of judgements or of rows, with the texts of queries named by ids.

    Raises:
        DataError: there are documents alone.
    """
    if tables.judged:
        if tables.queries is None:
            raise DataError(
                f"{what} {tables.name} has judgements and no queries, whose texts mining searches for. Put a table of "
                "queries beside them, such as queries.jsonl, or give a mapping of corpus, queries and qrels."
            )
        judged = {name: judged_pairs(tables.queries, qrels) for name, qrels in tables.judged.items()}
        return {"": next(iter(judged.values()))} if len(judged) == 1 else judged
    if not tables.rows:
        raise DataError(
            f"{what} {tables.name} holds documents, and neither judgements nor rows of queries with their positives. "
            "Give it as the corpus, or put pairs beside the documents."
        )
    return {name: _with_queries(rows, tables.queries) for name, rows in tables.rows.items()}


def _with_queries(rows: Any, queries: Any) -> Any:
    if queries is None or any(name.lower() in ("query", "question", "query_text") for name in rows.column_names):
        return rows
    key = next((name for name in rows.column_names if is_query_id(name)), None)
    return rows if key is None else with_queries(rows, key, queries)


def _without_empty(rows: Any, names: Sequence[str], what: str, kind: str = "row") -> Any:
    """Leave out rows that lack a value in one of some columns, as empty cells of a table do, with a warning."""
    present = [name for name in dict.fromkeys(names) if name in rows.column_names]
    mask = np.ones(len(rows), bool)
    for name in present:
        column = combined(rows.with_format("arrow", columns=[name])[:].column(name))
        mask &= column.is_valid().to_numpy(zero_copy_only=False)
    if mask.all():
        return rows
    missing = len(mask) - int(mask.sum())
    first = int(np.flatnonzero(~mask)[0])
    warn(
        f"{missing:,} of {len(mask):,} rows of {what} are left out, since {' or '.join(map(repr, present))} is empty "
        f"in them, first in row {first}, counted from 0. Fill them, or ignore this."
    )
    return rows.select(np.flatnonzero(mask))


def load_corpus(
    source: Any,
    columns: Columns | None = None,
    *,
    what: str = "corpus",
    cache_dir: Any = None,
    split: str | None = None,
) -> LoadedCorpus:
    """Load documents of whatever kind; see `docs/data_layouts.md`.

    Of several splits the only one is read, else the one that is asked for, `corpus` or `train`.

    Args:
        source (`Any`): a data set, stream, list, mapping, frame, path, glob, URL of a database or Hub id.
        columns (`Columns`, *optional*): names of columns as the user said; they go before what is recognised.
        what (`str`, defaults to `"corpus"`): what to call the source in errors.
        cache_dir (`str`, *optional*): where streams are written.
        split (`str`, *optional*): which of several splits is read, where it is there.

    Raises:
        ConfigError, DataError, ColumnError: it cannot be read, or nothing tells which column is what.
    """
    told = columns or Columns()
    collection = document_store_of(source)
    if collection is not None:
        if collection.reads == FOUND:
            raise ConfigError(
                f"{collection.address} is read for what the queries of a job find, and {what} knows no job. Call "
                "mine(pairs, corpus=...), or read all documents, without ?reads=found."
            )
        rows = scanned(collection, cache_dir)
        words = f"{collection.place.collection}, a document store: {len(rows):,} documents"
        return LoadedCorpus(rows=rows, columns=told, words=words, store=collection)
    share_clients(source)
    tables = read(source, "documents", what, told=_names(told), cache_dir=cache_dir)
    rows = tables.documents if tables.documents is not None else _split(tables.rows, what, split)
    return _documents(rows, told, tables, what)


def _documents(rows: Any, told: Columns, tables: Tables, what: str) -> LoadedCorpus:
    roles = cast("Columns", {**told, **({} if "text" in told else _text_role(rows))})
    texts = text_columns_of(rows, roles.get("text"))
    if tables.has_cells and len(texts) == 1:
        rows = _without_empty(rows, texts, what)
    if not tables.name and roles == told:
        return LoadedCorpus(rows=rows, columns=roles)
    key = id_column_of(rows, roles.get("id"))
    form = f", {tables.form}" if tables.form else ""
    words = f"{tables.name or 'corpus'}{form}: {len(rows):,} documents, text {_listing(texts)}, "
    return LoadedCorpus(rows=rows, columns=roles, words=words + (f"id {key!r}" if key else "called row-0, row-1, …"))


def _listing(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _split(splits: Mapping[str, Any], what: str, wanted: str | None) -> Any:
    """Choose the split of a corpus: the only one, else the one that is wanted, `corpus` or `train`.

    Raises:
        ConfigError: there are several, and neither.
    """
    if len(splits) == 1:
        return next(iter(splits.values()))
    name = next((name for name in (wanted, *CORPUS_SPLITS) if name in splits), None)
    if name is None:
        raise ConfigError(
            f"{what} has the splits {', '.join(splits) or 'none'}; a corpus is one table, the only split, or else the "
            "one called corpus or train. Give one split, such as splits['documents']."
        )
    return splits[name]


def _text_role(rows: Any) -> dict[str, Any]:
    """Tell which columns hold the text of documents, where none is called `text`.

    Raises:
        ColumnError: several may, and their names do not say which.
    """
    present = rows.column_names
    if "text" in present:
        return {}
    schema = rows.features.arrow_schema
    texts = [part.name for part in schema if is_text(part.type)]
    cases = {name.lower(): name for name in reversed(texts)}
    title = cases.get("title")
    name = next((cases[name] for name in TEXT_NAMES if name in cases), None)
    if name is None:
        others = [each for each in texts if each == title or not is_usual_name(each)]
        others += image_columns(rows, present)
        if len(others) > 1:
            raise ColumnError(
                f"The corpus has the columns {', '.join(map(repr, present))}, and several may hold its texts: "
                f"{', '.join(map(repr, others))}. Name one with columns={{'text': ...}}, or several in a list."
            )
        name = next(iter(others), None)
    if name is None:
        return {}
    return {"text": [title, name] if title not in (None, name) else name}


def opened(
    function: str,
    pairs: Any,
    corpus: Any,
    strategy: str | Strategy | None,
    options: Mapping[str, Any],
    *,
    default: str | Strategy = "bm25",
    single: bool = False,
    split: str | None = None,
) -> JobInputs:
    """Load the pairs and the corpus of a job; without a corpus, the positives are the documents.

    A text in the place of the corpus that is no file, folder, glob, URL or Hub id is the name of the strategy.

    Args:
        function (`str`): what was called, such as `"mine"`.
        pairs, corpus (`Any`): what the user gave.
        strategy (`str` or `Strategy`, *optional*): likewise.
        options (`Mapping`): of `HardNegatives`: `columns`, `symmetric`, `cache_dir`.
        default (`str` or `Strategy`, defaults to `"bm25"`): the strategy where the user gave none.
        single (`bool`, defaults to `False`): whether one table of pairs is wanted, of several splits `train`.
        split (`str`, *optional*): another split than `train` then, and of the corpus, where it has that too.

    Raises:
        ConfigError, DataError, ColumnError: something cannot be read, or nothing tells which column is what.
    """
    options = {**options, "columns": fit(function, "columns", options.get("columns"), Columns | None)}
    corpus, strategy = _strategy_in_place(function, corpus, strategy, default)
    collection = document_store_of(corpus)
    if collection is not None:
        corpus = collection
        if strategy is None:
            strategy = strategy_of_store(collection, safeguards=options.get("safeguards", True))
        if strategy:
            check_searchable(collection, strategy, options)
    strategy = default if strategy is None else strategy
    told, cache_dir = options.get("columns") or Columns(), options.get("cache_dir")
    loaded = load_pairs(pairs, told, what=f"{function}(pairs=)", cache_dir=cache_dir)
    _check_split(function, loaded.rows, split)
    if single and isinstance(loaded.rows, Mapping):
        loaded = replace(loaded, rows=_single_split(loaded.rows, f"{function}(pairs=)", split or "train"))
    if options.get("symmetric") is not None:
        loaded = replace(loaded, symmetric=options["symmetric"])
    if corpus is None and loaded.documents is None:
        loaded, documents = corpus_of_positives(loaded, function)
    elif corpus is None:
        tables = Tables(name="", documents=loaded.documents)
        documents = _documents(loaded.documents, told, tables, f"{function}(pairs=)")
    elif function in KNOWS_ITS_JOB and collection is not None and collection.reads == FOUND:
        documents = _found(collection, loaded, strategy, options, told)
    else:
        documents = load_corpus(corpus, told, what=f"{function}(corpus=)", cache_dir=cache_dir, split=split)
    loaded = with_ids(loaded, documents)
    columns = in_order({**loaded.columns, **documents.columns})
    return JobInputs(
        pairs=loaded.rows,
        corpus=documents.rows,
        strategy=strategy,
        columns=columns or options.get("columns"),
        symmetric=loaded.symmetric or options.get("symmetric"),
        words=" · ".join(filter(None, [loaded.words, documents.words])),
        store=documents.store if options.get("index") is None and collection and collection.uses_vectors else None,
    )


def _check_split(function: str, rows: Any, split: str | None) -> None:
    """Raise for a split of the pairs that is not there."""
    if split not in (None, "train", *(rows if isinstance(rows, Mapping) else ())):
        has = f"the splits {', '.join(rows)}" if isinstance(rows, Mapping) else "no splits"
        raise ConfigError(
            f"{function}(pairs=) has {has}, and {split!r} was asked for. Leave --split out, or give data that have it."
        )


def _found(
    collection: DocumentStore,
    loaded: LoadedPairs,
    strategy: str | Strategy,
    options: Mapping[str, Any],
    told: Columns,
) -> LoadedCorpus:
    """Load the documents of a document store that the queries of a job find."""
    splits = list(loaded.rows.values()) if isinstance(loaded.rows, Mapping) else [loaded.rows]
    options = {**options, "columns": in_order({**loaded.columns, **told}), "symmetric": loaded.symmetric}
    rows = documents_found(collection, splits, strategy, options)
    words = f"{collection.place.collection}, a document store: {len(rows):,} documents that queries find"
    return LoadedCorpus(rows=rows, columns=told, words=words, store=collection)


def _strategy_in_place(
    function: str, corpus: Any, strategy: str | Strategy | None, default: str | Strategy
) -> tuple[Any, str | Strategy | None]:
    """Return the corpus and the strategy, which may stand in its place.

    Raises:
        ConfigError: there are two strategies.
        UnknownNameError: a text is neither a place nor the name of a strategy.
    """
    if isinstance(corpus, Strategy):
        named: Any = corpus
    elif isinstance(corpus, str) and not is_place(corpus):
        try:
            named = corpus
            resolve(corpus)
        except UnknownNameError as error:
            raise UnknownNameError(
                f"{function}(corpus={corpus!r}): there is no such file or folder, and Hub ids have a slash. {error}"
            ) from error
    else:
        return corpus, strategy
    if strategy not in (None, default):
        raise ConfigError(
            f"{function}() got two strategies, {named!r} in the place of the corpus and {strategy!r}. Give a corpus, "
            "or leave it out to search in the positives."
        )
    return None, named


def _single_split(splits: Mapping[str, Any], what: str, wanted: str) -> Any:
    if len(splits) > 1 and wanted not in splits:
        raise ConfigError(
            f"{what} has the splits {', '.join(splits)}; one table is read, the only split, or else the one called "
            f"{wanted}. Give one of them, such as splits['dev'], or --split on the command line."
        )
    return splits[wanted] if wanted in splits else next(iter(splits.values()))
