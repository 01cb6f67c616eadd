"""Layouts of other trainers: worked out by hand, and back again."""

import doctest
import itertools
import json
import logging
import re

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg import from_format, mine, save_format, to_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError, UnknownNameError
from hf_hardneg.formats import LAYOUTS, exporting, files, importing, merging
from tests.worlds import world

pytestmark = pytest.mark.filterwarnings("ignore:.* rows have (fewer than|no negative):hf_hardneg.errors.HardNegWarning")
MINED = {
    "query_id": ["a", "b", "c"],
    "query": ["q1", "q2", "q3"],
    "positive": [["p1", "p2"], ["p3"], ["p4"]],
    "positive_ids": [["10", "11"], ["12"], ["13"]],
    "positive_scores": [[0.75, 1.0], [2.0], [3.0]],
    "negatives": [["n1", "n2"], ["n3"], []],
    "negative_ids": [["1", "2"], ["3"], []],
    "negative_scores": [[0.5, 0.25], [0.125], []],
    "negative_sources": [["dense", "bm25"], ["bm25"], []],
}

FIRST = {
    "flagembedding": {
        "query": "q1",
        "pos": ["p1", "p2"],
        "neg": ["n1", "n2"],
        "pos_scores": [0.75, 1.0],
        "neg_scores": [0.5, 0.25],
    },
    "tevatron": {
        "query_id": "a",
        "query": "q1",
        "positive_passages": [
            {"docid": "10", "text": "p1", "score": 0.75},
            {"docid": "11", "text": "p2", "score": 1.0},
        ],
        "negative_passages": [
            {"docid": "1", "text": "n1", "score": 0.5},
            {"docid": "2", "text": "n2", "score": 0.25},
        ],
    },
    "tevatron-v2": {
        "query_id": "a",
        "query_text": "q1",
        "query_image": None,
        "positive_document_ids": ["10", "11"],
        "negative_document_ids": ["1", "2"],
    },
    "pylate-kd": {"query_id": "a", "document_ids": ["10", "1", "2"], "scores": [0.75, 0.5, 0.25]},
    "colbert": {"qid": 0, "positive_pid": 0, "negative_pid": 4},
    "colbert-nway": {"qid": 0, "pids": [0, 4, 5], "scores": [0.75, 0.5, 0.25]},
    "nemo": {"query": "q1", "pos_doc": ["p1", "p2"], "neg_doc": ["n1", "n2"]},
    "nemo-ids": {
        "question_id": "a",
        "question": "q1",
        "corpus_id": "corpus",
        "pos_doc": [{"id": "10", "score": 0.75}, {"id": "11", "score": 1.0}],
        "neg_doc": [{"id": "1", "score": 0.5}, {"id": "2", "score": 0.25}],
    },
    "contrastors": {
        "query": "q1",
        "document": "p1",
        "negatives": ["n1", "n2"],
        "document_score": 0.75,
        "negatives_scores": [0.5, 0.25],
        "metadata": {"objective": {"self": [], "paired": [], "triplet": [["query", "document", "negatives"]]}},
    },
    "ms-swift": {
        "messages": [{"role": "user", "content": "q1"}],
        "positive_messages": [[{"role": "user", "content": "p1"}], [{"role": "user", "content": "p2"}]],
        "negative_messages": [[{"role": "user", "content": "n1"}], [{"role": "user", "content": "n2"}]],
    },
    "ms-swift-reranker": {
        "messages": [{"role": "user", "content": "q1"}],
        "positive_messages": [[{"role": "assistant", "content": "p1"}], [{"role": "assistant", "content": "p2"}]],
        "negative_messages": [[{"role": "assistant", "content": "n1"}], [{"role": "assistant", "content": "n2"}]],
    },
    "msmarco-hard-negatives": {"qid": "a", "pos": ["10", "11"], "neg": {"bm25": ["2"], "dense": ["1"]}},
}
"""The first row of each, with scores where there is a place for them."""


def converted(mined, layout, **options):
    return to_format(mined, layout, scores=LAYOUTS[layout].scores != "never", **options)


@pytest.mark.parametrize("layout", FIRST)
def test_worked_out_by_hand(layout):
    made = converted(Dataset.from_dict(MINED), layout)
    rows = made[LAYOUTS[layout].rows] if LAYOUTS[layout].documents else made
    assert rows[0] == FIRST[layout]


