import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_hardneg.audits.word_marks import LONGEST, marked, terms_of
from tests.hub.hostile import TEXTS


def runs(text, query, other=""):
    return [tuple(run) for run in marked(text, terms_of(query), terms_of(other))]


def test_shared_words_are_marked_by_their_stems():
    assert runs("The tides of the sea pull ships", "high tide", "a blue sea") == [
        ("The ", ""),
        ("tides", "query"),
        (" of the ", ""),
        ("sea", "shared"),
        (" pull ships", ""),
    ]


def test_what_differs_is_marked_where_a_text_is_like_the_other():
    other = "The sky of Mars is blue at sunset."
    assert runs("The sky of Mars is red at sunset.", "planets", other) == [
        ("The sky of Mars is ", ""),
        ("red", "differs"),
        (" at sunset.", ""),
    ]


def test_pairs_of_characters_are_words_where_scripts_have_no_spaces():
    assert ("東京", "query") in runs("東京の天気", "東京")


def test_a_text_without_words_or_anything_shared_is_one_run():
    assert runs("… !", "sky") == [("… !", "")] and runs("", "sky") == []
    assert runs("blue", "red", "green") == [("blue", "")]


@pytest.mark.parametrize("text", TEXTS)
def test_runs_are_the_text(text):
    for other in ("", text, "other"):
        assert "".join(words for words, _ in runs(text, "x", other)) == text


@given(st.text(), st.text(), st.text())
def test_runs_of_any_text_are_the_text(text, query, other):
    pieces = runs(text, query, other)
    assert "".join(words for words, _ in pieces) == text and all(words for words, _ in pieces)


def test_a_long_text_is_cut():
    pieces = runs("word " * LONGEST, "word")
    assert len("".join(words for words, _ in pieces)) == LONGEST + 1 and pieces[-1][0].endswith("…")
