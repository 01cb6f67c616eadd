"""Mining over drawn pictures, whose truth is known: by text, by image, mixed, and in every form of a job."""

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value, disable_progress_bars, enable_progress_bars

from hf_hardneg import BM25, HardNegatives, RankWindow, Strategy, attach_bm25, compare, mine, recipe_of
from hf_hardneg.corpus.pictures import named
from hf_hardneg.errors import ColumnError, ConfigError, DataError, HardNegWarning
from hf_hardneg.filters import Denoised, Disagreement, NearDuplicate, NearQuery
from hf_hardneg.retrievers import Dense, Random
from hf_hardneg.training import Trials
from tests.cross_encoders import MINILM
from tests.drawn import pixels, saved, world
from tests.worlds import encode, shared_words

OPTIONS = {"encoder": pixels, "num_negatives": 3}


@pytest.fixture(scope="module")
def drawn():
    return world(100, 24, copies=30)


@pytest.fixture(scope="module")
def mined(drawn):
    return mine(drawn.pairs, drawn.corpus, "dense", **OPTIONS)


def original(name):
    return name.removeprefix("copy-of-")


def positives_of(rows):
    known = {}
    for row in rows:
        known.setdefault(row["query"], set()).update(row["positive_ids"])
    return known


def test_neither_a_known_positive_nor_a_copy_of_one_comes_out(drawn, mined):
    known = positives_of(drawn.pairs)
    assert all(original(name) not in known[row["query"]] for row in mined for name in row["negative_ids"])
    asked = mine(drawn.pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=len(drawn.corpus), safeguards=False)
    names = {row["query"]: {*map(original, row["negative_ids"])} for row in asked}
    everything = {*map(original, drawn.corpus["_id"])}
    assert all(names[query] == everything - known[query] for query in names)


def test_of_two_saved_copies_at_most_one_comes_out(drawn):
    rows = mine(drawn.pairs, drawn.corpus, "dense", encoder=pixels, num_negatives=50, safeguards=False)
    for row in rows:
        names = [*map(original, row["negative_ids"])]
        assert len(names) == len(set(names)) == 50


def test_the_nearest_come_out_as_by_brute_force(drawn):
    rows = mine(drawn.pairs, drawn.corpus, Strategy([Dense()]), **OPTIONS)
    documents = pixels(drawn.corpus["image"][:])
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    known = positives_of(drawn.pairs)
    for row in rows:
        scores = documents @ pixels([row["query"]])[0]
        best, seen = [], set()
        for place in np.argsort(-scores, kind="stable"):
            name = original(drawn.corpus[int(place)]["_id"])
            if name not in known[row["query"]] | seen:
                best.append(name)
                seen.add(name)
        assert [*map(original, row["negative_ids"])] == best[:3]


def test_outputs_name_images_by_their_pixels(drawn, mined):
    images = dict(
        zip(drawn.corpus["_id"], drawn.corpus.cast_column("image", Image(decode=False))["image"], strict=True)
    )
    for row in mined:
        assert row["negatives"] == [named(images[name]) for name in row["negative_ids"]]
        assert row["positive"] == [named(images[name]) for name in row["positive_ids"]]


def test_safeguards_that_read_words_of_images_are_left_out_and_named(drawn, mined, capsys):
    enable_progress_bars()
    try:
        mine(drawn.pairs, drawn.corpus, "dense", **OPTIONS)
    finally:
        disable_progress_bars()
    assert "Left out, since these read words of what is an image: disagreement." in capsys.readouterr().err
    assert [stage["class"] for stage in recipe_of(mined).strategy["filters"]] == ["NearQuery", "TooSimilar"]


def by_image(drawn):
    """Pairs whose queries are the pictures that are their positives, turned over."""
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    queries = [saved(images[ids[0]].rotate(180)) for ids in drawn.pairs["positive_ids"]]
    rows = {"query": queries, "positive_ids": drawn.pairs["positive_ids"]}
    return Dataset.from_dict(rows, features=Features({"query": Image(), "positive_ids": List(Value("string"))}))


def test_images_are_queries_too(drawn):
    pairs = by_image(drawn)
    rows = mine(pairs, drawn.corpus, "dense", **OPTIONS)
    assert [stage["class"] for stage in recipe_of(rows).strategy["filters"]] == ["TooSimilar"]
    assert rows.features["query"] == Image()
    assert rows[0]["query"].tobytes() == pairs[0]["query"].tobytes()
    assert all(original(name) not in row["positive_ids"] for row in rows for name in row["negative_ids"])


def test_an_image_that_is_its_own_document_does_not_come_out(drawn):
    images = drawn.corpus["image"][:10]
    pairs = {"query": [saved(image, "TIFF") for image in images], "positive_ids": [["p50"]] * 10}
    pairs = Dataset.from_dict(pairs).cast_column("query", Image())
    rows = mine(pairs, drawn.corpus, "dense", symmetric=False, **OPTIONS)
    assert all(original(name) != f"p{number}" for number, row in enumerate(rows) for name in row["negative_ids"])


