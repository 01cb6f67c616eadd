"""`Tables` are what a place or a value holds, before any column is looked at: rows, documents, queries, judgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import DataError
from hf_hardneg.formats.compressed import opened_text, suffix_of, words_of
from hf_hardneg.formats.inputs import data_files, load_files, loader_of
from hf_hardneg.formats.roles import METADATA, is_judged_name

if TYPE_CHECKING:
    from datasets import Dataset

KINDS_OF_TABLES = {
    "judged": ("qrels", "qrel"),
    "documents": ("corpus", "collection", "documents", "docs", "passages", "psgs"),
    "queries": ("queries", "topics"),
    "runs": ("run", "runs"),
}
"""Words in a name that say what a table is; of a set of three, the table called `default` is that of judgements."""
TREC = (".txt", ".trec", ".qrels", ".qrel", ".tsv", "")
QUERY, DOCUMENT, GRADE = "query-id", "corpus-id", "score"
_JUDGEMENTS = {
    QUERY: (QUERY, "query_id", "qid", "queryid", "query", "topic"),
    DOCUMENT: (DOCUMENT, "corpus_id", "docid", "doc_id", "document_id", "pid", "passage_id", "did"),
    GRADE: (GRADE, "relevance", "label", "grade", "rel", "relevant"),
}
"""What the columns of judgements are called, by BEIR's names."""
_BESIDE = {"iteration", "iter", "q0", *METADATA}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a place or a value holds.

    Args:
        name (`str`): what it is called.
        form (`str`, defaults to `""`): what it is, in words, where it is more than a table.
        rows (`dict[str, Dataset]`): rows of pairs, or of documents, by split; `""` where there are no splits.
        documents, queries (`Dataset`, *optional*): texts by their ids.
        judged (`dict[str, Dataset]`): judgements by split: `query-id`, `corpus-id` and `score`.
        has_cells (`bool`, defaults to `False`): whether it was written by hand or by a program of tables, where an
            empty cell is a value that was left out.
    """

    name: str
    form: str = ""
    rows: dict[str, Any] = field(default_factory=dict)
    documents: Any = None
    queries: Any = None
    judged: dict[str, Any] = field(default_factory=dict)
    has_cells: bool = False


def kind_of(words: Iterable[str], *, in_set: bool = False) -> str:
    """Tell what a table is by the words of its name: a kind of `KINDS_OF_TABLES`, or `"rows"`."""
    named = set(words)
    if in_set and named == {"default"}:
        return "judged"
    return next((kind for kind, known in KINDS_OF_TABLES.items() if named & set(known)), "rows")


def is_set(names: Iterable[Iterable[str]]) -> bool:
    """Tell whether tables of these names are a set: documents, or queries beside judgements."""
    kinds = {kind_of(words) for words in names}
    return "documents" in kinds or {"queries", "judged"} <= kinds


def set_of_mapping(tables: Mapping[str, Any], name: str, form: str) -> Tables:
    """Sort tables that have names into a set."""
    parts: dict[str, dict[str, Any]] = {}
    for key, table in tables.items():
        words = words_of(Path(key))
        parts.setdefault(kind_of(words, in_set=True), {})[_split_in(words)] = table
    return Tables(
        name=name,
        form=form,
        rows={} if "judged" in parts else parts.get("rows", {}),
        documents=_joined(parts.get("documents", {})),
        queries=_joined(parts.get("queries", {})),
        judged={
            f"{split}{'_' if split and inner else ''}{inner}": table
            for split, tables in parts.get("judged", {}).items()
            for inner, table in _splits(tables).items()
        },
    )


def set_in_folder(folder: Path) -> Tables | None:
    """Read the tables of a set from the files and folders in a folder; `None` where they are no set.

    Raises:
        DataError: a table cannot be read.
    """
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and _is_table(path)]
    if not is_set(words_of(path) for path in entries):
        return None
    parts: dict[str, list[Path]] = {}
    for path in entries:
        parts.setdefault(kind_of(words_of(path), in_set=True), []).append(path)
    judged = {
        split: read_judgements(file)
        for path in parts.get("judged", [])
        for file in (_tables_in(path) if path.is_dir() else [path])
        for split in [_split_in(words_of(file))]
    }
    rows = [] if judged else [file for path in parts.get("rows", []) for file in _files(path)]
    texts = {kind: [file for path in parts.get(kind, []) for file in _files(path)] for kind in ("documents", "queries")}
    loaded: Mapping[str, Any] = load_files(rows, "train", "pairs", (), str(folder)) if rows else {}
    return Tables(
        name=folder.name or str(folder),
        form=_form(folder, parts),
        rows=dict(zip([""] if len(loaded) == 1 else loaded, loaded.values(), strict=True)),
        judged=judged,
        **{kind: _texts(files, folder) for kind, files in texts.items() if files},
        has_cells=any(loader_of(file) == "csv" for files in (*texts.values(), rows) for file in files),
    )


def _texts(files: list[Path], folder: Path) -> Any:
    return _joined(load_files(files, "train", "documents", (), str(folder)))


def _form(folder: Path, parts: Mapping[str, list[Path]]) -> str:
    if "judged" not in parts:
        return "rows beside their documents"
    named = {path.name for path in parts.get("documents", [])}
    if any(name.startswith("collection") for name in named):
        return "MS MARCO's files"
    return "BEIR's three tables" if (folder / "qrels").is_dir() else "documents, queries and judgements"


def _is_table(path: Path) -> bool:
    if path.is_dir():
        return any(True for _ in _tables_in(path))
    return loader_of(path) is not None or kind_of(words_of(path)) in ("judged", "runs")


def _tables_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and loader_of(path)] or [
        path for path in sorted(folder.glob("*")) if path.is_file() and suffix_of(path) in TREC
    ]


def _files(path: Path) -> list[Path]:
    return data_files(path) if path.is_dir() else [path]


def _split_in(words: Iterable[str]) -> str:
    """Name the split in the words of a table's name: what is left of `qrels.dev.small` is `dev_small`."""
    known = {word for words_of_kind in KINDS_OF_TABLES.values() for word in words_of_kind} | {"default"}
    return "_".join(word for word in words if word not in known and not word.isdigit() and word != "of")


