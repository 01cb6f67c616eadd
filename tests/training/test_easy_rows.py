"""Between full refreshes only rows whose negatives became easy are mined again, and no document is encoded."""

import json

import numpy as np
import pytest

from hf_hardneg import Strategy
from hf_hardneg.errors import ConfigError
from hf_hardneg.models.encoder import TransformersEncoder
from hf_hardneg.retrievers import BM25, Dense, Sparse
from hf_hardneg.samplers import Top
from hf_hardneg.training import EasyRows, Refresher, Schedule
from tests.training.test_ranks import contents, launch
from tests.training.world import live_model, shift
from tests.worlds import world

EVERY = Schedule(every=10)
TOP = Strategy([Dense(12)], [], Top())
pytestmark = pytest.mark.slow


def refresher(directory, strategy=TOP, **options):
    pairs, corpus = world(3, documents=70, queries=14)
    pairs = pairs.remove_columns("positive")
    given = {"num_negatives": 3, "easy_rows": EasyRows(full_every=3, growth=0.02), "encoder": live_model(), **options}
    return Refresher(pairs, corpus, strategy, directory=directory, **given)


def seen(made):
    return made.pairs.with_transform(made.negatives)[:]


def report(made, number):
    return json.loads((made.generations.place(number) / "report.json").read_text())


@pytest.fixture
def encoded(monkeypatch):
    """How many documents were encoded."""
    counts, encode = [], TransformersEncoder.encode

    def counted(self, texts, *, kind):
        counts.append(len(texts) if kind == "document" else 0)
        return encode(self, texts, kind=kind)

    monkeypatch.setattr(TransformersEncoder, "encode", counted)
    return counts


def texts(made):
    return len(set(made.corpus["text"]))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_easy_rows_alone_are_mined_again_with_the_new_queries_and_the_old_documents(tmp_path, encoded):
    """The oracle encodes by the saved models, and searches by a sort."""
    made = refresher(tmp_path / "run")
    made.at(10, EVERY)
    first, documents = seen(made), made.generations.index(1).flat_vectors().copy()
    assert sum(encoded) == texts(made)
    encoded.clear()
    shift(made.encoder)
    made.at(20, EVERY)
    assert sum(encoded) == 0
    np.testing.assert_allclose(made.generations.index(2).flat_vectors(), documents, atol=1e-6)
    again = seen(made)
    made.encoder.model.eval()
    tokens = made.encoder.tokenizer(made.pairs["query"][:], padding=True, return_tensors="pt")
    hidden, mask = made.encoder.model(**tokens).last_hidden_state.detach(), tokens["attention_mask"].unsqueeze(-1)
    scores = unit(((hidden * mask).sum(1) / mask.sum(1)).numpy()) @ documents.T
    row_of = {name: row for row, name in enumerate(made.corpus["_id"])}

    def margin(known, negatives):
        return (np.mean(known) - np.mean(negatives)) / abs(np.mean(known))

    renewed = 0
    for place, ids in enumerate(first["negative_ids"]):
        then = margin(first["positive_scores"][place], first["negative_scores"][place])
        positives = [row_of[name] for name in made.pairs[place]["positive_ids"]]
        now = margin(scores[place, positives], scores[place, [row_of[name] for name in ids]])
        assert again["negative_generation"][place] == (2 if now - then >= 0.02 else 1)
        if now - then < 0.02:
            assert again["negative_ids"][place] == ids
            continue
        renewed += 1
        found = scores[place, [row_of[name] for name in again["negative_ids"][place]]]
        np.testing.assert_allclose(again["negative_scores"][place], found, atol=1e-4)
        others = scores[place, [row_of[name] for name in ids]]
        assert found.mean() >= others.mean() - 1e-5
    assert 0 < renewed < len(first["negative_ids"]) and report(made, 2)["mined_again"] == renewed


def test_every_so_many_refreshes_are_full(tmp_path, encoded):
    made = refresher(tmp_path / "run")
    for number in range(1, 6):
        encoded.clear()
        shift(made.encoder, number)
        made.at(10 * number, EVERY)
        assert (sum(encoded) > 0) == (number in (1, 4))
        assert report(made, number)["mined_again"] == len(made.pairs) or number not in (1, 4)
    plain = refresher(tmp_path / "plain", easy_rows=None)
    for number in range(1, 5):
        shift(plain.encoder, number)
    plain.at(10, EVERY)
    made.generations.switch(4)
    assert seen(made)["negative_ids"] == seen(plain)["negative_ids"]


