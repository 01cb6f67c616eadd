"""Layouts of other trainers: worked out by hand, and back again."""

import doctest
import itertools
import json
import logging
import re

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_hardneg import from_format, mine, save_format, to_format
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning, UnknownNameError
from hf_hardneg.formats import LAYOUTS, exporting, files, importing, merging
from tests.worlds import world

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
    "pylate-kd": {"query_id": "a", "document_ids": ["10", "1", "2"], "scores": [1.0, 0.5, 0.0]},
    "colbert": {"qid": 0, "positive_pid": 0, "negative_pid": 2},
    "colbert-nway": {"qid": 0, "pids": [0, 2, 3], "scores": [0.75, 0.5, 0.25]},
    "nemo": {"query": "q1", "pos_doc": ["p1"], "neg_doc": ["n1", "n2"]},
    "nemo-ids": {
        "question_id": "a",
        "question": "q1",
        "corpus_id": "corpus",
        "pos_doc": [{"id": "10", "score": 0.75}],
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
        "positive_messages": [[{"role": "user", "content": "p1"}]],
        "negative_messages": [[{"role": "user", "content": "n1"}], [{"role": "user", "content": "n2"}]],
    },
    "ms-swift-reranker": {
        "messages": [{"role": "user", "content": "q1"}],
        "positive_messages": [[{"role": "assistant", "content": "p1"}]],
        "negative_messages": [[{"role": "assistant", "content": "n1"}], [{"role": "assistant", "content": "n2"}]],
    },
    "msmarco-hard-negatives": {"qid": "a", "pos": ["10", "11"], "neg": {"bm25": ["2"], "dense": ["1"]}},
}
"""The first row of each, with scores where there is a place for them."""


WHOLE = {name: values[:2] for name, values in MINED.items()}
"""The rows that no layout leaves out, but for those of equally many negatives."""


def scores_of(layout):
    """The retriever's scores, where the layout has a place for them."""
    return None if LAYOUTS[layout].scores == "never" else "retriever"


@pytest.mark.parametrize("layout", FIRST)
def test_worked_out_by_hand(layout):
    made = to_format(Dataset.from_dict(MINED).select([0]), layout, scores=scores_of(layout))
    rows = made[LAYOUTS[layout].rows] if LAYOUTS[layout].documents else made
    assert rows[0] == FIRST[layout]


def test_tables_hold_each_text_once():
    with pytest.warns(HardNegWarning, match="1 of 3 rows are left out of the layout 'colbert': 1 have no negative"):
        made = to_format(Dataset.from_dict(MINED), "colbert")
    assert made["queries"].to_dict() == {"qid": [0, 1, 2], "text": ["q1", "q2", "q3"], "query_id": ["a", "b", "c"]}
    assert made["collection"]["text"][:] == ["p1", "p2", "p3", "p4", "n1", "n2", "n3"]
    assert made["collection"]["document_id"][:] == ["10", "11", "12", "13", "1", "2", "3"]
    kd = to_format(Dataset.from_dict(MINED).select([0]), "pylate-kd", scores="retriever")
    assert kd["documents"].column_names == ["document_id", "text"]


def carried(rows, layout, width=None):
    """What a layout says it carries of some rows, said once more in plain Python."""
    lost = re.split("[,;] ", LAYOUTS[layout].loses)
    kept = []
    for row in rows:
        few = {
            "rows without positives or negatives": not (row["positive"] and row["negatives"]),
            "rows without positives": not row["positive"],
            "rows with fewer negatives than others": len(row["negatives"]) < (width or 0),
            "rows without documents": not (row["positive"] or row["negatives"]),
        }
        if any(few[what] for what in lost if what in few):
            continue
        names = ["query", "positive", "negatives"]
        names += ["query_id", "positive_ids", "negative_ids"] * ("ids" not in lost)
        names += ["positive_scores", "negative_scores"] * ("scores" not in lost and layout != "labeled-pair")
        names += ["negative_sources"] * ("sources" not in lost)
        cut = {name: row[name] if name[:3] != "neg" else row[name][:width] for name in names}
        kept += apart_and_stretched(cut) if "the scale of scores" in lost else [cut]
    return kept


