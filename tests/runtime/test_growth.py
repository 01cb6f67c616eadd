"""Texts of others are read in time that grows as they do: eight times the text takes about eight times as long."""

import contextlib
import time

import pytest

from hf_hardneg.errors import DataError, shown
from hf_hardneg.generate.validation import parsed
from hf_hardneg.hub.front_matter import merged_metadata, parts
from hf_hardneg.hub.push import fits
from hf_hardneg.text.masking import scrubbed
from hf_hardneg.text.recipe_text import RECIPE, SECTION, in_card, in_description, without_recipes
from hf_hardneg.text.words import compatible, lucene_words, words

SHORT, LONGER, MOST = 8_000, 8, 24
"""Characters, how many times as many, and how many times as long that may take: 8 is linear, 64 the square."""


def card(text):
    return list(in_card(f"{SECTION[0]}\n{text}\n{SECTION[1]}"))


def front(text):
    return merged_metadata(parts(f"---\ntags:\n- a\n{text}\nlast: 1\n---\n"), {"tags": ["b"]}, frozenset())


READERS = {
    "sections that never end": (lambda text: list(in_card(text)), f"{SECTION[0]}\n"),
    "recipes that never end": (card, f"{RECIPE}\n```json\n"),
    "recipes after empty lines": (card, f"{RECIPE}\n\n\n\n"),
    "empty lines of a description": (in_description, "\n"),
    "the same, left out": (without_recipes, "\n\n\nhf_hardneg recipe: {}"),
    "comments in YAML": (front, "#\n"),
    "YAML that never ends": (lambda text: parts(f"---\na: b\n{text}"), "--- \t"),
    "spaces in a fence": (lambda text: parsed(f"```{text}"), " "),
    "web tokens that never end": (scrubbed, "-eyJhbGciOi"),
    "paths": (scrubbed, "~/a"),
    "a glob of stars": (lambda text: fits("*a*a*a*a*a*a*a*b", text), "a"),
    "a glob of folders": (lambda text: fits("**/a/**/a/**/a/**/b", text), "a/"),
    "marks in two orders": (compatible, "\u0327\u0301"),
    "words of marks": (words, "a\u0301\u0327"),
    "underscores": (lucene_words, "_"),
    "underscores with marks": (lucene_words, "_\u0301"),
    "a long number": (lucene_words, "1,"),
    "a long word of another script": (lucene_words, "\u05d0\u0301"),
    "escapes of a terminal": (shown, "\x1b["),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", READERS)
def test_reading_takes_time_as_the_text_is_long(what):
    read, unit = READERS[what]

    def seconds(length):
        text, tries = unit * (length // len(unit)), []
        for _ in range(3):
            start = time.process_time()
            with contextlib.suppress(DataError):
                read(text)
            tries.append(time.process_time() - start)
        return max(min(tries), 1e-4)

    assert seconds(LONGER * SHORT) / seconds(SHORT) < MOST


@pytest.mark.parametrize(
    ("pattern", "path", "fitting"),
    [
        ("list/train-*", "list/train-00000-of-00001.parquet", True),
        ("list/train-*", "list/more/train-0.parquet", False),
        ("*", "a.parquet", True),
        ("*", "list/a.parquet", False),
        ("**", "list/more/a.parquet", True),
        ("**/*.parquet", "a.parquet", True),
        ("data/**/test-?.parquet", "data/x/y/test-1.parquet", True),
        ("data/**/test-?.parquet", "data/test-12.parquet", False),
        ("[!a]*", "b.parquet", True),
        ("[!a]*", "a.parquet", False),
    ],
)
def test_patterns_fit_what_datasets_takes_them_to(pattern, path, fitting):
    import re

    from fsspec.utils import glob_translate

    assert fits(pattern, path) == fitting == bool(re.match(glob_translate(pattern), path))


def test_long_words_and_runs_of_joining_characters_are_those_of_before():
    assert lucene_words("__a__ __ _ b_ ___") == ["__a__", "b_"]
    assert lucene_words("x" * 600) == ["x" * 255, "x" * 255, "x" * 90]
    assert lucene_words("\u00e4" * 300 + " " * 5000 + "b") == ["\u00e4" * 255, "\u00e4" * 45, "b"]
    assert compatible("e\u0301 \ufb01") == "\u00e9 fi"
