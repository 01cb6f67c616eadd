"""Recipes are found here in the texts of others, descriptions and cards, and read as plain values of limited size.

Descriptions and cards are written by anybody, so every scan here takes time in proportion to the length of the text,
and sizes are looked at before anything is parsed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from hf_hardneg.errors import DataError

SECTION = ("<!-- hf_hardneg:start -->", "<!-- hf_hardneg:end -->")
"""What stands around our section of a card, on lines of their own."""
RECIPE = "<!-- hf_hardneg:recipe -->"
MOST_RECIPES, LONGEST, DEEPEST, LARGEST = 100, 1_000_000, 32, 10**9
"""Recipes on a card, characters of one, levels of its values, and numbers in its strategy and options but for seeds."""
_FENCE, _OPENING = "```", "```json\n"
_LINE = "hf_hardneg recipe: "
_SPACE = re.compile(r"\s*")


def in_description(description: str) -> list[str]:
    """Return the JSON of every recipe in the description of a dataset."""
    return [recipe for _, _, recipe in _lines(description)]


def without_recipes(description: str) -> str:
    """Cut the lines of recipes, and the empty lines before them, out of a description."""
    kept, last = [], 0
    for start, stop, _ in _lines(description):
        kept.append(description[last:start].rstrip("\n"))
        last = stop
    return "".join([*kept, description[last:]])


def described(description: str, recipe: str) -> str:
    """Put the JSON of a recipe into a description, in place of any recipes in it."""
    return f"{without_recipes(description)}\n\n{_LINE}{recipe}".strip()


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Find every line that holds a recipe: its start, stop and JSON."""
    start = text.find(_LINE)
    while start != -1:
        stop = text.find("\n", start)
        stop = len(text) if stop == -1 else stop
        value = text[start + len(_LINE) : stop]
        if (start == 0 or text[start - 1] == "\n") and value[:1] == "{" and value[-1:] == "}":
            yield start, stop, value
        start = text.find(_LINE, stop)


def in_card(card: str) -> Iterator[tuple[list[str], str]]:
    """Find each recipe in our section of a card: the configs that were made by it, and its JSON.

    Raises:
        DataError: the section holds too many.
    """
    card = card.replace("\r\n", "\n")
    start = _line(card, SECTION[0], 0)
    end = _line(card, SECTION[1], start) if start != -1 else -1
    mark, count = _line(card, RECIPE, start) if end != -1 else -1, 0
    while -1 < mark < end:
        place = mark + len(RECIPE)
        opening = _SPACE.match(card, place).end()  # type: ignore[union-attr]
        if card.startswith(_OPENING, opening) and card[opening - 1] == "\n":
            place = _line(card, _FENCE, opening + len(_OPENING))
            if not -1 < place < end:
                return
            count += 1
            if count > MOST_RECIPES:
                raise DataError(
                    f"The card holds more than {MOST_RECIPES} recipes; so many can be read. Remove those of configs "
                    "that are gone from its section of hf_hardneg."
                )
            block = card[opening + len(_OPENING) : place - 1]
            yield _configs(block), block
        mark = _line(card, RECIPE, place)


def _line(text: str, line: str, start: int) -> int:
    """Find where a whole line that is `line` begins, at `start` or after it; -1 where none does."""
    place = text.find(line, start)
    while place != -1:
        before, after = text[place - 1 : place], text[place + len(line) : place + len(line) + 1]
        if before in ("", "\n") and after in ("", "\n"):
            return place
        place = text.find(line, place + 1)
    return -1


def _configs(block: str) -> list[str]:
    try:
        return list(map(str, values_of(block)["configs"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def values_of(text: str) -> Any:
    """Parse JSON into plain finite values.

    Raises:
        ValueError: it is longer or deeper than a recipe is, no JSON, or holds what is no number.
        RecursionError: it is far deeper.
        TypeError: it is no text.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters, where {LONGEST:,} are allowed")
    value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    _check_depth(value)
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is no finite number")
    return number


def _check_depth(value: Any) -> None:
    """Raise where lists and dicts are nested deeper than `DEEPEST`, without recursion."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError(f"more than {DEEPEST} levels")


def check_sizes(value: Any, name: str = "") -> None:
    """Raise for whole numbers in plain values that no size of a strategy can be; seeds may be any.

    Raises:
        ValueError: naming the argument and the number.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_sizes(inner, key)
    elif isinstance(value, list):
        for inner in value:
            check_sizes(inner, name)
    elif isinstance(value, int | float) and abs(value) > LARGEST and name != "seed":
        raise ValueError(f"{name} is {str(value)[:20]}, where {LARGEST:,} is the largest")