def apart_and_stretched(row):
    """A row for each positive, its scores between 0 and 1; of neighbours that stay equal but for the positive, one."""
    rows = []
    for place in range(len(row["positive"])):
        one = row | {name: [row[name][place]] for name in ("positive", "positive_ids", "positive_scores")}
        scores = [*one["positive_scores"], *one["negative_scores"]]
        low, high = min(scores), max(scores)
        first, *rest = [float(np.float32((score - low) / (high - low or 1))) for score in scores]
        one |= {"positive_scores": [first], "negative_scores": rest}
        if rows and rows[-1]["negative_scores"] == rest:
            for name in ("positive", "positive_ids", "positive_scores"):
                rows[-1][name] += one[name]
        else:
            rows.append(one)
    return rows


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


sizes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(sizes)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, sizes):
    """Rows without positives, with three, without negatives; a column of the user's own beside."""
    rows = mined_rows([*sizes, (2, 3), (3, 3), (0, 3)])
    scores = None if layout == "labeled-pair" else scores_of(layout)
    own = [row | {"language": "en"} for row in rows]
    with pytest.warns(HardNegWarning) as told:
        made = to_format(Dataset.from_list(own), layout, scores=scores, num_negatives=3)
    expected = carried(rows, layout, 3)
    missing = len(rows) - len({row["query"] for row in expected})
    assert len(told) == 1 and "no place for 'language'" in str(told[0].message)
    if missing:
        assert str(told[0].message).startswith(f"{missing} of {len(rows)} rows ")
    back = from_format(made, None if layout != "ms-swift-reranker" else layout)
    assert list(back) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_warned_of_where_nothing_is_lost(layout):
    to_format(Dataset.from_list(mined_rows([(1, 3), (3, 3)])), layout, scores=scores_of(layout))


@pytest.mark.filterwarnings("ignore:1 of 3 rows are left out:hf_hardneg.errors.HardNegWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_through_files(layout, tmp_path):
    rows = mined_rows([(2, 3), (1, 2), (1, 3)])
    scores = None if layout == "labeled-pair" else scores_of(layout)
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


@pytest.mark.slow
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
    scores = "retriever" if layout == "pylate-kd" else None
    save_format(to_format(Dataset.from_list(rows), layout, scores=scores), layout, tmp_path / "out")
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
        made = to_format(mined, layout, corpus=corpus, scores="retriever" if layout == "pylate-kd" else None)
        table = made[LAYOUTS[layout].documents]
        assert dict(zip(*table.to_dict().values(), strict=True)) == texts
        for row in from_format(made):
            assert row["negatives"] == [texts[one] for one in row["negative_ids"]]
    triples = to_format(mined, "colbert", corpus=corpus)
    assert triples["collection"]["text"][:] == corpus["text"][:]


def test_positives_without_ids_are_found_by_text():
    corpus = Dataset.from_dict({"_id": [str(i) for i in range(9)], "text": [*"pqrs", "n1", "n2", "n3", "p1", "p2"]})
    mined = Dataset.from_dict(WHOLE | {"negative_ids": [["4", "5"], ["6"]]}).remove_columns(["positive_ids"])
    made = to_format(mined.select([0]), "tevatron-v2", corpus=corpus)
    assert made["train"]["positive_document_ids"][:] == [["7", "8"]]
    with pytest.raises(DataError, match="1 positives are not in the corpus by their text, such as 'p3'"):
        to_format(mined, "tevatron-v2", corpus=corpus)
    with pytest.raises(ColumnError, match="no column 'positive_ids'. Give corpus="):
        to_format(mined, "tevatron")


def test_queries_without_ids_are_numbered():
    mined = Dataset.from_dict(WHOLE | {"query": ["q", "r"]}).remove_columns(["query_id"])
    assert to_format(mined.select([1, 1, 0]), "tevatron")["query_id"][:] == ["0", "0", "1"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"negative_ids": [["1", ""], ["3"]]}, "1 values of 'negative_ids' are missing or empty"),
        ({"query_id": ["a", None]}, "1 values of 'query_id' are missing or empty"),
        ({"negative_ids": [["1", "10"], ["3"]]}, "1 document ids have more than one text, such as '10'"),
        ({"query_id": ["a", "a"]}, "1 query ids have more than one text"),
        ({"positive_ids": [["10"], ["12"]]}, "another number of 'positive_ids' than of 'positive'"),
    ],
)
def test_bad_ids(changed, message):
    with pytest.raises(DataError, match=message):
        to_format(Dataset.from_dict(WHOLE | changed), "tevatron-v2")


