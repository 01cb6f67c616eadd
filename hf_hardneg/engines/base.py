"""What all engines do alike: rows come out of the engine's table once, and `mine` runs with its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.corpus.encodings import ordinary
from hf_hardneg.errors import ConfigError, check_keywords
from hf_hardneg.formats.streams import stored
from hf_hardneg.hard_negatives import OPTIONS
from hf_hardneg.mining import KEYWORDS, mine
from hf_hardneg.store import directories
from hf_hardneg.store.elsewhere import Engine, on
from hf_hardneg.store.mirrors import Mirror

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hf_hardneg.strategies import Strategy

TAKEN = (OPTIONS | KEYWORDS | {"known_positives"}) - {"num_proc"}
"""Keywords of `mine` that each engine takes, which has workers of its own in the place of `num_proc`."""


def rows_out(
    sources: Sequence[Any], tables_of: Callable[[Any], Iterable[pa.Table] | None], name: str, options: Mapping[str, Any]
) -> list[Any]:
    """Return the rows of tables of an engine memory-mapped from the cache, and whatever else as it is.

    Args:
        sources (`Sequence`): pairs and corpus.
        tables_of (`Callable`): yields the rows of a table of the engine in order; `None` for whatever else.
        name (`str`): of the engine, for errors.
        options (`Mapping`): of `mine`, which are checked.
    """
    check_keywords(f"{name.lower()}.mine()", options, TAKEN)
    tables = [(source, tables_of(source)) for source in sources]
    called = f"The table of {name}"
    return [
        source if rows is None else stored(rows, called, cache_dir=options.get("cache_dir")) for source, rows in tables
    ]


def mined_on(
    engine: Engine, sources: Sequence[Any], strategy: str | Strategy | None, shared: str | None, options: Any
) -> Dataset | DatasetDict:
    """Do what `mine` does with the workers of an engine.

    Args:
        engine (`Engine`): whose workers search, encode and score.
        sources (`Sequence`): pairs and corpus, from `rows_out`.
        strategy: see `mine`.
        shared (`str`, *optional*): the URL of a `Mirror`.
        options (`dict`): of `mine`.
    """
    pairs, corpus = sources
    root = directories.cache_root(options.get("cache_dir"))
    with on(engine, None if shared is None else Mirror(url=shared, root=str(root))):
        return mine(pairs, corpus, strategy, **options)


def in_ordinary_types(table: pa.Table) -> pa.Table:
    """Give a table whose texts and lists an engine made large, or called otherwise, the types of `datasets`."""
    return table.cast(pa.schema([(field.name, ordinary(field.type)) for field in table.schema]))


def checked_workers(workers: int | None, known: float, what: str) -> int:
    """Say how many workers there are to be.

    Args:
        workers (`int`, *optional*): what the user asks for.
        known (`float`): how many the engine says it has room for.
        what (`str`): where that comes from, for the error.

    Raises:
        ConfigError: there is room for none.
    """
    if workers is None and known < 1:
        raise ConfigError(f"{what} says of no room for a worker ({known:g}). Give workers=, how many there are to be.")
    return int(known) if workers is None else workers
