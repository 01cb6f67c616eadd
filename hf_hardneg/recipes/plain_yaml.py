"""YAML of others, of limited size: plain types, and no aliases, which could unfold without end.

Every scan takes time in proportion to the length of the text.
"""

from __future__ import annotations

from typing import Any

MOST, MOST_VALUES, DEEPEST = 500_000, 20_000, 64
"""Characters, values and levels of a text."""
EMPTY, NUMBER = 1_000, 100
"""Line ends in a row, and characters of a number."""
_PLAIN = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))}


def plain_values(text: str) -> Any:
    """Read YAML of plain types.

    Raises:
        ValueError: it is broken, too large, or holds aliases or types of its own.
    """
    import yaml

    try:
        _check_plain(text)
        return yaml.load(text, Loader=safe_loader())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def safe_loader() -> Any:
    """Find YAML's safe loader, in C where it is installed, which takes some tenths of a second for the largest text."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_plain(text: str) -> None:
    """Raise for YAML that takes more to load than its length says, before it is loaded.

    Raises:
        ValueError: it is larger than is allowed, or holds an alias, or a type that JSON lacks.
    """
    import yaml

    if len(text) > MOST:
        raise ValueError(f"it has {len(text):,} characters, where {MOST:,} are allowed")
    if "\n" * EMPTY in text.replace("\r", ""):
        raise ValueError(f"it has {EMPTY:,} empty lines in a row")
    depth = count = 0
    for event in yaml.parse(text, Loader=safe_loader()):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"it holds the anchor or alias {event.anchor!r}; write the value out in each place")
        if getattr(event, "tag", None) not in _PLAIN:
            raise ValueError(f"it holds a value of the type {event.tag!r}; only those of JSON and dates are read")
        count += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if count > MOST_VALUES or depth > DEEPEST:
            raise ValueError(f"more than {MOST_VALUES:,} values, or {DEEPEST} levels of them")
        if isinstance(event, yaml.ScalarEvent) and event.style is None and _is_long_number(event.value):
            raise ValueError(f"it holds a number of {len(event.value):,} characters, where {NUMBER} are allowed")


def _is_long_number(text: str) -> bool:
    return len(text) > NUMBER and not text.strip("0123456789abcdefABCDEFox_:.+-")