def test_ids_that_the_corpus_lacks_or_has_twice():
    mined, ids = Dataset.from_dict(WHOLE), ["10", "11", "12", "13", "1", "2"]
    corpus = Dataset.from_dict({"_id": ids, "text": ids})
    with pytest.raises(DataError, match="1 document ids that rows name are not in the table of documents, such as '3'"):
        to_format(mined, "tevatron-v2", corpus=corpus)
    with pytest.raises(DataError, match="1 ids of the corpus stand more than once, such as '10'"):
        to_format(mined, "tevatron-v2", corpus=Dataset.from_dict({"_id": [*ids, "10"], "text": [*ids, "x"]}))
    made = to_format(mined, "tevatron-v2")
    made["corpus"] = made["corpus"].select([0])
    with pytest.raises(DataError, match="not in the table of documents"):
        from_format(made)


def test_errors(tmp_path):
    mined = Dataset.from_dict(WHOLE)
    with pytest.raises(ConfigError, match="scores=True, and the layout 'nemo' has no place for them"):
        to_format(mined, "nemo", scores=True)
    with pytest.raises(ConfigError, match="'colbert' is several tables for one split"):
        to_format(DatasetDict({"train": mined}), "colbert")
    with pytest.raises(UnknownNameError, match="Did you mean 'tevatron'"):
        from_format(mined, "tevatrom")
    with pytest.raises(UnknownNameError, match="Unknown layout 'list'"):
        save_format(mined, "list", tmp_path)
    with pytest.raises(ColumnError, match="'x' are those of no layout. Known are flagembedding: query, pos;"):
        from_format(Dataset.from_dict({"x": [1]}))
    with pytest.raises(ColumnError, match="'flagembedding' needs 'pos', and"):
        from_format(Dataset.from_dict({"query": ["x"]}), "flagembedding")
    with pytest.raises(ConfigError, match="no table 'corpus'"):
        from_format(to_format(mined, "tevatron-v2")["train"])
    with pytest.raises(ConfigError, match="do not say which documents are positive"):
        from_format(to_format(mined, "labeled-pair", scores="retriever"))


def test_each_positive_has_a_row_where_trainers_read_one():
    made = to_format(Dataset.from_dict(MINED).select([0]), "ms-swift")
    assert [row["positive_messages"][0][0]["content"] for row in made] == ["p1", "p2"]
    for layout in ("nemo", "nemo-ids"):
        rows = to_format(Dataset.from_dict(MINED).select([0]), layout)
        assert [len(row["pos_doc"]) for row in (rows if layout == "nemo" else rows["train"])] == [1, 1]


TAUGHT = WHOLE | {"positive_denoised_scores": [[8.0, 6.0], [7.0]], "negative_denoised_scores": [[-2.0, 3.0], [-4.0]]}


