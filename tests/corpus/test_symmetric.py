"""Pairs that hold in both directions, against searches through the graph of their texts."""

import numpy as np
import pytest
from datasets import Dataset

from hf_hardneg import HardNegatives, mine, plan, recipe_of, sweep
from hf_hardneg.cli import main
from hf_hardneg.errors import ConfigError, HardNegWarning
from hf_hardneg.text.keys import text_keys
from hf_hardneg.training import known_positives

QUESTIONS = [f"question {name}" for name in "abcdefghijklmnop"]


def linked(text, pairs):
    """All texts that pairs link with one, without itself."""
    seen, waiting = {text.casefold()}, [text.casefold()]
    while waiting:
        here = waiting.pop()
        for pair in pairs:
            both = [one.casefold() for one in pair]
            if here in both:
                waiting += [one for one in both if one not in seen]
                seen |= set(both)
    return seen - {text.casefold()}


def mined_of(pairs, corpus, **options):
    options = {"strategy": "random", "num_negatives": len(corpus), "symmetric": True, **options}
    return mine(pairs, corpus, **options)


@pytest.mark.slow
@pytest.mark.parametrize("dedupe", ["normalized", "exact", "off"])
@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_negative_is_linked_with_its_query(seed, by_id, dedupe):
    rng = np.random.default_rng(seed)
    links = [tuple(rng.choice(QUESTIONS, 2, replace=False)) for _ in range(7)]
    ids = {text: f"q{number}" for number, text in enumerate(QUESTIONS)}
    rows = [
        {"query": one, ("positive_ids" if by_id else "positive"): ids[other] if by_id else other}
        for one, other in links
    ]
    corpus = Dataset.from_dict({"_id": list(ids.values()), "text": QUESTIONS})
    mined = mined_of(Dataset.from_list(rows), corpus, dedupe=dedupe)
    for row in mined:
        away = linked(row["query"], links) | {row["query"]}
        assert sorted(row["negatives"]) == [text for text in QUESTIONS if text not in away]


def test_one_direction_is_what_is_listed():
    pairs = Dataset.from_dict({"query": ["a", "b"], "positive": ["b", "c"]})
    corpus = Dataset.from_dict({"text": ["a", "b", "c", "d"]})
    assert [sorted(row["negatives"]) for row in mined_of(pairs, corpus, symmetric=False)] == [["c", "d"], ["a", "d"]]
    assert [row["negatives"] for row in mined_of(pairs, corpus)] == [["d"], ["d"]]


def test_rows_of_one_query_id_and_copies_under_other_ids_are_linked():
    pairs = Dataset.from_dict(
        {"query_id": ["1", "1", "2"], "query": ["a", "A again", "b"], "positive_ids": ["db", "dc", "de"]}
    )
    corpus = Dataset.from_dict({"_id": ["da", "da2", "db", "dc", "de", "df"], "text": ["a", " A ", "b", "c", "e", "f"]})
    assert [row["negatives"] for row in mined_of(pairs, corpus)] == [["f"]] * 3


def test_texts_outside_the_corpus_link_too():
    pairs = Dataset.from_dict({"query": ["a", "b"], "positive": ["outside", "Outside"]})
    corpus = Dataset.from_dict({"text": ["a", "b", "c"]})
    with pytest.warns(HardNegWarning, match="0% of 2 positives"):
        assert [row["negatives"] for row in mined_of(pairs, corpus)] == [["c"], ["c"]]


def test_other_known_positives_link_too():
    pairs = Dataset.from_dict({"query": ["a"], "positive": ["b"]})
    beside = Dataset.from_dict({"query": ["c"], "positive": ["b"]})
    corpus = Dataset.from_dict({"text": ["a", "b", "c", "d"]})
    assert sorted(mined_of(pairs, corpus)[0]["negatives"]) == ["c", "d"]
    assert mined_of(pairs, corpus, known_positives=[beside])[0]["negatives"] == ["d"]


def test_the_query_is_no_positive_of_its_own():
    pairs = Dataset.from_dict({"query": ["red fox", "red hen"], "positive": ["red hen", "red dog"]})
    corpus = Dataset.from_dict({"text": ["red fox", "red hen", "red dog", "red cat"]})
    miner = HardNegatives(corpus, "bm25", known_positives=[pairs], symmetric=True)
    table = pairs.with_format("arrow")[:]
    queries = miner.retrieval.reader.read(dict(zip(table.column_names, table.columns, strict=True)))
    texts = queries.positives.texts(miner.retrieval.reader.corpus)
    assert [sorted(np.array(texts)[queries.positives.query == row]) for row in range(2)] == [
        ["red dog", "red hen"],
        ["red dog", "red fox"],
    ]


def test_a_near_query_is_linked_too():
    pairs = Dataset.from_dict({"query": ["fast red fox", "Red fox, fast!"], "positive": ["x one", "y two"]})
    corpus = Dataset.from_dict({"text": ["fast red fox", "x one", "y two", "red fox hen", "fast fox of red hens"]})
    negatives = [set(row["negatives"]) for row in mined_of(pairs, corpus, strategy="bm25")]
    assert negatives == [{"red fox hen", "fast fox of red hens"}] * 2


def test_it_needs_pairs():
    corpus = Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(
        ConfigError, match=r"symmetric=True reads pairs in both directions and got none.*known_positives="
    ):
        HardNegatives(corpus, "bm25", symmetric=True)


def test_everything_that_mines_takes_it_and_keeps_results_apart(tmp_path, capsys):
    pairs = Dataset.from_dict({"query": ["a one", "b one"], "positive": ["b one", "c one"]})
    corpus = Dataset.from_dict({"text": ["a one", "b one", "c one", "d one"]})
    plain = mined_of(pairs, corpus, symmetric=False, strategy="bm25", safeguards=False)
    both = mined_of(pairs, corpus, strategy="bm25", safeguards=False)
    assert plain[1]["negatives"] == ["a one", "d one"] and both[1]["negatives"] == ["d one"]
    assert recipe_of(both).options["symmetric"] is True and "symmetric=True," in recipe_of(both).code()
    assert "symmetric=False," in recipe_of(plain).code()
    assert plan(pairs, corpus, "bm25", symmetric=True).rows == 2
    (setting,) = sweep(pairs, corpus, "random", rank_window=[0], options={"symmetric": True})
    assert setting.report.funnel["known_positive"] == 6
    for name, rows in (("pairs", pairs), ("corpus", corpus)):
        rows.to_parquet(tmp_path / f"{name}.parquet")
    files = [f"--pairs={tmp_path}/pairs.parquet", f"--corpus={tmp_path}/corpus.parquet"]
    assert main(["mine", *files, "--strategy=random", "--symmetric", f"--out={tmp_path}/out"]) == 0
    assert "a one" not in Dataset.load_from_disk(str(tmp_path / "out"))["negatives"][1]


def test_the_table_of_a_collator_links_them_too():
    pairs = Dataset.from_dict({"query_id": ["1", "2"], "query": ["a", "b"], "positive": [["b", "x"], ["C"]]})
    for symmetric, expected in ((False, [["b", "x"], ["C"], []]), (True, [["C", "a", "b", "x"]] * 3)):
        owner, _, _, texts = known_positives(pairs, symmetric=symmetric).of(text_keys(["a", "b", "c"], "normalized"))
        assert [sorted(np.array(texts)[owner == place]) for place in range(3)] == expected
