"""`save_format`: the files that trainers' own loaders read, and those files back as tables."""

from __future__ import annotations

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


@checked
def save_format(made: Dataset | DatasetDict, layout: Name, directory: Folder) -> list[Path]:
    """What `to_format()` returned, as the files its trainer reads.

    `colbert` and `colbert-nway`: triples.jsonl of arrays, queries.tsv, collection.tsv. `nemo-ids`: train.json and a
    folder corpus. `contrastors` and `msmarco-hard-negatives`: .jsonl.gz. Others: one JSONL file for each table.

    Args:
        made (`Dataset` or `DatasetDict`): the rows, or rows and tables.
        layout (`str`): the layout they are in.
        directory (`str` or `Path`): created; files of the same names are replaced.

    Returns:
        `list[Path]`: what was written.

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
    tables = dict(made) if isinstance(made, DatasetDict) else {"train": made}
    try:
        with writing(folder, other="directory="):
            folder.mkdir(parents=True, exist_ok=True)
            return _WRITERS.get(layout, _jsonl_files)(tables, folder)
    except KeyError as error:
        raise ColumnError(
            f"The layout {layout!r} needs {error}, which is neither a table nor a column of what was given; it has "
            f"{', '.join(tables)}. Give what to_format(mined, {layout!r}) returned."
        ) from error


def _jsonl_files(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    return [_lines(folder / f"{name}.jsonl", map(_json, _rows(table))) for name, table in tables.items()]


def _gzipped(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    return [_lines(folder / f"{name}.jsonl.gz", map(_json, _rows(table))) for name, table in tables.items()]


def _colbert(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    triples = (_json(list(row.values())) for row in _rows(tables["triples"]))
    return [_lines(folder / "triples.jsonl", triples), *_tsv_files(tables, folder)]


def _colbert_nway(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    rows = _rows(tables["triples"])
    examples = (_json([row["qid"], *_scored(row)]) for row in rows)
    return [_lines(folder / "triples.jsonl", examples), *_tsv_files(tables, folder)]


def _scored(row: Mapping[str, Any]) -> list[Any]:
    """The documents of an n-way example, as pairs with their scores where there are."""
    return list(zip(row["pids"], row["scores"], strict=True)) if "scores" in row else row["pids"]


def _tsv_files(tables: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Queries with their original id third, which ColBERT skips; in the collection it would be taken for a title."""
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


_WRITERS: dict[str, Callable[[Mapping[str, Dataset], Path], list[Path]]] = {
    "colbert": _colbert,
    "colbert-nway": _colbert_nway,
    "nemo-ids": _nemo_ids,
    "contrastors": _gzipped,
    "msmarco-hard-negatives": _gzipped,
}


def read_format(path: Path, layout: str | None) -> Any:
    """The table in a file, or the tables in a folder.

    Raises:
        DataError: nothing readable is there.
    """
    if path.is_dir() and (path / "collection.tsv").exists():
        return _read_colbert(path, layout)
    if path.is_dir() and (path / "corpus" / "merlin_metadata.json").exists():
        rows = _from_json(json.loads((path / "train.json").read_text(encoding="utf-8"))["data"])
        return {"train": rows, "corpus": load_table(str(path / "corpus"))}
    if path.is_dir() and (path / "qrels").is_dir():
        return _read_beir(path)
    files = sorted(file for file in path.glob("*") if _is_table(file)) if path.is_dir() else []
    if files:
        return {name: _table(*shards) for name, shards in _tables_of(files).items()}
    return _table(path)


def _tables_of(files: list[Path]) -> dict[str, list[Path]]:
    """Files by the table that they are, or are shards of: `train-00000-of-00002.parquet` is of `train`."""
    tables: dict[str, list[Path]] = {}
    for file in files:
        tables.setdefault(_SHARD.sub("", file.name.split(".")[0]), []).append(file)
    return tables


def _is_table(file: Path) -> bool:
    return (
        not file.name.endswith("state.json")
        and loader_of(file) not in (None, "arrow")
        and file.name not in ("dataset_info.json", "dataset_dict.json")
    )


def _table(path: Path, *more: Path) -> Dataset:
    from datasets import concatenate_datasets

    if more:
        return concatenate_datasets([_table(one) for one in (path, *more)])
    return load_table(str(path))


def _from_json(rows: list[dict[str, Any]]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _read_colbert(path: Path, layout: str | None) -> dict[str, Dataset]:
    from datasets import Dataset

    with (path / "triples.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if not rows:
        raise DataError(f"{path / 'triples.jsonl'} is empty; give a folder whose triples have lines.")
    if isinstance(rows[0][1], list):
        made: dict[str, Any] = {
            "qid": [row[0] for row in rows],
            "pids": [[pid for pid, _ in row[1:]] for row in rows],
            "scores": [[score for _, score in row[1:]] for row in rows],
        }
    elif layout == "colbert-nway" or len(rows[0]) != 3:
        made = {"qid": [row[0] for row in rows], "pids": [row[1:] for row in rows]}
    else:
        made = dict(zip(("qid", "positive_pid", "negative_pid"), zip(*rows, strict=True), strict=True))
    queries = _tsv(path / "queries.tsv", ("qid", "text", "query_id"))
    return {
        "triples": Dataset.from_dict(made),
        "queries": queries,
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
        found = sorted((path / "qrels").glob("*.tsv"))
        raise DataError(
            f"{path / 'qrels'} has no train.tsv; it has {', '.join(file.name for file in found) or 'nothing'}. "
            "Give the three tables as a mapping to read another split."
        )
    tables = {name: load_table(str(path / f"{name}.jsonl")) for name in ("corpus", "queries")}
    return {**tables, "qrels": read_qrels(judged)}


def read_qrels(path: Path) -> Dataset:
    """BEIR's judgements, a TSV file of query-id, corpus-id and score under their names."""
    from datasets import Dataset
    from pyarrow import csv

    kinds = {"query-id": "string", "corpus-id": "string", "score": "float64"}
    options = {
        "parse_options": csv.ParseOptions(delimiter="\t", quote_char=False),
        "convert_options": csv.ConvertOptions(column_types=kinds),
    }
    return Dataset(csv.read_csv(path, **options))
