"""Rows name images; `with_images` puts them in their places, whatever the layout, and each is stored once."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, load_dataset
from PIL import Image as Pillow
from torch.utils.data import DataLoader

from hf_hardneg import from_format, mine, to_format, with_images
from hf_hardneg.corpus.pictures import named
from hf_hardneg.errors import ConfigError, DataError
from tests.drawn import pixels, saved, world


@pytest.fixture(scope="module")
def drawn():
    return world(40, 12, copies=10)


@pytest.fixture(scope="module")
def mined(drawn):
    return mine(drawn.pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=2, safeguards=False)


@pytest.fixture(scope="module")
def by_image(drawn):
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    rows = {"query_id": [f"q{row}" for row in range(12)]}
    rows["query"] = [saved(images[ids[0]].rotate(180)) for ids in drawn.pairs["positive_ids"]]
    rows["positive_ids"] = drawn.pairs["positive_ids"]
    pairs = Dataset.from_dict(rows).cast_column("query", Image())
    return mine(pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=2, safeguards=False)


def same(image, other):
    return np.array_equal(np.asarray(image.convert("RGB")), np.asarray(other.convert("RGB")))


def images_of(drawn):
    return dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))


def test_images_of_mined_rows_are_opened_when_they_are_read(drawn, mined):
    images = images_of(drawn)
    shown = with_images(mined, drawn.corpus)
    for row, plain in zip(shown, mined, strict=True):
        assert row["query"] == plain["query"]
        for side in ("positive", "negatives"):
            ids = plain["positive_ids" if side == "positive" else "negative_ids"]
            assert all(same(image, images[name]) for image, name in zip(row[side], ids, strict=True))


def test_n_tuples_of_images_train_from_a_loader(drawn, mined):
    rows = to_format(mined, "n-tuple")
    assert rows.column_names == ["query", "positive", "negative_1", "negative_2"]
    shown = with_images(rows, drawn.corpus)
    batch = next(iter(DataLoader(shown, batch_size=4, collate_fn=list)))
    assert [list(map(type, (row["query"], row["negative_1"].size))) for row in batch] == [[str, tuple]] * 4
    assert isinstance(batch[0]["positive"], Pillow.Image)
    assert pickle.loads(pickle.dumps(shown))[0]["negative_2"].size == (32, 32)


def test_queries_that_are_images_come_from_the_pairs(drawn, by_image):
    shown = with_images(to_format(by_image, "triplet"), [drawn.corpus, by_image])
    assert same(shown[0]["query"], by_image[0]["query"])
    with pytest.raises(DataError, match="1 of 1 images that rows name are in none of the datasets"):
        with_images(to_format(by_image, "triplet"), drawn.corpus)[0]


def test_tevatron_names_images_of_queries_and_of_its_corpus(drawn, by_image, tmp_path):
    written = to_format(by_image, "tevatron-v2", corpus=drawn.corpus)
    assert set(written["train"].column_names) >= {"query_id", "query_text", "query_image"}
    assert written["corpus"].column_names == ["docid", "text", "image"]
    files = with_images(written, [drawn.corpus, by_image], folder=str(tmp_path / "images"))
    rows = files["train"].cast_column("query_image", Image())
    corpus = files["corpus"].cast_column("image", Image())
    rows.to_parquet(tmp_path / "train.parquet")
    corpus.to_parquet(tmp_path / "corpus.parquet")
    read = load_dataset("parquet", data_files=str(tmp_path / "corpus.parquet"), split="train")
    asked = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), split="train")
    images = images_of(drawn)
    assert all(row["text"] is None and same(row["image"], images[row["docid"]]) for row in read)
    assert all(row["query_text"] is None for row in asked)
    assert same(asked[0]["query_image"], by_image[0]["query"])
    assert len(list(Path(tmp_path / "images").iterdir())) == 12 + 40
    assert from_format(written, "tevatron-v2")["query"][:] == written["train"]["query_image"][:]


def test_tevatron_of_captions_has_texts_for_queries(drawn, mined):
    written = to_format(mined, "tevatron-v2", corpus=drawn.corpus)
    assert written["train"]["query_text"][:] == mined["query"][:]
    assert written["train"]["query_image"][:] == [None] * 12


def test_ms_swift_shows_images_beside_its_messages(drawn, mined, tmp_path):
    rows = with_images(to_format(mined, "ms-swift"), drawn.corpus, folder=str(tmp_path))
    row, images = rows[0], images_of(drawn)
    assert row["messages"] == [{"role": "user", "content": mined[0]["query"]}]
    assert row["images"] == []
    assert row["negative_messages"] == [[{"role": "user", "content": "<image>"}]] * 2
    for paths, name in zip(row["negative_images"], mined[0]["negative_ids"], strict=True):
        assert same(Pillow.open(paths[0]), images[name])
    assert same(Pillow.open(row["positive_images"][0][0]), images[mined[0]["positive_ids"][0]])
    with pytest.raises(ConfigError, match="have the column 'images'"):
        from_format(to_format(mined, "ms-swift"), "ms-swift")


def test_ms_swift_of_texts_has_no_columns_of_images():
    rows = Dataset.from_list([{"query": "a", "positive": ["b"], "negatives": ["c"]}])
    assert to_format(rows, "ms-swift").column_names == ["messages", "positive_messages", "negative_messages"]


def test_a_dataset_without_images_is_refused(mined, drawn):
    with pytest.raises(ConfigError, match="got no dataset with a column of images"):
        with_images(mined, drawn.pairs)
    with pytest.raises(ConfigError, match="got no dataset with a column of images"):
        with_images(mined, [])


def test_all_splits_are_shown(drawn, mined):
    both = with_images(DatasetDict({"train": mined, "test": mined}), drawn.corpus)
    assert isinstance(both["test"][0]["negatives"][0], Pillow.Image)


def test_texts_that_only_begin_like_names_are_texts(drawn, mined):
    texts = ["image: of a cat", "image:cat", f"{mined[0]['negatives'][0]} and more", "image:" + 32 * "é"]
    rows = Dataset.from_list([{"query": texts[0], "positive": [texts[1]], "negatives": texts[2:]}])
    assert to_format(rows, "ms-swift").column_names == ["messages", "positive_messages", "negative_messages"]
    assert with_images(rows, drawn.corpus)[0] == rows[0]
    corpus = Dataset.from_dict({"_id": [*"abcd"], "text": texts})
    pairs = Dataset.from_dict({"query_id": ["q"], "query": texts[:1], "positive_ids": [["b"]]})
    bm25 = mine(pairs, corpus, "bm25", num_negatives=1, safeguards=False)
    written = to_format(bm25, "tevatron-v2", corpus=corpus)
    assert written["train"]["query_text"][:] == texts[:1]
    assert written["corpus"]["text"][:] == texts


def test_images_of_all_depths_become_files_of_the_same_pixels(drawn, mined, tmp_path):
    values = np.random.default_rng(0).random((32, 32))
    deep = [
        Pillow.fromarray((values * 65535).astype(np.uint16)),
        Pillow.fromarray((values * 2**30).astype(np.int32)),
        Pillow.fromarray(values.astype(np.float32)),
    ]
    corpus = Dataset.from_dict({"image": [saved(image, "TIFF") for image in deep]}).cast_column("image", Image())
    rows = Dataset.from_dict(
        {"negatives": [[named(image) for image in corpus.cast_column("image", Image(decode=False))["image"]]]}
    )
    paths = with_images(rows, corpus, folder=str(tmp_path))[0]["negatives"]
    assert [Path(path).suffix for path in paths] == [".png", ".tiff", ".tiff"]
    for path, image in zip(paths, deep, strict=True):
        assert np.array_equal(np.asarray(Pillow.open(path)), np.asarray(image))
    formatted = with_images(mined.with_format("numpy"), drawn.corpus, folder=str(tmp_path))
    assert all(Path(path).exists() for row in formatted for path in row["negatives"])


def test_a_column_without_any_image_has_none_of_the_named(drawn, mined):
    empty = Dataset.from_dict({"image": [None]}, features=Features({"image": Image()}))
    with pytest.raises(DataError, match="1 of 1 images that rows name are in none of the datasets"):
        with_images(mined, empty)[0]
