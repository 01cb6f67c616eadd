"""Tables written below each other: types that only some of them tell are those of all."""

from itertools import permutations

import pyarrow as pa
import pytest

from hf_hardneg.errors import DataError
from hf_hardneg.formats.streams import stored

EMPTY = pa.array([[]], pa.list_(pa.null()))
TABLES = [
    pa.table({"query": ["a"], "positive_ids": EMPTY, "number": pa.nulls(1)}),
    pa.table({"query": ["b"], "positive_ids": [["x"]], "number": pa.nulls(1)}),
    pa.table({"query": ["c"], "positive_ids": EMPTY, "number": [3]}),
]
VALUES = {"a": ([], None), "b": (["x"], None), "c": ([], 3)}


@pytest.mark.parametrize("tables", permutations(TABLES))
def test_lists_that_are_all_empty_tell_no_type(tables):
    rows = stored(iter(tables), "The stream")
    assert rows.features.arrow_schema.types == [pa.string(), pa.list_(pa.string()), pa.int64()]
    assert [VALUES[query] for query in rows["query"]] == list(zip(rows["positive_ids"], rows["number"], strict=True))


def test_types_that_differ_are_refused():
    numbers = pa.table({"query": ["d"], "positive_ids": [[{"a": 1}]], "number": [1]})
    with pytest.raises(DataError, match="begins with rows of .* later ones are not of these types"):
        stored([*TABLES, numbers], "The stream")
