"""Terms of many texts at once against the analyzer, text by text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_hardneg.errors import ConfigError
from hf_hardneg.text import numbered_words
from hf_hardneg.text.analysis import Analyzer
from hf_hardneg.text.numbered_words import NumberedWords

ANALYZERS = [
    Analyzer(),
    Analyzer(stem=False),
    Analyzer(language=None),
    Analyzer(lucene=True),
    Analyzer(language="turkish"),
]
LETTERS = "aCsz'.,+#_19 -\n\x00é文\u0131"
TEXTS = st.lists(
    st.one_of(st.text(LETTERS, max_size=14), st.text(LETTERS[:15], max_size=14), st.text(max_size=9)), max_size=8
)


@pytest.mark.parametrize("analyzer", ANALYZERS, ids=repr)
def test_terms_of_many_texts_are_those_of_each(analyzer):
    words = NumberedWords(analyzer, lambda terms: np.array([sum(term.encode()) % 5 - 1 for term in terms], np.int64))

    @given(TEXTS)
    def equal(texts):
        expected = [analyzer(text) for text in texts]
        assert words.terms(texts) == expected
        numbers, pointers = words.numbers(texts)
        told = [numbers[first:last].tolist() for first, last in itertools.pairwise(pointers)]
        assert told == [[n for term in terms if (n := sum(term.encode()) % 5 - 1) >= 0] for terms in expected]

    equal()


@pytest.mark.parametrize(
    "text", ["C++ and c# or F#x, abc++ 1,000.5 3.x x'S it's'", "c++'s a#'s _'s 1.2.3,4 1..2 a.1", "c++c#9 'tis 's s"]
)
def test_signs_within_words(text):
    assert NumberedWords(Analyzer(language=None)).terms([text, text]) == [Analyzer(language=None)(text)] * 2


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(numbered_words, "MOST_REMEMBERED", 3)
    words = NumberedWords(Analyzer(language=None))
    for text in ("aa bb", "cc dd", "ee aa", "aa ff"):
        assert words.terms([text]) == [text.split()]
    assert words.known.terms == ["ee", "aa", "ff"]


def test_what_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="got a int"):
        NumberedWords(Analyzer()).terms(["text", 3])
