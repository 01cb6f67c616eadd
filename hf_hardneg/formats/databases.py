"""Tables of databases: SQL by `Dataset.from_sql`, and Lance."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hf_hardneg.errors import DataError, HardNegError
from hf_hardneg.formats.streams import BATCH, stored
from hf_hardneg.runtime.optional import require
from hf_hardneg.store.disk import scratch
from hf_hardneg.text.masking import masked

if TYPE_CHECKING:
    from datasets import Dataset

_URL = re.compile(r"([a-z][a-z0-9_+]*)://[^?]*\?(.*[&?])?(table|query)=", re.IGNORECASE | re.DOTALL)
SQLITE = "sqlite"
EXAMPLE = "sqlite:///file.db?table=documents or ?query=SELECT id, text FROM documents"


def is_database(source: str) -> bool:
    """Tell whether a text is the URL of a table or a query in a database."""
    return _URL.match(source) is not None


def load_database(source: str, cache_dir: Any = None) -> Dataset:
    """Read a table, or the rows of a query, from a database.

    It is read anew each time, since a database changes under the same name, and equal rows lie in the cache once.

    Args:
        source (`str`): a URL of SQLAlchemy with `?table=` or `?query=`, such as `sqlite:///file.db?table=documents`.
        cache_dir (`str`, *optional*): where indexes go; default is under the datasets cache.

    Raises:
        DataError: there is no such database or table, or it cannot be read.
        MissingExtraError: another database than SQLite, and no SQLAlchemy.
    """
    from datasets import Dataset

    url, table, query = _parts(source)
    shown = masked(source)
    try:
        with scratch() as folder, _connected(url, shown) as (connection, quote):
            sql = query or f"SELECT * FROM {quote(table)}"
            rows = Dataset.from_sql(sql, connection, cache_dir=str(folder))
            return stored(rows.with_format("arrow").iter(BATCH), shown, cache_dir=cache_dir)
    except HardNegError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{shown} cannot be read ({type(cause).__name__}: {str(cause)[:200]}). Give the URL of a database with a "
            f"table or a query in it, such as {EXAMPLE}."
        ) from error


def _parts(source: str) -> tuple[str, str, str]:
    """Split a URL into that of the database, the table, and the query, one of which is empty.

    A query is the rest of the text; where it has no space, `%20` stands for one.
    """
    url, _, options = source.partition("?")
    options, _, query = f"&{options}".partition("&query=")
    kept = [option for option in options.split("&") if option]
    tables = [unquote(option.partition("=")[2]) for option in kept if option.startswith("table=")]
    kept = [option for option in kept if not option.startswith("table=")]
    query = query if " " in query.strip() else unquote(query)
    return "?".join([url, *(["&".join(kept)] if kept else [])]), "".join(tables[:1]), query


@contextlib.contextmanager
def _connected(url: str, shown: str) -> Iterator[tuple[Any, Any]]:
    """Connect to a database: what `Dataset.from_sql` takes, and how names of tables are quoted there.

    A connection to SQLite only reads, and makes no file.
    """
    if url.partition("://")[0].lower() == SQLITE:
        file = Path(re.sub(r"^sqlite:///?", "", url, flags=re.IGNORECASE).partition("?")[0])
        if not file.is_file():
            raise DataError(f"There is no file {file} for {shown}. Give the path of one, such as {EXAMPLE}.")
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection, lambda name: '"' + name.replace('"', '""') + '"'
        return
    engine = require("sqlalchemy", extra="sql", needed_by=shown).create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection, lambda name: ".".join(map(engine.dialect.identifier_preparer.quote, name.split(".")))
    finally:
        engine.dispose()


def is_lance(path: Path) -> bool:
    """Tell whether a folder is a table of Lance."""
    return path.is_dir() and (path.suffix == ".lance" or (path / "_versions").is_dir())


def load_lance(path: Path, cache_dir: Any = None) -> Dataset:
    """Read a table of Lance.

    Raises:
        MissingExtraError: `lance` is not installed.
    """
    table = require("lance", extra="lance", needed_by=f"{path}, a table of Lance,").dataset(str(path))
    batches = (batch for batch in table.to_batches(batch_size=BATCH))
    return stored((_table(batch) for batch in batches), str(path), cache_dir=cache_dir)


def _table(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])
