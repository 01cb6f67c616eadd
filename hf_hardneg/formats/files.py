"""`save_format` writes the files that trainers' own loaders read; `read_format` reads them as tables."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import ColumnError, DataError, unknown_name
from hf_hardneg.formats.inputs import load_table, loader_of
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.runtime.arguments import Folder, Name, checked
from hf_hardneg.store.disk import writing

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BATCH = 1_000
MOST = 1 << 30
"""Bytes of a TSV file that are parsed at once, into which a line must fit."""
_SHARD = re.compile(r"-\d+-of-\d+$")
"""The end of a shard's name: `train-00000-of-00002.parquet` is a shard of `train`."""


@checked
def save_format(dataset: Dataset | DatasetDict, layout: Name, directory: Folder) -> list[Path]:
    """Write what `to_format()` returned to the files that its trainer reads.

    `colbert` and `colbert-nway`: triples.jsonl of arrays, queries.tsv, collection.tsv. `nemo-ids`: train.json and a
    folder corpus. `contrastors` and `msmarco-hard-negatives`: .jsonl.gz. Others: one JSONL file for each table.

    Args:
        dataset (`Dataset` or `DatasetDict`): the rows, or rows and tables.
        layout (`str`): the layout of the rows.
        directory (`str` or `Path`): created; files of the same names are replaced.

    Returns:
        `list[Path]`: the files that were written.

    Raises:
        UnknownNameError: no such layout.
        StoreError: the disk refuses the files.

    Example:
        >>> import tempfile
        >>> from datasets import Dataset
        >>> rows = Dataset.from_list([{"query": "sky colour", "pos": ["blue"], "neg": ["red"]}])
        >>> [path.name for path in save_format(rows, "flagembedding", tempfile.mkdtemp())]
        ['train.jsonl']
    """
    from datasets import DatasetDict

    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    folder = Path(directory)
    tables = dict(dataset) if isinstance(dataset, DatasetDict) else {"train": dataset}
    try:
        with writing(folder, other="directory="):
            folder.mkdir(parents=True, exist_ok=True)
            return _WRITERS.get(layout, _jsonl_files)(tables, folder)
    except KeyError as error:
        raise ColumnError(
            f"The layout {layout!r} needs {error}, which is neither a table nor a column of what was given; it has "
            f"{', '.join(tables)}. Give what to_format(mined, {layout!r}) returned."
        ) from error


def _jsonl_files(tables: Mapping[str, Dataset], folder: Path, ending: str = "jsonl") -> list[Path]:
    return [_lines(folder / f"{name}.{ending}", map(_json, _rows(table))) for name, table in tables.items()]