def run(rank, directory, steps=(10, 20, 30)):
    made = refresher(directory)
    for step in steps:
        shift(made.encoder, step)
        made.at(step, EVERY)


def test_two_ranks_make_the_generations_of_one(tmp_path):
    run(0, tmp_path / "alone")
    assert launch(tmp_path / "log", run, tmp_path / "two")[0] == [0, 0]
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")


def test_a_resumed_run_is_the_unbroken_one(tmp_path):
    run(0, tmp_path / "whole")
    made = refresher(tmp_path / "broken")
    for step in (10, 20):
        shift(made.encoder, step)
        made.at(step, EVERY)
    again = refresher(tmp_path / "broken", encoder=made.encoder)
    del made
    shift(again.encoder, 30)
    again.at(30, EVERY)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.parametrize("changed", ["corpus", "pairs", "num_negatives"])
def test_where_data_or_options_are_others_a_refresh_is_a_full_one(tmp_path, encoded, changed):
    """As many documents in another order would else have each other's vectors."""
    made = refresher(tmp_path / "run")
    made.at(10, EVERY)
    encoder, (pairs, corpus) = made.encoder, (made.pairs, made.corpus)
    del made
    backwards = {name: rows.select(range(len(rows))[::-1]) for name, rows in (("corpus", corpus), ("pairs", pairs))}
    pairs, corpus = (
        backwards[name] if name == changed else rows for name, rows in (("pairs", pairs), ("corpus", corpus))
    )
    options = {"num_negatives": 4 if changed == "num_negatives" else 3, "encoder": encoder}
    again = Refresher(pairs, corpus, TOP, directory=tmp_path / "run", easy_rows=EasyRows(), **options)
    shift(encoder)
    encoded.clear()
    again.at(20, EVERY)
    assert sum(encoded) == texts(again) and report(again, 2)["mined_again"] == len(pairs)


def test_rows_that_are_not_refreshed_keep_nothing_of_other_documents(tmp_path):
    made = refresher(tmp_path / "run", query_chunks=3, easy_rows=None)
    made.at(10, EVERY)
    encoder, pairs, corpus = made.encoder, made.pairs, made.corpus.select(range(len(made.corpus))[::-1])
    del made
    options = {"num_negatives": 3, "query_chunks": 3, "encoder": encoder}
    again = Refresher(pairs, corpus, TOP, directory=tmp_path / "run", **options)
    shift(encoder)
    with pytest.raises(ConfigError, match="Generation 1 of .* is of other data .corpus.*Give another directory"):
        again.at(20, EVERY)


def test_where_the_documents_are_gone_a_refresh_is_a_full_one(tmp_path, encoded):
    """As after going back behind the newest full refresh, with weights that came out otherwise."""
    made = refresher(tmp_path / "run")
    for step in (10, 20, 30, 40):
        shift(made.encoder, step)
        made.at(step, EVERY)
    made.at(15, EVERY)
    shift(made.encoder, 99)
    encoded.clear()
    made.at(20, EVERY)
    assert sum(encoded) == texts(made) and report(made, 2)["mined_again"] == len(made.pairs)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        (Strategy([Sparse()]), {}, "keeps the vectors of one exact index of Dense.., and the strategy has none"),
        (Strategy([Dense(factory="IVF4,Flat")]), {}, "one exact index of Dense"),
        (Strategy([BM25(5), Dense(index_parts=2)]), {}, "one exact index of Dense"),
        (TOP, {"corpus_fraction": 0.5}, "corpus_fraction=0.5 draws others for each. Give one of both"),
    ],
)
def test_what_keeps_no_documents_is_refused(tmp_path, strategy, options, message):
    with pytest.raises(ConfigError, match=message):
        EasyRows().check(strategy, options.get("corpus_fraction", 1.0))
    if options:
        with pytest.raises(ConfigError, match=message):
            refresher(tmp_path / "run", strategy, **options)
    with pytest.raises(ConfigError, match="full_every=1"):
        EasyRows(full_every=1)