def test_tables_hold_each_text_once():
    made = to_format(Dataset.from_dict(MINED), "colbert")
    assert made["queries"].to_dict() == {"qid": [0, 1, 2], "text": ["q1", "q2", "q3"], "query_id": ["a", "b", "c"]}
    assert made["collection"]["text"][:] == ["p1", "p2", "p3", "p4", "n1", "n2", "n3"]
    assert made["collection"]["document_id"][:] == ["10", "11", "12", "13", "1", "2", "3"]
    assert to_format(Dataset.from_dict(MINED), "pylate-kd")["documents"].column_names == ["document_id", "text"]


def carried(rows, layout, width):
    """What of some rows a layout can carry, said once more in plain Python."""
    shape = LAYOUTS[layout]
    kept = []
    for row in rows:
        full = len(row["negatives"]) == width if shape.equal else len(row["negatives"]) > 0
        if not full and layout != "labeled-pair":
            continue
        names = ["query", "positive", "negatives"]
        names += ["query_id", "positive_ids", "negative_ids"] if shape.ids else []
        if shape.scores != "never" and layout != "labeled-pair":
            names += ["positive_scores", "negative_scores"]
        names += ["negative_sources"] if layout == "msmarco-hard-negatives" else []
        kept.append({name: row[name] for name in names})
    return kept


def mined_rows(sizes):
    rows = []
    for number, (positives, negatives) in enumerate(sizes):
        row = {"query_id": f"Q{number}", "query": f"query {number}"}
        for kind, texts, size in (("positive", "positive", positives), ("negative", "negatives", negatives)):
            row[texts] = [f"{kind} {number} \u00fc\u2028 {i}" for i in range(size)]
            row[f"{kind}_ids"] = [f"{kind[0]}{number}-{i}" for i in range(size)]
            row[f"{kind}_scores"] = [number / 8 + i / 1024 + 2.0**-20 for i in range(size)]
        row["negative_sources"] = ["bm25" if 2 * i < negatives else "dense" for i in range(negatives)]
        rows.append(row)
    return rows


sizes = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=6)