def _colbert(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    triples = (_json(list(row.values())) for row in _rows(tables["triples"]))
    return [_lines(folder / "triples.jsonl", triples), *_tsv_files(tables, folder)]


def _colbert_nway(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Write examples of a query and documents, each a pair with its score where rows have scores."""
    scored = "scores" in tables["triples"].column_names
    examples = (
        _json([row["qid"], *(zip(row["pids"], row["scores"], strict=True) if scored else row["pids"])])
        for row in _rows(tables["triples"])
    )
    return [_lines(folder / "triples.jsonl", examples), *_tsv_files(tables, folder)]


def _tsv_files(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Write queries with their original id third, which ColBERT skips; in the collection that would be a title."""
    queries = (f"{row['qid']}\t{_flat(row['text'])}\t{_flat(row['query_id'])}" for row in _rows(tables["queries"]))
    documents = (f"{row['pid']}\t{_flat(row['text'])}" for row in _rows(tables["collection"]))
    return [_lines(folder / "queries.tsv", queries), _lines(folder / "collection.tsv", documents)]


def _flat(text: str) -> str:
    return re.sub(r"[\t\r\n]+", " ", text)


def _nemo_ids(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    tables["corpus"].to_parquet(str(corpus / "train.parquet"))
    metadata = _lines(corpus / "merlin_metadata.json", [_json({"corpus_id": "corpus", "class": "TextQADataset"})])
    data = ",\n".join(map(_json, _rows(tables["train"])))
    rows = _lines(folder / "train.json", [f'{{"corpus": [{{"path": "corpus"}}], "data": [\n{data}\n]}}'])
    return [rows, corpus / "train.parquet", metadata]


def _rows(table: Dataset) -> Iterator[dict[str, Any]]:
    for batch in table.with_format("arrow").iter(BATCH):
        yield from batch.to_pylist()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(path: Path, lines: Any) -> Path:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


_gzipped = functools.partial(_jsonl_files, ending="jsonl.gz")
_WRITERS: dict[str, Callable[[Mapping[str, Dataset], Path], list[Path]]] = {
    "colbert": _colbert,
    "colbert-nway": _colbert_nway,
    "nemo-ids": _nemo_ids,
    "contrastors": _gzipped,
    "msmarco-hard-negatives": _gzipped,
}


def read_format(path: Path, layout: str | None) -> Any:
    """Read the table in a file, or the tables in a folder.

    Raises:
        DataError: nothing in it can be read.
    """
    from datasets import Dataset, concatenate_datasets

    if path.is_dir() and (path / "collection.tsv").exists():
        return _read_colbert(path, layout)
    if path.is_dir() and (path / "corpus" / "merlin_metadata.json").exists():
        rows = json.loads((path / "train.json").read_text(encoding="utf-8"))["data"]
        return {"train": Dataset.from_list(rows), "corpus": load_table(str(path / "corpus"))}
    if path.is_dir() and (path / "qrels").is_dir():
        return _read_beir(path)
    tables: dict[str, list[Dataset]] = {}
    for file in sorted(filter(_is_table, path.glob("*"))) if path.is_dir() else ():
        tables.setdefault(_SHARD.sub("", file.name.split(".")[0]), []).append(load_table(str(file)))
    if tables:
        return {name: concatenate_datasets(shards) for name, shards in tables.items()}
    return load_table(str(path))


def _is_table(file: Path) -> bool:
    return (
        not file.name.endswith("state.json")
        and loader_of(file) not in (None, "arrow")
        and file.name not in ("dataset_info.json", "dataset_dict.json")
    )


def _read_colbert(path: Path, layout: str | None) -> dict[str, Dataset]:
    from datasets import Dataset

    with (path / "triples.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if not rows:
        raise DataError(f"{path / 'triples.jsonl'} is empty; give a folder whose triples have lines.")
    if isinstance(rows[0][1], list):
        triples: dict[str, Any] = {
            "qid": [row[0] for row in rows],
            "pids": [[pid for pid, _ in row[1:]] for row in rows],
            "scores": [[score for _, score in row[1:]] for row in rows],
        }
    elif layout == "colbert-nway" or len(rows[0]) != 3:
        triples = {"qid": [row[0] for row in rows], "pids": [row[1:] for row in rows]}
    else:
        triples = dict(zip(("qid", "positive_pid", "negative_pid"), zip(*rows, strict=True), strict=True))
    return {
        "triples": Dataset.from_dict(triples),
        "queries": _tsv(path / "queries.tsv", ("qid", "text", "query_id")),
        "collection": _tsv(path / "collection.tsv", ("pid", "text")),
    }


def _tsv(path: Path, names: tuple[str, ...]) -> Dataset:
    from datasets import Dataset
    from pyarrow import csv

    with path.open(encoding="utf-8") as file:
        columns = len(file.readline().split("\t"))
    options = {
        "read_options": csv.ReadOptions(
            column_names=names[:columns], block_size=min(path.stat().st_size, MOST) or None
        ),
        "parse_options": csv.ParseOptions(delimiter="\t", quote_char=False),
        "convert_options": csv.ConvertOptions(
            column_types=dict.fromkeys(names[1:], "string"), strings_can_be_null=False
        ),
    }
    return Dataset(csv.read_csv(path, **options))


def _read_beir(path: Path) -> dict[str, Dataset]:
    judged = path / "qrels" / "train.tsv"
    if not judged.exists():
        splits = ", ".join(file.name for file in sorted((path / "qrels").glob("*.tsv")))
        raise DataError(
            f"{path / 'qrels'} has no train.tsv; it has {splits or 'nothing'}. "
            "Give the three tables as a mapping to read another split."
        )
    tables = {name: load_table(str(path / f"{name}.jsonl")) for name in ("corpus", "queries")}
    return {**tables, "qrels": read_qrels(judged)}


def read_qrels(path: Path) -> Dataset:
    """Read BEIR's judgements, a TSV file of query-id, corpus-id and score under their names."""
    from datasets import Dataset
    from pyarrow import csv

    kinds = {"query-id": "string", "corpus-id": "string", "score": "float64"}
    options = {
        "parse_options": csv.ParseOptions(delimiter="\t", quote_char=False),
        "convert_options": csv.ConvertOptions(column_types=kinds),
    }
    return Dataset(csv.read_csv(path, **options))
