"""Arrow files of published directories, checked before anybody follows the offsets in them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from hf_hardneg.index import store


def check_arrow(directory: Path, *names: str, stream: bool = True) -> None:
    """Check files of a published directory, large ones also that their offsets lie within them.

    Args:
        directory (`Path`): what was published.
        *names (`str`): of its Arrow files.
        stream (`bool`, defaults to `True`): whether they are in Arrow's format of streams, as `datasets` writes them.

    Raises:
        StoreError: one is not listed, missing or altered.
    """
    listed = store.check(directory, foreign=True).files
    for name in names:
        if name not in listed:
            raise store.altered(directory, store.MANIFEST, f"it does not list {name}")
        if listed[name].size > store.LARGE:
            try:
                _mapped(directory / name, stream).validate(full=True)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise store.altered(directory, name, str(error)) from error


def read_arrow(directory: Path, name: str, *, stream: bool = True) -> pa.Table:
    """The table in an Arrow file of a published directory, mapped; see `check_arrow`."""
    check_arrow(directory, name, stream=stream)
    return _mapped(directory / name, stream)


def _mapped(path: Path, stream: bool) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return (pa.ipc.open_stream if stream else pa.ipc.open_file)(file).read_all()