def _splits(table: Any) -> dict[str, Any]:
    return dict(table) if isinstance(table, Mapping) else {"": table}


def _joined(tables: Mapping[str, Any]) -> Any:
    """Put the splits of a table of texts below each other; `None` where there is no table."""
    from datasets import concatenate_datasets

    parts = [split for table in tables.values() for split in _splits(table).values()]
    return None if not parts else parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def read_judgements(path: Path) -> Dataset:
    """Read judgements: BEIR's and MTEB's with their names, TREC's and MS MARCO's without.

    Lines without names have a query, a document and its grade, after TREC's also an iteration in the second place;
    two ids alone are a query and what is relevant to it.

    Returns:
        `Dataset`: `query-id` and `corpus-id` string, `score` float64.

    Raises:
        DataError: a line has something else.
    """
    from datasets import Dataset

    loader = loader_of(path)
    if loader in ("parquet", "arrow", "json"):
        loaded: Mapping[str, Any] = load_files([path], "train", "pairs", (), str(path), named=False)["train"]
        return judgements_of(loaded, str(path))
    columns: dict[str, list[Any]] = {QUERY: [], DOCUMENT: [], GRADE: []}
    order: tuple[int, ...] | None = None
    with opened_text(path) as file:
        for number, line in enumerate(file, start=1):
            cells = line.split("\t") if "\t" in line else line.split("," if loader == "csv" and "," in line else None)
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if order is None and (named := _judgement_columns(cells, str(path))):
                order = tuple(cells.index(name) for name in named.values() if name is not None)
                continue
            order = order or _order(cells, path, number)
            try:
                columns[QUERY].append(cells[order[0]])
                columns[DOCUMENT].append(cells[order[1]])
                columns[GRADE].append(float(cells[order[2]]) if len(order) > 2 else 1.0)
            except (IndexError, ValueError) as error:
                raise DataError(
                    f"Line {number} of {path} is no judgement: {line[:60]!r}. Each has a query, a document and a grade "
                    "that is a number; mend or drop that line."
                ) from error
    return Dataset.from_dict(columns)


def _order(cells: list[str], path: Path, number: int) -> tuple[int, ...]:
    if len(cells) == 6 and cells[1].upper() == "Q0":
        raise DataError(
            f"{path} is a run of TREC, a ranking that says of no document whether it is relevant. Give judgements, "
            "such as qrels, for the positives; mining ranks by itself."
        )
    if len(cells) not in (2, 3, 4):
        raise DataError(
            f"Line {number} of {path} has {len(cells)} cells; a judgement has a query, a document and a grade, with "
            "TREC's iteration in the second place of four. Give such a file."
        )
    return {2: (0, 1), 3: (0, 1, 2), 4: (0, 2, 3)}[len(cells)]


def judgements_of(table: Any, name: str) -> Any:
    """Return a table of judgements under BEIR's names, whatever names for the same things it has.

    Raises:
        DataError: a column is missing.
    """
    chosen = _judgement_columns(table.column_names, name)
    if chosen is None:
        raise DataError(
            f"{name} has the columns {', '.join(map(repr, table.column_names))}; judgements have {QUERY}, {DOCUMENT} "
            f"and {GRADE}. Rename its columns."
        )
    if chosen[GRADE] is None:
        table = table.add_column(GRADE, [1.0] * len(table))
    kept = {theirs: ours for ours, theirs in chosen.items() if theirs is not None and theirs != ours}
    wanted = [theirs or ours for ours, theirs in chosen.items()]
    return table.select_columns(wanted).rename_columns(kept) if kept else table.select_columns(wanted)


def _judgement_columns(names: Sequence[str], where: str) -> dict[str, str | None] | None:
    """Find the columns of judgements, of which the grade may be missing; `None` where these are no names of such.

    Raises:
        DataError: there is no grade, but a column that may be one.
    """
    cases = {name.lower(): name for name in names}
    chosen = {ours: next((cases[name] for name in known if name in cases), None) for ours, known in _JUDGEMENTS.items()}
    if chosen[QUERY] is None or chosen[DOCUMENT] is None:
        return None
    chosen[GRADE] = chosen[GRADE] or next(filter(is_judged_name, names), None)
    others = [name for name in names if name not in chosen.values() and name.lower() not in _BESIDE]
    if chosen[GRADE] is None and others:
        raise DataError(
            f"{where} has judgements with {', '.join(map(repr, others))}, which may be their grade, and no {GRADE!r}. "
            f"Rename the column of grades to {GRADE!r}, or leave the others out where all are relevant."
        )
    return chosen
