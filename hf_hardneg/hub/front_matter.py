"""Merge into the two parts of a card, YAML and Markdown, leaving every other byte as it was.

A card is written by anybody: its YAML is of limited size, plain types and no aliases, which could unfold without end,
and every scan takes time in proportion to the length of the text.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from hf_hardneg.errors import DataError
from hf_hardneg.recipes.plain_yaml import plain_values, safe_loader
from hf_hardneg.text.recipe_text import SECTION

JOINED = ("tags", "task_categories")
"""Lists that grow: our values are added to the old ones."""
_OPENING = re.compile(r"\s*---(?:\r\n|\r|\n)")
_CLOSING = re.compile(r"(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z)")
_START, _END = (re.compile(rf"^{re.escape(marker)}[ \t]*(?=\r?$)", re.MULTILINE) for marker in SECTION)


class CardParts(NamedTuple):
    """The parts of a card, which joined are the card.

    Args:
        opening, yaml, closing (`str`): the block of metadata, with what stands before and around it; may be empty.
        body (`str`): the Markdown.
    """

    opening: str
    yaml: str
    closing: str
    body: str


def parts(card: str) -> CardParts:
    """Take a card apart as the Hub does.

    Raises:
        DataError: its YAML is broken, or begins and never ends.
    """
    start = len(card) - len(card.removeprefix("\ufeff"))
    opening = _OPENING.match(card, start)
    closing = _CLOSING.search(card, opening.end()) if opening else None
    if opening is None or closing is None:
        if re.match(r"\s*---\s*?[\r\n]", card[start:]):
            raise _broken("it begins with --- and no line after it is --- again")
        return CardParts(card[:start], "", "", card[start:])
    yaml = card[opening.end() : closing.start()]
    split = CardParts(card[: opening.end()], yaml, closing.group(), card[closing.end() :])
    metadata_of(split)
    return split


def metadata_of(card: CardParts) -> dict[str, Any]:
    """Read the metadata of a card, in plain types.

    Raises:
        DataError: its YAML is broken, too large, or holds aliases or types of its own.
    """
    try:
        metadata = plain_values(card.yaml)
    except ValueError as error:
        raise _broken(str(error)) from error
    if metadata is not None and not isinstance(metadata, dict):
        raise _broken(f"it holds a {type(metadata).__name__}, not names with values")
    if metadata and not all(isinstance(key, str) for key in metadata):
        raise _broken("one of its names is no text")
    return metadata or {}


def _broken(why: str) -> DataError:
    return DataError(
        f"The YAML of the card that is there cannot be read: {why}. It must be names with values between two lines "
        "of ---. Repair it first; nothing was overwritten."
    )


def merged_metadata(card: CardParts, ours: Mapping[str, Any], replaced: frozenset[str]) -> CardParts:
    """Merge our metadata into a card: what is missing is added, lists in `JOINED` grow, and the rest stays.

    Args:
        card (`CardParts`): the card so far.
        ours (`Mapping`): values by name.
        replaced (`frozenset[str]`): names whose old value is replaced.
    """
    old = metadata_of(card)
    changed = {}
    for key, value in ours.items():
        before = old.get(key)
        if key in JOINED and before:
            listed = before if isinstance(before, list) else [before]
            value = [*listed, *(entry for entry in value if entry not in listed)]
        if before is None or ((key in replaced or key in JOINED) and before != value):
            changed[key] = value
    if not changed:
        return card
    end = "\r\n" if "\r\n" in card.opening + card.body else "\n"
    text = _spliced(card.yaml, {**old, **changed}, changed, end)
    if card.closing:
        return card._replace(yaml=text)
    return card._replace(opening=f"{card.opening}---{end}", yaml=text, closing=f"{end}---{end}")


def _spliced(text: str, wanted: dict[str, Any], changed: dict[str, Any], end: str) -> str:
    """Change some values in YAML and keep every other line; write it anew where that cannot be done."""
    import yaml

    spliced = text
    with contextlib.suppress(yaml.YAMLError):
        for key, value in changed.items():
            spliced = _with_value(spliced, key, _dumped({key: value}, end), end)
        if yaml.load(spliced, Loader=safe_loader()) == wanted:
            return spliced
    return _dumped(wanted, end)


def _dumped(values: Mapping[str, Any], end: str) -> str:
    """Write values as YAML; where a character cannot be seen, with escapes for all that are not ASCII."""
    import yaml

    def dump(unicode: bool) -> str:
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=unicode, width=math.inf)
        return str(text).rstrip("\n")

    text = dump(True)
    seen = text.replace("\n", "").isprintable()
    return (text if seen else dump(False)).replace("\n", end)


def _with_value(text: str, key: str, line: str, end: str) -> str:
    """Replace or add the top-level `key` of YAML by a line."""
    import yaml

    root = yaml.compose(text, Loader=safe_loader())
    for name, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if name.value == key:
            start, stop = name.start_mark.index, _last(value).end_mark.index
            return text[:start] + line + text[start + len(text[start:stop].rstrip()) :]
    between = "" if not text.strip() or text.endswith("\n") else end
    return f"{text}{between}{line}"


def _last(node: Any) -> Any:
    """Find the node with which a block ends: what stands between it and the next name is kept."""
    while isinstance(node.value, list) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def merged_body(body: str, section: str, heading: str) -> str:
    """Put our section into Markdown in place of the old one, else after everything, or under a heading.

    Raises:
        DataError: the marks around our section are not one of each, in order.
    """
    end = "\r\n" if "\r\n" in body else "\n"
    section = section.replace("\n", end)
    starts, ends = list(_START.finditer(body)), list(_END.finditer(body))
    if not starts and not ends:
        between = end if body.endswith("\n") else end + end
        before = f"{body}{between}" if body.strip() else f"{end}{heading}{end}{end}"
        return f"{before}{section}{end}"
    if len(starts) != 1 or len(ends) != 1 or starts[0].start() > ends[0].start():
        raise DataError(
            f"The card that is there has {len(starts)} lines {SECTION[0]} and {len(ends)} lines {SECTION[1]}; one of "
            "each, in this order, holds our section. Repair or remove them; nothing was overwritten."
        )
    return body[: starts[0].start()] + section + body[ends[0].end() :]