def test_scores_are_a_teachers_or_asked_for_by_name():
    mined, plain = Dataset.from_dict(TAUGHT), Dataset.from_dict(WHOLE)
    for scores in (True, "denoised"):
        assert to_format(mined, "flagembedding", scores=scores)[0]["neg_scores"] == [-2.0, 3.0]
    assert to_format(mined, "flagembedding", scores="retriever")[0]["neg_scores"] == [0.5, 0.25]
    assert to_format(mined, "flagembedding").column_names == ["query", "pos", "neg"]
    kd = to_format(mined, "pylate-kd", num_negatives=1)["train"]
    assert kd["scores"][:] == [[1.0, 0.0]] * 3
    assert to_format(mined.select([0]), "pylate-kd")["train"]["scores"][:] == [[1.0, 0.0, 0.5], [1.0, 0.0, 0.625]]
    for layout in ("triplet", "labeled-pair", "flagembedding", "tevatron", "pylate-kd", "colbert-nway"):
        with pytest.raises(ConfigError, match="the dataset has none but the retriever's.*scores='retriever'"):
            to_format(plain, layout, scores=True)
    with pytest.raises(ConfigError, match="the dataset has none but the retriever's"):
        to_format(plain, "pylate-kd")
    with pytest.raises(ConfigError, match="scores=False, and 'pylate-kd' is a layout for distillation"):
        to_format(mined, "pylate-kd", scores=False)
    two = mined.add_column("positive_judged_scores", TAUGHT["positive_scores"])
    two = two.add_column("negative_judged_scores", TAUGHT["negative_scores"])
    with pytest.raises(ConfigError, match="those of 'denoised' and 'judged'. Name the teacher"):
        to_format(two, "triplet", scores=True)
    with pytest.raises(ColumnError, match="needs 'positive_jugded_scores', 'negative_jugded_scores'"):
        to_format(two, "triplet", scores="jugded")


def test_n_way_examples_without_a_teacher_have_no_scores(tmp_path):
    plain, taught = Dataset.from_dict(WHOLE).select([0]), Dataset.from_dict(TAUGHT).select([0])
    assert to_format(taught, "colbert-nway")["triples"][1] == {"qid": 0, "pids": [1, 2, 3], "scores": [6.0, -2.0, 3.0]}
    assert to_format(taught, "colbert-nway", scores=False)["triples"].column_names == ["qid", "pids"]
    made = to_format(plain, "colbert-nway")
    assert made["triples"].to_dict() == {"qid": [0, 0], "pids": [[0, 2, 3], [1, 2, 3]]}
    save_format(made, "colbert-nway", tmp_path)
    assert (tmp_path / "triples.jsonl").read_text() == "[0, 0, 2, 3]\n[0, 1, 2, 3]\n"
    for back in (from_format(made), from_format(tmp_path)):
        assert back[0]["positive"] == ["p1", "p2"] and back[0]["negatives"] == ["n1", "n2"]
    save_format(to_format(plain, "colbert-nway", num_negatives=1), "colbert-nway", tmp_path)
    assert from_format(tmp_path, "colbert-nway")[0]["negatives"] == ["n1"]


def test_equal_rows_are_as_wide_as_half_of_them():
    rows = Dataset.from_list(mined_rows([(1, 1), (1, 2), (1, 2), (1, 3), (0, 3), (1, 0)]))
    told = "3 of 6 rows are left out of the layout 'n-tuple': 1 have no positive, 1 have no negative, 1 have fewer"
    with pytest.warns(HardNegWarning, match=told):
        assert to_format(rows, "n-tuple").column_names[2:] == ["negative_1", "negative_2"]
    with pytest.raises(ConfigError, match="no row has more than 3.*num_negatives=3 keeps 1 of 6 rows, 2 keeps 3"):
        to_format(rows, "n-tuple", num_negatives=4)


def test_a_missing_positive_is_none():
    rows = Dataset.from_dict({"query": ["q", "r"], "positive": ["p", None], "negatives": [["n"], ["m"]]})
    with pytest.warns(HardNegWarning, match="1 of 2 rows are left out of the layout 'triplet': 1 have no positive"):
        assert to_format(rows, "triplet").to_list() == [{"query": "q", "positive": "p", "negative": "n"}]
    labels = to_format(rows, "labeled-pair").to_dict()
    assert labels == {"query": ["q", "q", "r"], "positive": ["p", "n", "m"], "label": [1, 0, 0]}
    with pytest.raises(ConfigError, match="No row has a negative and a positive, so 'nemo' would be empty"):
        to_format(rows.select([1]), "nemo")


def test_what_is_lost_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, "hf_hardneg"):
        to_format(Dataset.from_dict(WHOLE), "nemo")
    assert caplog.text.count("does not carry: rows without positives or negatives, scores, ids, ranks, sources") == 1


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
