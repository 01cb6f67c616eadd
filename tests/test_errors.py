"""Every error says what was given, what is allowed, and what to do, before anything expensive."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from hf_hardneg import (
    BM25,
    AbsoluteMargin,
    BM25Config,
    Dense,
    Disagreement,
    HardNegatives,
    RankWindow,
    ScoreBounds,
    Strategy,
    Top,
    TopicNegatives,
    from_format,
    mine,
    plan,
    sweep,
    to_format,
)
from hf_hardneg.errors import (
    ColumnError,
    ConfigError,
    DataError,
    HardNegError,
    HardNegWarning,
    StoreError,
    UnknownNameError,
)
from hf_hardneg.hub import reproduce
from hf_hardneg.training import Refresher
from tests.worlds import encode, world

CORPUS = {"_id": ["a", "b", "c", "d"], "text": ["cat mat", "cat dog", "dog bird", "bird mat"]}
PAIRS = {"query_id": ["q"], "query": ["cat bird"], "positive_ids": [["a"]]}


def run(pairs=PAIRS, corpus=CORPUS, strategy="bm25", **options):
    return mine(Dataset.from_dict(pairs), Dataset.from_dict(corpus), strategy, **options)


def without(columns, name, **more):
    return {key: value for key, value in columns.items() if key != name} | more


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"pairs": without(PAIRS, "query", q=["x"], r=["y"])},
            ColumnError,
            "none is called as a query is. 'q', 'r' may hold it, .* columns=.'query'",
        ),
        ({"pairs": without(PAIRS, "positive_ids")}, ColumnError, "none is called as the positives is"),
        ({"pairs": {key: [] for key in PAIRS}}, ColumnError, "The pairs are empty: 0 rows"),
        ({"corpus": {"_id": [], "text": []}}, DataError, "corpus is empty"),
        (
            {"corpus": without(CORPUS, "text", text=[1.0, 2.0, 3.0, 4.0])},
            ColumnError,
            "type double .*cast it to string",
        ),
        ({"corpus": without(CORPUS, "text", text=["x", None, "y", "z"])}, DataError, "'text' is null in row 1"),
        ({"pairs": without(PAIRS, "query", query=[None])}, (DataError, ColumnError), "null"),
        (
            {"pairs": without(PAIRS, "positive_ids", positive_ids=[["a", "zz"]])},
            DataError,
            "1 ids of the column 'positive_ids' are not in .*'zz'",
        ),
        (
            {"corpus": without(CORPUS, "_id", _id=["a", "a", "b", "c"])},
            DataError,
            "repeat the id of another in '_id', such as 'a'",
        ),
        ({"strategy": "bm52"}, UnknownNameError, "Unknown strategy 'bm52'; known are .*bm25, .*Did you mean 'bm25'"),
        ({"strategy": "bm25+simi_hard"}, UnknownNameError, "Unknown strategy 'simi_hard'.*Did you mean 'semi_hard'"),
        (
            {"strategy": 7},
            ConfigError,
            r"mine\(strategy=7\) of type int: allowed is a string or a Strategy or None\. Give one of those",
        ),
        (
            {"num_negatives": 0},
            ConfigError,
            r"num_negatives=0\) .*: allowed is a whole number of at least 1 and up to 1,000,000\. Give .* 4",
        ),
        ({"num_negatives": 2.5}, ConfigError, r"num_negatives=2.5\) of type float: allowed is a whole number"),
        ({"num_negatives": "4"}, ConfigError, r"num_negatives='4'\) of type str"),
        ({"seed": None}, ConfigError, r"seed=None\) of type NoneType: allowed is a whole number\. Give .* such as 42"),
        ({"strategy": "bm25+dense"}, ConfigError, "'dense' adds nothing to 'bm25\\+dense'.*'hybrid'"),
        ({"strategy": "random+positive_aware"}, ConfigError, "random retrieval scores nothing"),
        ({"strategy": "dense"}, ConfigError, "needs vectors and got none. Pass encoder="),
        ({"dedupe": "fuzzy"}, UnknownNameError, "Unknown dedupe 'fuzzy'; known are exact, normalized, off"),
        ({"positive_agg": "mediam"}, UnknownNameError, "Unknown positive_agg 'mediam'"),
        ({"on_shortage": "pad"}, UnknownNameError, "Unknown on_shortage 'pad'"),
        ({"on_missing_positive_score": "guess"}, UnknownNameError, "known are compute, drop_row, skip_filter"),
        ({"columns": {"text": "body"}}, ColumnError, "no column 'body'; it has '_id', 'text'"),
        ({"encoder": 3, "strategy": "dense"}, ConfigError, "encoder= got a int; allowed are a Hub id"),
        ({"columns": {"exclude_ids": "skip"}}, ColumnError, "no column 'skip'"),
        (
            {"pairs": PAIRS | {"skip": [["a", "zz", "zz"]]}, "columns": {"exclude_ids": "skip"}},
            DataError,
            "1 ids of the column 'skip' are not in .*'zz'",
        ),
    ],
)
def test_messages(arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        run(**arguments)
    assert isinstance(caught.value, HardNegError)


def test_parts_of_a_strategy():
    with pytest.raises(ConfigError, match="is not a filter: it has no keep"):
        Strategy([Dense()], ["margin"])
    with pytest.raises(ConfigError, match="got dense, dense; give two or more of different kinds"):
        Strategy([Dense(), Dense()])
    with pytest.raises(ConfigError, match="is not a sampler"):
        Strategy([Dense()], [], "top")
    with pytest.raises(
        ConfigError, match=r"Dense\(depth=0\) of type int: allowed is a whole number of at least 1 or None"
    ):
        Dense(0)
    with pytest.raises(ConfigError, match=r"retrievers=BM25\(.*\) is no list; give \[BM25"):
        Strategy(BM25())
    with pytest.raises(ConfigError, match=r"filters=RankWindow\(.*\) is no list; give \[RankWindow"):
        Strategy([BM25()], RankWindow(10))
    with pytest.raises(ConfigError, match="is not a filter: it is a class. Give instances"):
        Strategy([BM25()], [RankWindow])
    with pytest.raises(ConfigError, match="is not a retriever: it is a class. Give instances"):
        Strategy([BM25])
    with pytest.raises(ConfigError, match="'bm25' is not a retriever: it has no bind"):
        Strategy(["bm25"])
    with pytest.raises(ConfigError, match="is not a sampler"):
        Strategy([BM25()], [], Top)


def test_a_bad_request_touches_no_disk(tmp_path):
    for options in ({"num_negatives": 0}, {"strategy": "nothing"}, {"dedupe": "x"}):
        with pytest.raises(ConfigError):
            run(cache_dir=str(tmp_path / "cache"), **options)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("wrong", [5, 1.5, object(), b"x", None])
def test_what_is_no_corpus_is_refused_by_its_type(wrong):
    calls = [lambda: HardNegatives(wrong), lambda: mine(Dataset.from_dict(PAIRS), wrong)]
    for call in calls[: 1 if wrong is None else 2]:
        with pytest.raises(ConfigError, match=r"\(corpus=.*\) of type .*: allowed is a Dataset, .* a path, .*Give one"):
            call()


def test_several_splits_none_of_which_is_the_corpus():
    splits = DatasetDict(dict.fromkeys(("one_half", "other_half"), Dataset.from_dict(CORPUS)))
    with pytest.raises(ConfigError, match="has the splits one_half, other_half; a corpus is one table.*Give one split"):
        mine(Dataset.from_dict(PAIRS), splits)


def test_more_negatives_than_documents_is_a_short_list_and_a_count():
    row = run(num_negatives=50)[0]
    assert sorted(row["negative_ids"]) == ["b", "c", "d"]
    assert row["mining"]["kept"] == 3 and row["mining"]["short"] == 47


def test_a_margin_needs_a_positive_score():
    pairs = {"query": ["cat bird"], "positive": ["somewhere else"], "vector": [[1.0, 0.0]]}
    corpus = CORPUS | {"vector": [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]]}
    options = {"columns": {"vector": "vector", "query_vector": "vector"}}
    strategy = Strategy([Dense()], [AbsoluteMargin(0.1)])
    with (
        pytest.warns(HardNegWarning, match="Give the corpus that they are from"),
        pytest.raises(ConfigError, match="compares with the positive's score, and 1 queries .* 'cat bird'"),
    ):
        run(pairs, corpus, strategy, **options)
    with pytest.warns(HardNegWarning, match="0% of 1 positives in the column 'positive' stand in the corpus"):
        kept = run(pairs, corpus, strategy, on_missing_positive_score="skip_filter", **options)[0]
        assert len(run(pairs, corpus, strategy, on_missing_positive_score="drop_row", **options)) == 0
    assert kept["negative_ids"] == ["a", "d", "c", "b"] and kept["positive_scores"] == [None]


def test_one_positive_for_each_row_where_it_counts():
    pairs = PAIRS | {"positive_ids": [["a", "b"]]}
    with pytest.raises(ConfigError, match="a row of 2 positives; it needs rows of one"):
        run(pairs, strategy=Strategy([Dense()], [AbsoluteMargin(0.0)]), encoder=encode, positive_agg="per_positive")


def test_vectors():
    pairs = PAIRS | {"vector": [[1.0, 0.0, 0.0]]}
    corpus = CORPUS | {"vector": [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]]}
    options = {"strategy": "dense", "columns": {"vector": "vector", "query_vector": "vector"}}
    with pytest.raises(DataError, match="query vectors are 3 wide, the index is 2 wide"):
        run(pairs, corpus, **options)
    broken = corpus | {"vector": [[1.0, 0.0], [0.0, float("nan")], [0.6, 0.8], [0.8, 0.6]]}
    with pytest.raises(DataError, match="1 of the corpus vectors hold NaN, infinite or missing values, in rows 1"):
        run(pairs, broken, **options)
    with pytest.raises(ColumnError, match="no column 'vectors'.*columns=.'vector'"):
        run(pairs, corpus, **options | {"columns": {"vector": "vectors", "query_vector": "vector"}})


def test_an_index_of_another_corpus():
    import faiss

    index = faiss.IndexFlatIP(2)
    index.add(np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match="holds 2 vectors, the corpus 4 documents"):
        run(strategy="dense", index=index, encoder=encode)
    with pytest.raises(UnknownNameError, match="Unknown index .*'embedings'"):
        run(strategy="dense", index="embedings", encoder=encode)
    index.add(np.eye(2, dtype=np.float32))
    with pytest.raises(
        DataError, match="query vectors are 16 wide, the index is 2 wide. Encode both sides with one model"
    ):
        run(strategy="dense", index=index, encoder=encode)


def test_layouts():
    with pytest.raises(UnknownNameError, match="Unknown layout 'triplets'; known are .*Did you mean 'triplet'"):
        to_format(run(), "triplets")


def test_shortage_rules():
    two = {"query_id": ["q", "r"], "query": ["cat bird", "zebra"], "positive_ids": [["a"], ["b"]]}
    assert run(two, on_shortage="drop_row", num_negatives=3)["query"][:] == ["cat bird"]
    with pytest.raises(
        DataError, match="1 queries of this batch have fewer than num_negatives=3, such as 'zebra' with 0"
    ):
        run(two, on_shortage="error", num_negatives=3)
    padded = run(two, on_shortage="pad_random", num_negatives=3)
    assert padded[0]["negative_sources"] == ["bm25"] * 3
    assert sorted(padded[1]["negative_ids"]) == ["a", "c", "d"]
    assert padded[1]["negative_sources"] == ["pad_random"] * 3 and padded[1]["negative_scores"] == [None] * 3
    assert padded[1]["mining"]["kept"] == 0 and padded[1]["mining"]["short"] == 3
    strategy = Strategy([Dense()], [RankWindow(1)], Top())
    relaxed = run(strategy=strategy, encoder=encode, on_shortage="pad_next", num_negatives=3)[0]
    assert relaxed["negative_sources"] == ["dense", "dense", "pad_next"]
    assert relaxed["negative_ranks"][2] == min(relaxed["negative_ranks"])


def test_rows_can_be_dropped_from_batches_only():
    miner = HardNegatives(Dataset.from_dict(CORPUS), on_shortage="drop_row", num_negatives=9)
    stream = Dataset.from_dict(PAIRS).to_iterable_dataset()
    assert list(stream.map(miner, batched=True)) == []
    with pytest.raises(ConfigError, match="met one row at a time, which cannot be left out"):
        Dataset.from_dict(PAIRS).map(miner)


def test_a_users_tokenizer_and_a_recipe_that_prints():
    strategy = Strategy([BM25(config=BM25Config(tokenizer=letters))])
    assert run(PAIRS | {"query": ["tam"]}, strategy=strategy)[0]["negative_ids"] == ["d", "b"]
    shown = repr(HardNegatives(Dataset.from_dict(CORPUS), "bm25+rank_zone", seed=7))
    assert shown.startswith(
        "HardNegatives(strategy=Strategy(retrievers=(BM25(),), filters=(NearQuery(),TooSimilar(),), "
        "sampler=RankZone()), columns={'id': '_id'}, seed=7"
    )


def letters(text):
    return list(text.replace(" ", ""))


def test_exclusions_of_a_row():
    row = run(PAIRS | {"skip": [["b", "d"]]}, columns={"exclude_ids": "skip"})[0]
    assert row["negative_ids"] == ["c"]


@pytest.mark.parametrize(
    ("role", "values", "text"),
    [
        ("exclude_ids", [["a"], None], "'beside' is null in row 1500 of the dataset"),
        ("exclude_ids", [["a"], ["nowhere"]], "1 ids of the column 'beside' are not in the corpus"),
        ("answer", ["red", None], "'beside' is null in row 1500 of the dataset"),
    ],
)
def test_what_is_beside_the_pairs_is_read_before_anything_is_searched(role, values, text, tmp_path):
    rows = {name: 1501 * own for name, own in PAIRS.items()} | {"beside": 1500 * values[:1] + values[1:]}
    with pytest.raises(DataError, match=text):
        run(rows, cache_dir=str(tmp_path), columns={role: "beside"})
    assert not list(tmp_path.glob("candidates-*"))


def test_dedupe_modes():
    corpus = {"_id": list("abcd"), "text": ["cat mat", "Cat  MAT", "cat bird", "cat owl"]}
    pairs = PAIRS | {"query": ["cat bird"]}
    assert run(pairs, corpus)[0]["negative_ids"] == ["d"]
    assert sorted(run(pairs, corpus, dedupe="exact")[0]["negative_ids"]) == ["b", "d"]
    assert sorted(run(pairs, corpus, dedupe="off")[0]["negative_ids"]) == ["b", "c", "d"]


def test_two_score_filters_of_one_kind_are_counted_apart():
    strategy = Strategy([Dense()], [ScoreBounds(max_score=0.9), ScoreBounds(min_score=-0.9)])
    assert {"score_bounds", "score_bounds_2"} <= set(run(strategy=strategy, encoder=encode)[0]["mining"])


def test_padding_has_no_answer_and_no_parent_of_a_positive():
    pairs, corpus = world(0)
    pairs = pairs.add_column("answers", [["word1", "word2", "word3"]] * len(pairs))
    corpus = corpus.add_column("page", [f"page{row % 4}" for row in range(len(corpus))])
    page = dict(zip(corpus["_id"], corpus["page"], strict=True))
    options = {"columns": {"answer": "answers", "parent": "page"}, "num_negatives": 15}
    for rule in ("pad_next", "pad_random"):
        mined = mine(pairs, corpus, Strategy([BM25(20)], [RankWindow(8)]), on_shortage=rule, **options)
        miner = HardNegatives(corpus, Strategy([BM25(20)], [RankWindow(8)]), on_shortage=rule, **options)
        assert {rule} < {source for sources in mined["negative_sources"] for source in sources}
        for rows in (mined, pairs.map(miner, batched=True, batch_size=5)):
            for row in rows:
                assert not {*" ".join(row["negatives"]).lower().split()} & {"word1", "word2", "word3"}
                assert not {page[one] for one in row["negative_ids"]} & {page[one] for one in row["positive_ids"]}


def test_random_padding_is_found_where_much_is_barred():
    """One document in fifty has no answer, and all of those come out."""
    texts = [f"cat {row}" if row % 50 else f"dog {row}" for row in range(500)]
    corpus = Dataset.from_dict({"_id": [str(row) for row in range(500)], "text": texts})
    pairs = Dataset.from_dict({"query": ["bird"], "positive_ids": [["1"]], "answers": [["cat"]]})
    row = mine(pairs, corpus, "bm25", columns={"answer": "answers"}, num_negatives=10, on_shortage="pad_random")[0]
    assert sorted(map(int, row["negative_ids"])) == list(range(0, 500, 50))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: run(num_negative=3), "Unknown argument of mine.. 'num_negative'; .*Did you mean 'num_negatives'"),
        (lambda: plan(Dataset.from_dict(PAIRS), Dataset.from_dict(CORPUS), column="x"), "Did you mean 'columns"),
        (
            lambda: sweep(Dataset.from_dict(PAIRS), Dataset.from_dict(CORPUS), "bm25", columns={"text": ["x"]}),
            "sweep.columns=. is no filter: .*Give an argument of mine.. as options={'columns': ...}",
        ),
        (
            lambda: sweep(Dataset.from_dict(PAIRS), Dataset.from_dict(CORPUS), options={"sed": 3}, rank_window=[1]),
            "Unknown argument of sweep.options=. 'sed'; .*Did you mean 'seed'",
        ),
        (lambda: reproduce("somebody/something", numproc=2), "of reproduce.. 'numproc'; .*Did you mean 'num_proc'"),
        (
            lambda: Refresher(
                Dataset.from_dict(PAIRS), Dataset.from_dict(CORPUS), encoder=encode, directory="none", num_negs=3
            ),
            "Unknown argument of Refresher.. 'num_negs'; .*Did you mean 'num_negatives'",
        ),
        (lambda: run(symmetric="no"), r"symmetric=\'no\'\) of type str: allowed is True or False or None"),
        (
            lambda: run(columns={"text": 5}),
            r"text=5\) of type int: allowed is a string that is not blank",
        ),
        (
            lambda: run(num_proc=-1),
            r"mine\(num_proc=-1\) of type int: allowed is a whole number of at least 0 and up to",
        ),
        (lambda: run(num_proc="2"), r"num_proc=\'2\'\) of type str: allowed is a whole number"),
        (
            lambda: run(batch_size=0),
            r"batch_size=0\) of type int: allowed is a whole number of at least 1\. Give .* such as 1000",
        ),
        (lambda: run(safeguards="no"), r"safeguards=\'no\'\) of type str: allowed is True or False\. Give .* True"),
        (lambda: run(encoder=encode), "encoder= would change nothing: .*BM25.* uses no vectors; 'dense', .* Drop it"),
    ],
)
def test_arguments_that_nobody_knows_or_uses(call, text):
    with pytest.raises(ConfigError, match=text):
        call()


@pytest.mark.parametrize(
    ("wrap", "text"),
    [
        (lambda rows: rows, "of type Dataset: .* Give it in a list"),
        (lambda rows: DatasetDict({"test": rows}), "of type DatasetDict: allowed is a list, each a Dataset"),
        (lambda rows: [rows, DatasetDict({"test": rows})], "of type list: allowed is a list, each a Dataset"),
        (lambda rows: [rows.to_iterable_dataset()], "of type list: allowed is a list, each a Dataset"),
    ],
)
def test_known_positives_are_a_list_of_datasets(wrap, text):
    known = wrap(Dataset.from_dict(PAIRS))
    for call in (
        lambda: run(known_positives=known),
        lambda: HardNegatives(Dataset.from_dict(CORPUS), known_positives=known),
    ):
        with pytest.raises(ConfigError, match=text):
            call()


def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(StoreError, match="cache' is a file; indexes are kept in a folder. Give one"):
        run(cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("wrap", [lambda rows: rows.to_iterable_dataset(), Dataset.to_list])
def test_what_is_no_dataset_is_not_exported(wrap):
    with pytest.raises(ConfigError, match=r"to_format\(dataset=.*: allowed is a Dataset or a DatasetDict. Give"):
        to_format(wrap(run()), "triplet")
    with pytest.raises(ConfigError, match=r"from_format\(source=.* a Dataset or a DatasetDict .*Dataset.from_list"):
        from_format(wrap(Dataset.from_dict(PAIRS)))


def test_an_encoder_is_used_by_what_asks_for_vectors():
    run(strategy=Strategy([BM25()], [Disagreement()]), encoder=encode)
    run(strategy=Strategy([BM25()], [], TopicNegatives(1)), encoder=encode)
    run(strategy=Strategy([Nearest()]), encoder=encode)


class Nearest(BM25):
    """A retriever of the user's, which may use whatever it is given."""