@settings(max_examples=8, deadline=None)
@given(sizes)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, sizes):
    rows = mined_rows([*sizes, (2, 3), (1, 3)])
    scores = layout != "labeled-pair" and LAYOUTS[layout].scores != "never"
    made = to_format(Dataset.from_list(rows), layout, scores=scores)
    back = from_format(made, None if layout != "ms-swift-reranker" else layout)
    assert list(back) == carried(rows, layout, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_through_files(layout, tmp_path):
    rows = mined_rows([(2, 3), (1, 2), (1, 3)])
    scores = layout != "labeled-pair" and LAYOUTS[layout].scores != "never"
    written = save_format(to_format(Dataset.from_list(rows), layout, scores=scores), layout, tmp_path / "out")
    back = list(from_format(tmp_path / "out" if len(written) > 1 else written[0]))
    expected = carried(rows, layout, 3)
    if layout.startswith("colbert"):
        for row in [*back, *expected]:
            del row["positive_ids"], row["negative_ids"]
        for row in expected:
            row |= {name: [re.sub("[\t\n]+", " ", text) for text in row[name]] for name in ("positive", "negatives")}
    assert back == expected


ODD = [
    "a\u2028b\u2029c",
    "q \"uote' s",
    "  two  spaces  ",
    "00123",
    "1e3",
    "null",
    "\\N",
    "NaN",
    "\x1c\x85x",
    "[1]",
    "\ufeffbom",
]
TIMES = [f"2021-01-01T00:00:{second:02}" for second in range(60)]
LONG = [f"{number} " + "x y " * (400_000 if number == 5 else 1) for number in range(24)]


@pytest.mark.parametrize("texts", [ODD, TIMES, LONG], ids=["odd", "times", "long"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_texts_and_ids_through_files(layout, texts, tmp_path):
    """What looks like something else to a reader of JSON or TSV, in texts and in ids."""
    ids = [one if texts is TIMES else f"{place:03}" for place, one in enumerate(TIMES)]
    chosen, named = itertools.cycle(texts), itertools.cycle(ids)
    rows = [
        {
            "query_id": ids[-1 - number],
            "query": texts[number % len(texts)],
            "positive": [next(chosen)],
            "positive_ids": [next(named)],
            "negatives": [next(chosen), next(chosen)],
            "negative_ids": [next(named), next(named)],
            "positive_scores": [2.0],
            "negative_scores": [1.0, 0.5],
        }
        for number in range(8)
    ]
    save_format(to_format(Dataset.from_list(rows), layout), layout, tmp_path / "out")
    back = from_format(tmp_path / "out", layout)
    back = back["train"] if isinstance(back, DatasetDict) else back
    names = ["query", "positive", "negatives"]
    if "query_id" in back.column_names and not layout.startswith("colbert"):
        names += ["query_id", "positive_ids", "negative_ids"]
    assert [{name: row[name] for name in names} for row in back] == [
        {name: row[name] for name in names} for row in rows
    ]


def test_shards_of_a_table_are_read_as_one(tmp_path):
    rows = Dataset.from_dict({"query": ["a", "b", "c"], "positive": ["p"] * 3, "negative": ["n"] * 3})
    for place in range(2):
        part = rows.shard(2, place, contiguous=True)
        part.to_parquet(tmp_path / f"train-0000{place}-of-00002.parquet")
    assert list(files.read_format(tmp_path, None)) == ["train"]
    assert files.read_format(tmp_path, None)["train"]["query"][:] == ["a", "b", "c"]


def test_neighbours_are_joined_across_batches(monkeypatch):
    monkeypatch.setattr(merging, "BATCH", 3)
    rows = mined_rows([(2, 3), (1, 2), (3, 3)])
    made = to_format(Dataset.from_list(rows), "triplet")
    names = ("query", "positive", "negatives")
    assert list(from_format(made)) == [{name: row[name] for name in names} for row in rows]


def test_mined_data_with_a_corpus():
    pairs, corpus = world(5)
    mined = mine(pairs, corpus, num_negatives=3).remove_columns([])
    texts = dict(zip(corpus["_id"], corpus["text"], strict=True))
    for layout in ("tevatron-v2", "pylate-kd", "nemo-ids"):
        made = to_format(mined, layout, corpus=corpus)
        table = made[LAYOUTS[layout].documents]
        assert dict(zip(*table.to_dict().values(), strict=True)) == texts
        for row in from_format(made):
            assert row["negatives"] == [texts[one] for one in row["negative_ids"]]
    triples = to_format(mined, "colbert", corpus=corpus)
    assert triples["collection"]["text"][:] == corpus["text"][:]


def test_positives_without_ids_are_found_by_text():
    corpus = Dataset.from_dict({"_id": [str(i) for i in range(9)], "text": [*"pqrs", "n1", "n2", "n3", "p1", "p2"]})
    mined = Dataset.from_dict(MINED | {"negative_ids": [["4", "5"], ["6"], []]}).remove_columns(["positive_ids"])
    made = to_format(mined.select([0]), "tevatron-v2", corpus=corpus)
    assert made["train"]["positive_document_ids"][:] == [["7", "8"]]
    with pytest.raises(DataError, match="2 positives are not in the corpus by their text, such as 'p3'"):
        to_format(mined, "tevatron-v2", corpus=corpus)
    with pytest.raises(ColumnError, match="no column 'positive_ids'. Give corpus="):
        to_format(mined, "tevatron")


def test_queries_without_ids_are_numbered():
    mined = Dataset.from_dict(MINED | {"query": ["q", "r", "q"]}).remove_columns(["query_id"])
    assert to_format(mined.select([2, 1, 0]), "tevatron")["query_id"][:] == ["1", "0"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"negative_ids": [["1", ""], ["3"], []]}, "1 values of 'negative_ids' are missing or empty"),
        ({"query_id": ["a", None, "c"]}, "1 values of 'query_id' are missing or empty"),
        ({"negative_ids": [["1", "10"], ["3"], []]}, "1 document ids have more than one text, such as '10'"),
        ({"query_id": ["a", "a", "c"]}, "1 query ids have more than one text"),
        ({"positive_ids": [["10"], ["12"], ["13"]]}, "another number of 'positive_ids' than of 'positive'"),
    ],
)
def test_bad_ids(changed, message):
    with pytest.raises(DataError, match=message):
        to_format(Dataset.from_dict(MINED | changed), "pylate-kd")