def captioned(drawn):
    """Pictures as queries and their captions as documents."""
    captions = sorted({f"a {colour} {shape}" for shape, colour in drawn.truth.values()})
    asked = list(range(20))
    pairs = {
        "query": [saved(image) for image in drawn.corpus["image"][:20]],
        "positive": ["a {1} {0}".format(*drawn.truth[f"p{row}"]) for row in asked],
    }
    return Dataset.from_dict(pairs).cast_column("query", Image()), Dataset.from_dict({"text": captions})


def test_images_ask_for_texts(drawn):
    pairs, captions = captioned(drawn)
    rows = mine(pairs, captions, "dense", safeguards=False, symmetric=False, **OPTIONS)
    assert all(row["positive"] not in row["negatives"] for row in rows)
    assert all(len(row["negatives"]) == 3 for row in rows)


def test_pairs_alone_have_their_images_for_a_corpus(drawn):
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    pairs = Dataset.from_dict(
        {
            "caption": drawn.pairs["query"],
            "image": [saved(images[ids[0]]) for ids in drawn.pairs["positive_ids"]],
        }
    ).cast_column("image", Image())
    rows = mine(pairs, "dense", safeguards=False, **OPTIONS)
    known = {}
    for row in rows:
        known.setdefault(row["caption"], set()).add(named(saved(row["image"])))
    assert all(name not in known[row["caption"]] for row in rows for name in row["negatives"])


