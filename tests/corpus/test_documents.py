import pickle

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.errors import ColumnError, ConfigError, DataError

TEXTS = ["alpha", "béta", "", "delta delta", "epsilon"]


@pytest.fixture
def corpus():
    return Dataset.from_dict({"_id": list("abcde"), "head": list("TUVWX"), "text": TEXTS})


def test_gathers_rows_in_the_order_asked(corpus):
    opened = open_corpus(corpus, columns={"text": ["head", "text"]})
    rows = np.array([4, 0, 0, 2])
    assert opened.texts(rows).to_pylist() == ["X epsilon", "T alpha", "T alpha", "V"]
    assert opened.ids(rows).to_pylist() == ["e", "a", "a", "c"]
    assert opened.texts(rows[:0]).to_pylist() == []


def test_digest_is_of_the_content_not_of_the_container(corpus, tmp_path):
    corpus.to_parquet(tmp_path / "c.parquet")
    from_file = load_dataset(
        "parquet", data_files=str(tmp_path / "c.parquet"), split="train", cache_dir=str(tmp_path / "h")
    )
    parts = concatenate_datasets([corpus.select(range(2)), corpus.select(range(2, 5))]).add_column("x", [0] * 5)
    shuffled_back = corpus.select([4, 3, 2, 1, 0]).select([4, 3, 2, 1, 0])
    digests = {open_corpus(one).digest for one in (corpus, from_file, parts, shuffled_back)}
    assert len(digests) == 1
    assert open_corpus(corpus.select([1, 0, 2, 3, 4])).digest not in digests
    moved = Dataset.from_dict({"_id": list("abcde"), "text": ["alphab", "éta", *TEXTS[2:]]})
    assert open_corpus(moved).digest not in digests


def test_pickle_is_small_and_opens_the_same_texts(corpus):
    opened = open_corpus(corpus)
    data = pickle.dumps(opened)
    assert len(data) < 4096
    assert pickle.loads(data).texts(np.arange(5)).to_pylist() == TEXTS


def test_a_mapped_dataset_is_not_copied(corpus, tmp_path):
    corpus.save_to_disk(tmp_path / "disk")
    open_corpus(Dataset.load_from_disk(str(tmp_path / "disk")), cache_dir=str(tmp_path / "own"))
    assert not (tmp_path / "own").exists()


def test_row_numbers_are_ids_only_where_asked_for():
    corpus = Dataset.from_dict({"text": ["x", "y"]})
    assert open_corpus(corpus).ids(np.array([1, 0])).to_pylist() == ["row-1", "row-0"]
    assert open_corpus(corpus, columns={"id": "row_number"}).ids(np.array([1, 0])).to_pylist() == ["1", "0"]


@pytest.mark.parametrize(
    ("columns", "options", "error", "text"),
    [
        ({"body": ["x"]}, {}, ColumnError, "no column 'text'; it has 'body'. Name the right one with columns=.'text'"),
        ({"text": ["x"]}, {"columns": {"id": "key"}}, ColumnError, "no column 'key'; it has 'text'"),
        ({"text": []}, {}, DataError, "The corpus is empty"),
        ({"text": ["x", None]}, {}, DataError, "null in row 1"),
        ({"text": [1.5]}, {}, ColumnError, "'text' is of type double and was given where text is needed"),
    ],
)
def test_what_cannot_be_a_corpus(columns, options, error, text):
    with pytest.raises(error, match=text):
        open_corpus(Dataset.from_dict(columns), **options)


def test_only_a_dataset_is_a_corpus(corpus):
    with pytest.raises(ConfigError, match="of type IterableDataset: allowed is a Dataset"):
        open_corpus(corpus.to_iterable_dataset())


TITLED = {"_id": list("abcde"), "title": ["Lava", "", None, "  ", None], "text": ["dark", "pale", "light", "", "\n"]}


def test_a_title_stands_before_its_text_unless_the_text_alone_is_named():
    corpus = Dataset.from_dict(TITLED)
    rows = np.arange(5)
    assert open_corpus(corpus).texts(rows).to_pylist() == ["Lava dark", "pale", "light", "  ", ""]
    assert open_corpus(corpus, columns={"text": "text"}).texts(rows).to_pylist() == TITLED["text"]
    both = open_corpus(corpus, columns={"text": ["title", "text"]})
    assert both.text_columns == ("title", "text") and both.digest == open_corpus(corpus).digest


def test_only_a_title_of_strings_is_one():
    numbers = Dataset.from_dict({"title": [1, 2], "text": ["x", "y"]})
    assert open_corpus(numbers).text_columns == ("text",)
    assert open_corpus(Dataset.from_dict({"title": [None, None], "text": ["x", "y"]})).text_columns == ("text",)
    assert open_corpus(Dataset.from_dict({"title": ["T"], "text": ["x"]})).text_columns == ("title", "text")


def test_a_null_is_allowed_beside_another_text_only():
    corpus = Dataset.from_dict({"text": ["x", None], "title": ["T", "U"]})
    assert open_corpus(corpus).texts(np.arange(2)).to_pylist() == ["T x", "U"]
    with pytest.raises(DataError, match="null in row 1"):
        open_corpus(corpus, columns={"text": "text"})


def test_the_digest_tells_which_columns_the_texts_come_from():
    corpus = Dataset.from_dict({"_id": ["a", "b"], "title": ["T", "U"], "text": ["x", "y"]})
    ways = ("text", "title", ["text", "title"], ["_id", "text"], ["_id", "title", "text"])
    assert len({open_corpus(corpus, columns={"text": way}).digest for way in ways}) == len(ways)


def test_no_text_column_at_all_is_an_error(corpus):
    with pytest.raises(ConfigError, match="names no column; give the name of one"):
        open_corpus(corpus, columns={"text": []})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_of_a_column_with_nulls_in_many_chunks(kind):
    titles = pa.chunked_array([pa.array(["A", None], kind), pa.array([None, "D"], kind)])
    texts = pa.chunked_array([pa.array(["1", "2", "3"], kind), pa.array(["4"], kind)])
    opened = open_corpus(Dataset(pa.table({"title": titles, "text": texts})))
    assert opened.texts(np.array([3, 2, 1, 0])).to_pylist() == ["D 4", "3", "2", "A 1"]
