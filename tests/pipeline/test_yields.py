"""What mining says of its yield names the cause: each case is a small world with that cause alone."""

import pytest
from datasets import Dataset, disable_progress_bars, enable_progress_bars

from hf_hardneg import BM25, ScoreBounds, Strategy, mine

WORDS = ["lava", "rock", "chalk", "sand", "clay", "moss", "fern", "pine", "lake", "wind"]
CORPUS = [f"stone {WORDS[row % 10]} {WORDS[(3 * row + 1) % 10]} {row}" for row in range(30)]
ALIKE = [*CORPUS, *(f"stone {number}" for number in range(100, 200))]
MORE = [*CORPUS, *map(str, range(100, 200))]
PAIRS = Dataset.from_dict({"query": [f"stone {word}" for word in WORDS], "positive": CORPUS[:10]})


@pytest.fixture
def said(capsys, tmp_path):
    """Mine in the small world, and return what was said."""

    def of(*sources, **options):
        enable_progress_bars()
        try:
            mine(PAIRS, *sources, cache_dir=str(tmp_path), **options)
        finally:
            disable_progress_bars()
        return capsys.readouterr().err

    return of


@pytest.mark.parametrize(
    ("corpus", "filters", "wanted", "cause", "way"),
    [
        (
            ALIKE,
            [ScoreBounds(max_score=0.001)],
            9,
            "score_bounds took most",
            "loosen score_bounds (min_score, max_score) or search deeper than",
        ),
        (CORPUS, [], 40, "known_positive took most of these, 10 (3%)", "add documents: the corpus has 30, and a row"),
        (
            CORPUS,
            [ScoreBounds(max_score=0.001)],
            25,
            "score_bounds took most of these",
            "add documents to the 30 of the corpus",
        ),
        (MORE, [], 40, "known_positive took most", "search in another way than by bm25"),
    ],
    ids=["filter", "too small a corpus", "corpus", "search"],
)
def test_what_is_said_of_short_rows_names_what_gives_more(said, corpus, filters, wanted, cause, way):
    text = said(corpus, Strategy([BM25(10)], filters), num_negatives=wanted)
    assert f"10 of 10 rows have fewer than {wanted} negatives" in text and cause in text and way in text


def test_a_small_corpus_hears_what_safeguards_take(said):
    text = said(CORPUS, "bm25", num_negatives=2)
    assert "too_similar removed" in text and "of the 300 documents that the search found" in text
    assert "best, which of a corpus of 30 are most or all" in text and "--no-safeguards" in text
    assert "safeguards" not in said(CORPUS, "bm25", num_negatives=2, safeguards=False)
    assert "safeguards" not in said(MORE, "bm25", num_negatives=2)