def test_a_corpus_may_mix_texts_and_images(drawn):
    captions = sorted({f"a {colour} {shape}" for shape, colour in drawn.truth.values()})
    image = drawn.corpus.cast_column("image", Image(decode=False))["image"]
    mixed = {
        "_id": [*drawn.corpus["_id"], *captions],
        "text": [*[None] * len(drawn.corpus), *captions],
        "image": [*image, *[None] * len(captions)],
    }
    features = Features({"_id": Value("string"), "text": Value("string"), "image": Image()})
    mixed = Dataset.from_dict(mixed, features=features)
    columns = {"text": ["text", "image"]}
    with pytest.warns(HardNegWarning, match="100% of the positives begin with 'image:'"):
        rows = mine(drawn.pairs, mixed, Strategy([Dense()]), columns=columns, **OPTIONS)
    vectors = np.concatenate([pixels(drawn.corpus["image"][:]), pixels(captions)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = positives_of(drawn.pairs)
    for row in rows:
        order = np.argsort(-(vectors @ pixels([row["query"]])[0]), kind="stable")
        allowed = [mixed[int(place)]["_id"] for place in order]
        allowed = [name for name in allowed if name != row["query"] and original(name) not in known[row["query"]]]
        assert {*map(original, row["negative_ids"])} <= {*map(original, allowed[:12])}


def test_positives_outside_the_corpus_are_scored_as_images(drawn):
    images = dict(zip(drawn.corpus["_id"], drawn.corpus["image"], strict=True))
    outside = [images[ids[0]].rotate(90) for ids in drawn.pairs["positive_ids"]]
    pairs = Dataset.from_dict({"query": drawn.pairs["query"], "positive": [[saved(image)] for image in outside]})
    pairs = pairs.cast_column("positive", List(Image()))
    with pytest.warns(HardNegWarning, match="0% of 24 positives"):
        rows = mine(pairs, drawn.corpus, "margin", **OPTIONS)
    for row, image in zip(rows, outside, strict=True):
        query, document = pixels([row["query"]])[0], pixels([image])[0]
        cosine = query @ document / np.linalg.norm(query) / np.linalg.norm(document)
        np.testing.assert_allclose(row["positive_scores"], [cosine], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_rows_do_not_depend_on_the_batch(drawn, mined, batch_size):
    again = mine(drawn.pairs, drawn.corpus, "dense", batch_size=batch_size, **OPTIONS)
    assert again.data.table.equals(mined.data.table)


def test_rows_do_not_depend_on_their_order(drawn, mined):
    order = np.random.default_rng(1).permutation(len(drawn.pairs))
    assert mine(drawn.pairs.select(order), drawn.corpus, "dense", **OPTIONS)[:] == mined.select(order)[:]


def test_map_a_stream_and_a_transform_give_the_same_rows(drawn):
    pairs = by_image(drawn)
    miner = HardNegatives(drawn.corpus, "dense", known_positives=[pairs], **OPTIONS)
    expected = mine(pairs, drawn.corpus, "dense", **OPTIONS)["negative_ids"][:]
    assert pairs.map(miner, batched=True, batch_size=5)["negative_ids"][:] == expected
    assert pairs.map(miner)["negative_ids"][:] == expected
    stream = pairs.to_iterable_dataset().map(miner, batched=True, batch_size=7)
    assert [row["negative_ids"] for row in stream] == expected
    assert pairs.with_transform(miner)[:]["negative_ids"] == expected
    with pytest.raises(ColumnError, match="'query' of type ndarray cannot be read"):
        pairs.with_format("numpy").map(miner, batched=True)


@pytest.mark.slow
def test_workers_give_the_same_rows(drawn):
    pairs = by_image(drawn)
    miner = HardNegatives(drawn.corpus, "dense", known_positives=[pairs], **OPTIONS)
    expected = mine(pairs, drawn.corpus, "dense", **OPTIONS)["negative_ids"][:]
    assert pairs.map(miner, batched=True, num_proc=2)["negative_ids"][:] == expected


def refused(drawn, strategy, message, **options):
    with pytest.raises(ConfigError, match=message):
        mine(drawn.pairs, drawn.corpus, strategy, **{**OPTIONS, **options})


def test_what_reads_words_of_images_is_refused_by_name_before_any_work(drawn):
    message = "reads the words of each document, and the column 'image' holds images"
    refused(drawn, "bm25", f"bm25 {message}", encoder=None)
    refused(drawn, "hybrid", f"hybrid {message}")
    refused(drawn, "dense+disagreement", f"disagreement {message}")
    refused(drawn, Strategy([Dense()], [Disagreement()]), f"disagreement {message}")
    refused(drawn, Strategy([Dense()], [NearDuplicate()]), f"near_duplicate {message}")
    refused(drawn, Strategy([Dense()], [Denoised(shared_words)]), f"denoised {message}")
    refused(drawn, "dense", f"denoised {message}", cross_encoder=shared_words)
    pairs = by_image(drawn)
    with pytest.raises(ConfigError, match="near_query reads the words of each query, and the column 'query'"):
        mine(pairs, drawn.corpus, Strategy([Dense()], [NearQuery()]), **OPTIONS)
    with pytest.raises(ConfigError, match="contains_answer reads the words of each document"):
        mine(
            drawn.pairs.add_column("answer", drawn.pairs["query"][:]),
            drawn.corpus,
            "dense",
            columns={"answer": "answer"},
            **OPTIONS,
        )


def test_a_model_of_texts_is_refused_before_any_work(drawn):
    refused(drawn, "dense", "encoder= reads texts, and got images", encoder=str(MINILM))
    pairs, captions = captioned(drawn)
    with pytest.raises(ConfigError, match="encoder= reads texts, and got images"):
        mine(pairs, captions, "dense", encoder=str(MINILM), symmetric=False)


def test_other_ways_to_words_of_images_are_refused(drawn):
    with pytest.raises(ConfigError, match="BM25 reads texts, and got images"):
        attach_bm25(drawn.corpus)
    with pytest.raises(ConfigError, match="compare\\(\\) reads texts, and got images"):
        compare(
            drawn.pairs, drawn.corpus, strategies=["random"], model=pixels, trials=Trials(seeds=1, rounds=1, epochs=1)
        )


def test_images_that_nobody_announced_are_refused_where_words_are_read(drawn):
    pairs, captions = captioned(drawn)
    with pytest.raises(ConfigError, match="bm25 reads texts, and got images"):
        pairs.map(HardNegatives(captions, Strategy([BM25(10)])), batched=True)


def test_random_documents_need_neither_words_nor_an_encoder(drawn):
    rows = mine(drawn.pairs, drawn.corpus, Strategy([Random()], [RankWindow(0)]), num_negatives=3)
    assert all(len(row["negative_ids"]) == 3 for row in rows)


def test_names_without_their_pixels_are_not_encoded_as_texts(drawn):
    pairs = by_image(drawn)
    stored = pairs.cast_column("query", Image(decode=False))["query"][:]
    names = Dataset.from_dict({"query": [*map(named, stored)], "positive_ids": pairs["positive_ids"][:]})
    with pytest.raises(DataError, match="is the name of an image, whose pixels are not there"):
        mine(names, drawn.corpus, "dense", **OPTIONS)
    captions = Dataset.from_dict({"text": ["a red circle", "a blue cross"]})
    outside = Dataset.from_dict({"query": ["a red circle"], "positive": [named(stored[0])]})
    with (
        pytest.warns(HardNegWarning, match="0% of 1 positives"),
        pytest.raises(DataError, match="is the name of an image, whose pixels are not there"),
    ):
        mine(outside, captions, "dense", symmetric=False, safeguards=False, **OPTIONS)


def test_positives_that_are_images_have_no_words_either(drawn):
    images = drawn.corpus.cast_column("image", Image(decode=False))["image"][:2]
    captions = Dataset.from_dict({"text": ["a red circle", "a blue cross", "a green square"]})
    for positives, feature in ((images, Image()), ([[image] for image in images], List(Image()))):
        pairs = Dataset.from_dict({"query": ["a red circle", "a blue cross"], "positive": positives})
        pairs = pairs.cast_column("positive", feature)
        message = "reads the words of each document, and the column 'positive' holds images"
        with pytest.raises(ConfigError, match=f"bm25 {message}"):
            mine(pairs, captions, "bm25", symmetric=False)
        with pytest.raises(ConfigError, match="encoder= reads texts, and got images"):
            mine(pairs, captions, "dense", encoder=str(MINILM), symmetric=False)


def test_a_callable_that_cannot_take_images_is_named(drawn):
    refused(drawn, "dense", "encoder= got a callable that failed on images", encoder=encode)
