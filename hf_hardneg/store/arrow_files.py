"""Arrow files of published directories, checked before anybody follows the offsets in them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.errors import StoreError
from hf_hardneg.runtime.workers import of_bytes, to_bytes
from hf_hardneg.store import directories

if TYPE_CHECKING:
    from datasets import Dataset


def check_arrow(directory: Path, *names: str, stream: bool = True) -> None:
    """Check files of a published directory, large ones also that their offsets lie within them.

    Args:
        directory (`Path`): what was published.
        *names (`str`): of its Arrow files.
        stream (`bool`, defaults to `True`): whether they are in Arrow's format of streams, as `datasets` writes them.

    Raises:
        StoreError: one is not listed, missing or altered.
    """
    listed = directories.check(directory, foreign=True).files
    for name in names:
        if name not in listed:
            raise directories.altered(directory, directories.MANIFEST, f"it does not list {name}")
        if listed[name].size > directories.LARGE:
            try:
                _mapped(directory / name, stream).validate(full=True)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise directories.altered(directory, name, str(error)) from error


def stored_rows(directory: Path) -> list[Dataset]:
    """Open the Arrow files of a published directory as datasets, in the order of their names; see `check_arrow`."""
    from datasets import Dataset

    names = sorted(name for name in directories.read_manifest(directory).files if name.endswith(".arrow"))
    check_arrow(directory, *names)
    rows = []
    for name in names:
        try:
            rows.append(Dataset.from_file(str(directory / name)))
        except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise directories.altered(directory, name, f"its features cannot be read ({str(error)[:200]})") from error
    return rows


def read_arrow(directory: Path, name: str, *, stream: bool = True) -> pa.Table:
    """Map the table in an Arrow file of a published directory; see `check_arrow`."""
    check_arrow(directory, name, stream=stream)
    return _mapped(directory / name, stream)


def _mapped(path: Path, stream: bool) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return (pa.ipc.open_stream if stream else pa.ipc.open_file)(file).read_all()


def located(table: Any) -> Any:
    """Say of a table of `datasets` that is memory-mapped where it lies, as plain values that travel."""
    from datasets.table import ConcatenationTable

    if isinstance(table, ConcatenationTable):
        return {"blocks": [[located(block) for block in row] for row in table.blocks], "schema": table.schema}
    return {"path": table.path, "replays": table.replays}


def mapped_from(places: Any) -> Any:
    """Map the table that `located` said the place of.

    Raises:
        StoreError: its file is not there, on this node.
    """
    from datasets.table import ConcatenationTable, MemoryMappedTable

    kind = ConcatenationTable if "blocks" in places else MemoryMappedTable
    state = {**places, "blocks": [[mapped_from(block) for block in row] for row in places.get("blocks", ())]}
    table = kind.__new__(kind)
    try:
        table.__setstate__(state)
    except FileNotFoundError as error:
        raise StoreError(
            f"{places['path']}, a file of the corpus, is not there on the node {platform.node()}: corpora travel as "
            "paths. Put the corpus on storage that all nodes see under that path, or, under an engine, name a URL that "
            "they reach with shared=."
        ) from error
    return table


def cut(rows: Dataset) -> Dataset:
    """Give the slices in memory of a dataset copies of their own rows, so that pickling it writes no row twice.

    Columns in memory that stand beside columns in several files are cut where each file ends, and Arrow pickles a slice
    as all of its table, as `Dataset.map(num_proc=)` does with what it sends to its workers.
    """
    from datasets import Dataset
    from datasets.table import ConcatenationTable, InMemoryTable

    blocks = getattr(rows.data, "blocks", ())
    if len(blocks) < 2 or not any(isinstance(block, InMemoryTable) for beside in blocks for block in beside):
        return rows

    def copied(block: Any) -> Any:
        return InMemoryTable(of_bytes(to_bytes(block.table))) if isinstance(block, InMemoryTable) else block

    table = ConcatenationTable.from_blocks([[copied(block) for block in beside] for beside in blocks])
    indices: Any = rows._indices
    return Dataset(table, rows.info, rows.split, indices, rows._fingerprint)