def test_ids_that_the_corpus_lacks_or_has_twice():
    mined, ids = Dataset.from_dict(MINED), ["10", "11", "12", "13", "1", "2"]
    corpus = Dataset.from_dict({"_id": ids, "text": ids})
    with pytest.raises(DataError, match="1 document ids that rows name are not in the table of documents, such as '3'"):
        to_format(mined, "pylate-kd", corpus=corpus)
    with pytest.raises(DataError, match="1 ids of the corpus stand more than once, such as '10'"):
        to_format(mined, "pylate-kd", corpus=Dataset.from_dict({"_id": [*ids, "10"], "text": [*ids, "x"]}))
    made = to_format(mined, "pylate-kd")
    made["documents"] = made["documents"].select([0])
    with pytest.raises(DataError, match="not in the table of documents"):
        from_format(made)


def test_errors(tmp_path):
    mined = Dataset.from_dict(MINED)
    with pytest.raises(ConfigError, match="scores=True, and the layout 'nemo' has no place for them"):
        to_format(mined, "nemo", scores=True)
    with pytest.raises(ConfigError, match="'colbert' is several tables for one split"):
        to_format(DatasetDict({"train": mined}), "colbert")
    with pytest.raises(UnknownNameError, match="Did you mean 'tevatron'"):
        from_format(mined, "tevatrom")
    with pytest.raises(UnknownNameError, match="Unknown layout 'list'"):
        save_format(mined, "list", tmp_path)
    with pytest.raises(ColumnError, match="'x' are those of no layout. Known are flagembedding: query, pos, neg;"):
        from_format(Dataset.from_dict({"x": [1]}))
    with pytest.raises(ColumnError, match="'flagembedding' needs 'pos', 'neg'"):
        from_format(Dataset.from_dict({"query": ["x"]}), "flagembedding")
    with pytest.raises(ConfigError, match="no table 'corpus'"):
        from_format(to_format(mined, "tevatron-v2")["train"])
    with pytest.raises(ConfigError, match="do not say which documents are positive"):
        from_format(to_format(mined, "labeled-pair", scores=True))


def test_what_is_lost_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, "hf_hardneg"):
        to_format(Dataset.from_dict(MINED), "nemo")
    assert caplog.text.count("does not carry: rows without negatives, scores, ids, ranks, sources") == 1


def test_pairs_splits_titles_and_integers():
    pair = Dataset.from_dict({"question": ["q", "r"], "answer": ["a", "b"]})
    assert from_format(pair)[1] == {"query": "r", "positive": ["b"], "negatives": []}
    assert list(from_format(DatasetDict({"train": pair, "dev": pair.select([0])}))) == ["train", "dev"]
    passage = {"docid": 7, "title": "T", "text": "x"}
    row = {"query_id": 3, "query": "q", "positive_passages": [passage], "negative_passages": [passage | {"title": ""}]}
    back = from_format(Dataset.from_list([row]))[0]
    assert back["query_id"] == "3" and back["positive_ids"] == ["7"]
    assert back["positive"] == ["T x"] and back["negatives"] == ["x"]


def test_beir(tmp_path):
    (tmp_path / "qrels").mkdir()
    for name, rows in {
        "corpus": [{"_id": f"d{i}", "title": "T" * i, "text": f"text {i}"} for i in range(3)],
        "queries": [{"_id": "q0", "text": "first"}, {"_id": "q1", "text": "second"}],
    }.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["query-id\tcorpus-id\tscore", "q1\td2\t1", "q0\td0\t0", "q1\td0\t0", "q1\td1\t2"]
    (tmp_path / "qrels" / "train.tsv").write_text("\n".join(lines))
    assert list(from_format(tmp_path)) == [
        {
            "query_id": "q1",
            "query": "second",
            "positive": ["TT text 2", "T text 1"],
            "positive_ids": ["d2", "d1"],
            "negatives": ["text 0"],
            "negative_ids": ["d0"],
        }
    ]
    (tmp_path / "qrels" / "train.tsv").write_text("\n".join([lines[0], "q1\td9\t1"]))
    with pytest.raises(DataError, match="1 document ids that rows name are not in the table"):
        from_format(tmp_path)


def test_examples():
    for module in (exporting, importing, files):
        assert doctest.testmod(module).failed == 0
