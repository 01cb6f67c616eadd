"""A `vec0` table of sqlite-vec, and what its definition says of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from hf_hardneg.errors import ConfigError

METRICS: dict[str, Literal["cosine", "l2"]] = {"cosine": "cosine", "l2": "l2"}
TABLE = re.compile(r"\s*create\s+virtual\s+table.*?using\s+vec0\s*\((.*)\)[\s;]*", re.IGNORECASE | re.DOTALL)
KEY = re.compile(r"\W?(\w+)\W?\s+(text|integer)\s+primary\s+key", re.IGNORECASE)
VECTORS = re.compile(r"\W?(\w+)\W?\s+(\w+)\s*\[(\d+)\](?:.*?distance_metric\s*=\s*(\w+))?", re.IGNORECASE | re.DOTALL)


def tables_of(schema: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Definitions by names of the tables in a schema that are of vec0."""
    return {name: sql for name, sql in schema if sql and TABLE.fullmatch(sql)}


def quoted(name: str) -> str:
    """A name, in the quotes of which SQLite never makes a text where there is no such column."""
    return "`" + name.replace("`", "``") + "`"


class OpenedTable(NamedTuple):
    """A connection to a table, its column of keys, and its column of vectors, their width and similarity."""

    connection: Any
    key: str
    key_is_text: bool
    vector: str
    width: int
    similarity: Literal["cosine", "l2"]

    @classmethod
    def of(cls, where: str, connection: Any, definition: str, vector: str | None) -> OpenedTable:
        """The table of a definition.

        Args:
            where (`str`): what errors call the table.
            connection (`Any`): to the database.
            definition (`str`): the SQL that created it.
            vector (`str`, *optional*): the column of vectors, where there are several.

        Raises:
            ConfigError: there is no such column, or its vectors or their metric cannot be used.
        """
        inside = TABLE.fullmatch(definition)
        columns = [column.strip() for column in inside[1].split(",")] if inside else []
        vectors = {match[1]: match for column in columns if (match := VECTORS.match(column))}
        chosen = vectors.get(vector or next(iter(vectors), ""))
        if chosen is None or (vector is None and len(vectors) > 1):
            raise ConfigError(
                f"{where} has the columns of vectors {', '.join(vectors) or 'none'}, and vector={vector!r} was given; "
                "the name of one of them is allowed. Give it in vector=."
            )
        name, kind, width, metric = (part.lower() for part in chosen.groups(default="l2"))
        if not kind.startswith("f") or metric not in METRICS:
            raise ConfigError(
                f"{where} keeps {kind}[{width}] with the metric {metric} in {name!r}; float with "
                f"{' or '.join(METRICS)} is allowed. Build the table anew with that."
            )
        keys = [match.groups() for column in columns if (match := KEY.match(column))]
        key, key_kind = keys[0] if keys else ("rowid", "integer")
        return cls(connection, key, key_kind.lower() == "text", chosen[1], int(width), METRICS[metric])
