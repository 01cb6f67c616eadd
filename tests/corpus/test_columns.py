"""Columns that mining does not read pass through every verb and format, and what it reads may come in any encoding."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import Array2D, ClassLabel, Dataset, Features, Image, Json, List, Value
from PIL import Image as Picture
from torch.utils.data import DataLoader

from hf_hardneg import HardNegatives, mine
from hf_hardneg.errors import ColumnError, ConfigError, HardNegWarning

CORPUS = Dataset.from_dict(
    {
        "_id": list("abcd"),
        "text": ["dark rock from lava", "pale rock of quartz", "light rock from lava", "a rock that fell from the sky"],
    }
)
SIZE = 3
READ = {"query": ["dark rock", "pale rock", "rock of the sky"], "positive_ids": [["a"], ["b"], ["d", "c"]]}
PICTURES = [Picture.fromarray(np.full((4, 5, 3), shade, np.uint8)) for shade in (1, 2, 3)]
OTHERS = {
    "image": (PICTURES, Image()),
    "json": ([{"tags": [1, "x"]}, {"tags": "y"}, {"more": {"deep": [None]}}], Json()),
    "grid": ([np.arange(4).reshape(2, 2) + row for row in range(SIZE)], Array2D((2, 2), "float32")),
    "answers": (
        [[{"text": "x", "start": 1}], [], [{"text": "y", "start": 2}, {"text": "z", "start": 3}]],
        List({"text": Value("string"), "start": Value("int32")}),
    ),
    "nested": ([[[1, 2], [3]], [], [[4]]], List(List(Value("int64")))),
    "label": ([0, 1, 0], ClassLabel(names=["no", "yes"])),
    "candidates": (["mine", "own", "words"], Value("string")),
    "hole": ([None, "text", None], Value("string")),
}
MINED = ("negatives", "negative_ids", "negative_scores", "negative_ranks", "negative_sources", "positive_scores")


def features(*names):
    read = {"query": Value("string"), "positive_ids": List(Value("string"))}
    return Features(read | {name: OTHERS[name][1] for name in names})


def pairs_with(*names):
    return Dataset.from_dict(READ | {name: OTHERS[name][0] for name in names}, features=features(*names))


def miner(**options):
    return HardNegatives(CORPUS, "bm25", num_negatives=2, **options)


@pytest.fixture(scope="module")
def expected():
    rows = mine(pairs_with(), CORPUS, "bm25", num_negatives=2)
    return {name: rows[name][:] for name in (*MINED, "positive", "mining")}


def as_lists(values):
    if isinstance(values, dict):
        return {name: as_lists(value) for name, value in values.items()}
    if hasattr(values, "tolist"):
        return as_lists(values.tolist())
    return [as_lists(value) for value in values] if isinstance(values, list | tuple) else values


def check(rows, expected):
    """Rows as `mine` gives them, whatever formats they went through."""
    columns = {name: [as_lists(row[name]) for row in rows] for name in expected}
    for name in ("negatives", "negative_ids", "negative_ranks", "negative_sources", "positive", "mining"):
        assert columns[name] == expected[name]
    for name in ("negative_scores", "positive_scores"):
        assert [len(row) for row in columns[name]] == [len(row) for row in expected[name]]
        assert np.allclose(np.concatenate(columns[name]), np.concatenate(expected[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("format", [None, "torch", "numpy", "arrow"])
@pytest.mark.parametrize("batched", [True, False])
def test_map_keeps_features_and_stored_values(name, format, batched, expected):
    pairs = pairs_with(name)
    mined = pairs.with_format(format).map(miner(), batched=batched).with_format(None)
    check(mined, expected)
    assert mined.features[name] == OTHERS[name][1]
    before, after = (rows.with_format("arrow")[:].column(name).combine_chunks() for rows in (pairs, mined))
    assert before.equals(after)
    if format in (None, "arrow"):
        assert mined.features == mine(pairs, CORPUS, "bm25", num_negatives=2).features


def test_map_over_processes(expected):
    names = ("image", "json", "grid", "candidates")
    mined = pairs_with(*names).map(miner(), batched=True, num_proc=2, batch_size=1)
    check(mined, expected)
    assert all(mined.features[name] == OTHERS[name][1] for name in names)


@pytest.mark.parametrize("format", ["pandas", "polars"])
@pytest.mark.parametrize("name", ["grid", "answers", "nested", "label", "candidates", "hole"])
def test_map_of_frames(name, format, expected):
    if format == "polars" and name == "grid":
        pytest.skip("polars has no type for it")
    mined = pairs_with(name).with_format(format).map(miner(), batched=True).with_format(None)
    check(mined, expected)
    assert mined.column_names[:3] == ["query", "positive_ids", name]
    assert as_lists(mined[name][:]) == as_lists(pairs_with(name)[name][:])
    assert mined.features["query"] == Value("string") and mined.features["negatives"] == List(Value("string"))


def test_what_a_frame_cannot_be_written_back_from_is_said():
    with pytest.raises(ColumnError, match=r"Column 'image' .* use with_format\(None\) or 'arrow' before map"):
        pairs_with("image").with_format("pandas").map(miner(), batched=True)


@pytest.mark.slow
@pytest.mark.parametrize("format", [None, "torch", "numpy", "arrow", "pandas"])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name", ["json", "grid", "answers", "nested", "candidates"])
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_streams(name, format, batched, expected):
    stream = pairs_with(name).to_iterable_dataset()
    stream = stream.with_format(format) if format else stream
    mined = stream.map(miner(), batched=batched, **({"batch_size": 2} if batched else {}))
    if format in ("arrow", "pandas"):
        mined = mined.with_format(None)
    rows = list(mined)
    check(rows, expected)
    assert all(name in row for row in rows)


def test_a_stream_of_images(expected):
    mined = list(pairs_with("image").to_iterable_dataset().map(miner(), batched=True))
    check(mined, expected)
    assert [np.asarray(row["image"]).max() for row in mined] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_transforms_and_loaders(name, expected):
    rows = pairs_with(name).with_transform(miner())
    check([rows[place] for place in range(SIZE)], expected)
    check(
        [rows[:][column] and {key: rows[:][key][i] for key in expected} for i, column in enumerate(MINED[:SIZE])],
        expected,
    )
    loader = DataLoader(rows, batch_size=2, collate_fn=list)
    check([row for batch in loader for row in batch], expected)
    assert all(name in row for batch in loader for row in batch)


class Foreign:
    """An object that Arrow has no type for."""


@pytest.mark.parametrize(
    "convert",
    [
        lambda values: values,
        tuple,
        lambda values: np.array(values, dtype=object),
        pd.Series,
        lambda values: pa.array(values),
        lambda values: pa.chunked_array([pa.array(values)]),
        pl.Series,
    ],
)
def test_a_mapping_gets_back_the_very_objects(convert, expected):
    objects = [Foreign() for _ in range(SIZE)]
    batch = {name: convert(values) for name, values in READ.items()} | {"foreign": objects, "table": PICTURES}
    made = miner()(batch)
    check([{name: made[name][row] for name in expected} for row in range(SIZE)], expected)
    assert made["foreign"] is objects and made["table"] is PICTURES and made["query"] is batch["query"]
    assert list(made)[:4] == ["query", "positive_ids", "foreign", "table"]
    row = miner()({name: values[2] for name, values in (READ | {"foreign": objects}).items()})
    check([row], {name: values[2:] for name, values in expected.items()})
    assert row["foreign"] is objects[2]


ENCODINGS = {
    "large": (pa.large_string(), pa.large_list(pa.large_string())),
    "view": (pa.string_view(), pa.list_(pa.string_view())),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "list view": (pa.string(), pa.list_view(pa.string())),
    "large list view": (pa.string(), pa.large_list_view(pa.string())),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["table", "record batch"])
def test_encodings_of_arrow(encoding, form, expected):
    texts, lists = ENCODINGS[encoding]
    if encoding == "dictionary":
        ids = pa.ListArray.from_arrays(pa.array([0, 1, 2, 4], pa.int32()), pa.array(list("abdc")).dictionary_encode())
    else:
        ids = pa.array(READ["positive_ids"], lists)
    columns = {
        "query": pa.array(READ["query"]).cast(texts),
        "positive_ids": ids,
        "when": pa.array([1, 2, 3], pa.date32()),
    }
    kind = pa.table if form == "table" else pa.record_batch
    given = kind(columns).replace_schema_metadata({"kept": "yes"})
    made = miner()(given)
    assert type(made) is type(given) and made.schema.metadata == {b"kept": b"yes"}
    check(made.to_pylist(), expected)
    assert all(made.column(name).type == columns[name].type for name in columns)


def test_fixed_lists_of_one_positive():
    ids = pa.FixedSizeListArray.from_arrays(pa.array(["a", "b"]), 1)
    made = miner()(pa.table({"query": ["dark rock", "pale rock"], "positive_ids": ids}))
    assert "a" not in made["negative_ids"][0].as_py() and "b" not in made["negative_ids"][1].as_py()


@pytest.mark.parametrize("kind", ["object", "string", "category", "string[pyarrow]"])
def test_frames_of_pandas(kind, expected):
    frame = pd.DataFrame(READ | {"foreign": [Foreign() for _ in range(SIZE)]}, index=["x", "y", "z"])
    frame["query"] = frame["query"].astype(kind)
    made = miner()(frame)
    check(made.to_dict("records"), expected)
    assert list(made.index) == ["x", "y", "z"] and made["query"].dtype == frame["query"].dtype
    assert all(one is other for one, other in zip(made["foreign"], frame["foreign"], strict=True))


def test_empty_lists_of_pandas_and_frames_of_polars(expected):
    read = {"query": ["dark rock"], "positive": ["dark rock from lava"], "positive_ids": [[]]}
    assert miner()(pd.DataFrame(read))["negative_ids"][0].tolist() == miner()(read)["negative_ids"][0]
    frame = pl.DataFrame(READ | {"when": pl.Series([1, 2, 3], dtype=pl.Int8)})
    made = miner()(frame)
    check(made.to_dicts(), expected)
    assert isinstance(made, pl.DataFrame) and made["when"].dtype == pl.Int8


def test_rows_are_dropped_in_every_form():
    read = READ | {"query": ["dark rock", "zebra", "rock of the sky"]}
    options = {"on_shortage": "drop_row"}
    left = ["dark rock", "rock of the sky"]
    objects = [Foreign() for _ in range(SIZE)]
    made = miner(**options)(read | {"foreign": objects})
    assert made["query"] == left and made["foreign"] == [objects[0], objects[2]]
    for frame in (pd.DataFrame(read), pl.DataFrame(read), pa.table(read), pa.record_batch(read)):
        made = miner(**options)(frame)
        assert type(made) is type(frame) and [str(one) for one in made["query"]] == left
    pairs = Dataset.from_dict(
        read | {name: OTHERS[name][0] for name in ("image", "grid")}, features=features("image", "grid")
    )
    whole = mine(pairs, CORPUS, "bm25", num_negatives=2, **options)
    assert whole["query"][:] == left and whole.features["image"] == Image()
    for format in (None, "arrow"):
        mined = pairs.with_format(format).map(miner(**options), batched=True).with_format(None)
        assert mined["query"][:] == left and mined.features["grid"] == OTHERS["grid"][1]
    with pytest.raises(ConfigError, match=r"formatted as arrays, .* Use with_format\(None\) before map"):
        pairs.remove_columns("image").with_format("numpy").map(miner(**options), batched=True)


def test_what_a_caller_changes_in_a_lazy_batch_is_what_is_mined(expected):
    def reversed_queries(batch):
        batch["query"] = batch["query"][::-1]
        batch["image"] = [one.rotate(90) for one in batch["image"]]
        del batch["json"]
        return miner()(batch)

    pairs = pairs_with("image", "json")
    mined = pairs.map(reversed_queries, batched=True)
    assert mined["query"][:] == READ["query"][::-1] and mined.features["image"] == Image()
    straight = Dataset.from_dict(READ | {"query": READ["query"][::-1]}).map(miner(), batched=True)
    assert mined["negative_ids"][:] == straight["negative_ids"][:]
    looked = pairs.map(lambda batch: batch["image"] and miner()(batch), batched=True)
    before, after = (rows.with_format("arrow")[:].column("image").combine_chunks() for rows in (pairs, looked))
    assert before.equals(after)


def test_what_is_no_batch_is_refused():
    with pytest.raises(ConfigError, match="A batch of type list was given; .* Give columns, not a list of rows"):
        miner()([{"query": "dark rock", "positive_ids": ["a"]}])
    with pytest.raises(ColumnError, match="Column 'query' of type list cannot be read .*Cast it, or name another"):
        miner()({"query": [Foreign()], "positive_ids": [["a"]]})


@pytest.mark.parametrize("values", [[1, 0, 1], [1.0, 0.0, 1.0], [True, False, True], [[1], [0], [1]]])
def test_numbers_called_positive_beside_ids_are_labels(values, expected):
    pairs = pairs_with().add_column("positive", values)
    with pytest.warns(HardNegWarning, match="Column 'positive' holds .* labels and no texts; .*'positive_text'"):
        mined = mine(pairs, CORPUS, "bm25", num_negatives=2)
    without = {name: values for name, values in expected.items() if name != "positive"}
    assert [{name: row[name] for name in without} for row in mined] == [
        {name: values[row] for name, values in without.items()} for row in range(SIZE)
    ]
    assert mined["positive"][:] == values and mined.features["positive"] == pairs.features["positive"]
    with pytest.warns(HardNegWarning, match="labels and no texts"):
        assert pairs.map(miner(), batched=True)["negative_ids"][:] == expected["negative_ids"]
    named = mine(pairs, CORPUS, "bm25", num_negatives=2, columns={"positive": "positive_text"})
    assert named["positive_text"][:] == expected["positive"] and named["positive"][:] == values
    with pytest.raises(ColumnError, match="'positive' holds .* it must hold texts. .*cast_column"):
        mine(pairs.remove_columns("positive_ids"), CORPUS)


def test_numbers_for_queries_and_columns_that_are_not_there():
    pairs = pairs_with()
    numbers = pairs.remove_columns("query").add_column("query", [1, 2, 3])
    for run in (lambda: mine(numbers, CORPUS), lambda: numbers.map(miner(), batched=True)):
        with pytest.raises(ColumnError, match=r"'query' holds int64; it must hold texts. .*cast_column\('query'"):
            run()
    texts = pairs.add_column("positive", [["dark rock from lava"]] * SIZE)
    with pytest.raises(ColumnError, match="no column 'postive'; it has .*'positive'.* columns=.'positive'"):
        mine(texts, CORPUS, columns={"positive": "postive"})
    for role in ("query_id", "positive_ids"):
        with pytest.raises(ColumnError, match=f"no column 'nothing'; .*columns=.'{role}'"):
            mine(texts, CORPUS, columns={role: "nothing"})
        with pytest.raises(ColumnError, match=f"no column 'nothing'; .*columns=.'{role}'"):
            miner(columns={role: "nothing"})(texts[:])


@pytest.mark.parametrize("name", [*MINED, "mining"])
def test_a_users_own_column_is_not_overwritten(name):
    pairs = pairs_with().add_column(name, ["mine", "own", "words"])
    said = f"The pairs have '{name}', which mining writes; .* Rename yours with rename_column"
    with pytest.raises(ColumnError, match=said):
        mine(pairs, CORPUS)
    for batch in (pairs[:], pairs.with_format("arrow")[:], pairs.with_format("pandas")[:]):
        with pytest.raises(ColumnError, match=said):
            miner()(batch)
    with pytest.raises(ColumnError, match=said):
        list(pairs.to_iterable_dataset().map(miner()))


@pytest.mark.parametrize("format", [None, "torch", "numpy", "arrow", "pandas", "polars"])
def test_what_was_mined_is_mined_again(format, expected):
    mined = mine(pairs_with("candidates"), CORPUS, "random", num_negatives=1)
    check(mine(mined.with_format(format), CORPUS, "bm25", num_negatives=2).with_format(None), expected)
    again = mined.with_format(format).map(miner(), batched=True).with_format(None)
    check(again, expected)
    assert again["candidates"][:] == OTHERS["candidates"][0]
    check(list(mined.to_iterable_dataset().map(miner())), expected)
