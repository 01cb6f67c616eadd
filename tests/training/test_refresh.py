"""Refreshing in one process: what a generation holds, and who sees which."""

import importlib
import json
import logging
import multiprocessing
import pickle
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from datasets.fingerprint import Hasher
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from hf_hardneg import HardNegatives, Strategy, mine
from hf_hardneg.errors import ColumnError, ConfigError, DataError, ModelError, StoreError
from hf_hardneg.filters import ConsistentPositive
from hf_hardneg.filters.denoised import Denoised
from hf_hardneg.retrievers import Dense, Hybrid, Random, Reranked
from hf_hardneg.samplers import Top, Uniform
from hf_hardneg.store import directories
from hf_hardneg.training import Refresher, Schedule, refresh
from hf_hardneg.training.negative_arrays import ADDED
from hf_hardneg.training.snapshots import save_weights
from tests.training.world import STRATEGY, live_model, refresher, shift
from tests.worlds import encode, shared_words, world

pytestmark = pytest.mark.slow

EVERY = Schedule(every=10)
PLAIN = ("negatives", "negative_ids", "negative_scores", "negative_ranks", "positive_scores")


@pytest.fixture
def made(tmp_path):
    return refresher(tmp_path / "run", live_model())


def seen(one):
    return one.pairs.with_transform(one.negatives)[:]


def searched(vectors, corpus_vectors, depth):
    """The nearest rows of each query, by a sort."""
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (vectors, corpus_vectors)]
    scores = unit[0] @ unit[1].T
    return np.argsort(-scores, axis=1, kind="stable")[:, :depth]


def test_before_the_first_refresh_negatives_are_those_of_the_warm_start(made):
    rows = seen(made)
    warm = mine(made.pairs, made.corpus, "bm25", num_negatives=3)
    assert rows["negatives"] == warm["negatives"][:]
    assert set(rows["negative_generation"]) == {0}
    assert set(rows) == {*made.pairs.column_names, *ADDED, "negative_generation"}


def test_after_a_refresh_negatives_come_from_the_new_weights(made):
    """The oracle shares no cache with the refresher: another folder, and vectors by the model itself."""
    live = made.encoder
    for number, step in enumerate((10, 20), 1):
        shift(live, seed=number)
        assert made.at(step, EVERY)
        rows = seen(made)
        assert set(rows["negative_generation"]) == {number}
        live.model.eval()
        with torch.inference_mode():
            tokens = [
                live.tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
                for texts in (made.pairs["query"][:], made.corpus["text"][:])
            ]
            vectors = []
            for part in tokens:
                mask = part["attention_mask"].unsqueeze(-1)
                vectors.append(((live.model(**part).last_hidden_state * mask).sum(1) / mask.sum(1)).numpy())
        nearest = searched(*vectors, depth=70)
        ids = np.array(made.corpus["_id"][:])
        for row, ranks in enumerate(rows["negative_ranks"]):
            assert rows["negative_ids"][row] == ids[nearest[row][ranks]].tolist()
            assert len(ranks) == 3
        live.model.train()


def test_two_generations_differ_and_the_overlap_is_logged(made, caplog):
    shift(made.encoder, 1)
    made.at(10, EVERY)
    first = seen(made)["negative_ids"]
    shift(made.encoder, 2)
    with caplog.at_level(logging.INFO, "hf_hardneg"):
        made.at(20, EVERY)
    second = seen(made)["negative_ids"]
    assert first != second
    shared = sum(len(set(a) & set(b)) for a, b in zip(first, second, strict=True)) / sum(map(len, second))
    report = json.loads((made.generations.place(2) / "report.json").read_text())
    assert report["overlap"] == pytest.approx(shared)
    assert "generation 2 of the weights after step 20" in caplog.text


def test_a_generation_equals_mining_with_the_saved_model(made, tmp_path):
    made.at(10, EVERY)
    folder = tmp_path / "saved"
    made.encoder.model.save_pretrained(folder)
    made.encoder.tokenizer.save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    types = {"": "sentence_transformers.models.Transformer", "1_Pooling": "sentence_transformers.models.Pooling"}
    modules = [{"idx": at, "name": str(at), "path": path, "type": types[path]} for at, path in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}'
    )
    options = {"num_negatives": 3, "known_positives": [made.pairs], "encoder": folder}
    top = HardNegatives(made.corpus, "dense", safeguards=False, **options)
    rows, best = seen(made), made.pairs.map(top, batched=True)
    for ids, ranks, nearest in zip(rows["negative_ids"], rows["negative_ranks"], best["negative_ids"], strict=True):
        assert set(nearest) & set(ids) == {one for one in nearest if one in ids}
        assert sorted(ranks) == ranks


def test_draws_change_with_the_generation_even_where_weights_do_not(made):
    made.at(10, EVERY)
    first = seen(made)["negative_ids"]
    made.at(20, EVERY)
    assert seen(made)["negative_ids"] != first


@pytest.mark.parametrize(
    "retrievers",
    [
        [Dense(6), Random()],
        [Hybrid([Random(), Dense(6)], quotas=(2, 1))],
        [Reranked(Hybrid([Dense(6), Random()]), depth=12)],
    ],
)
def test_random_documents_are_others_in_each_generation(tmp_path, retrievers):
    """The weights stay, and `Top` draws nothing."""
    pairs, corpus = world(3, documents=70, queries=14)
    model = {} if isinstance(retrievers[0], Dense | Hybrid) else {"cross_encoder": shared_words}
    strategy = Strategy(retrievers, [], Top())
    made = Refresher(
        pairs, corpus, strategy, encoder=live_model(), directory=tmp_path / "run", num_negatives=10, **model
    )
    drawn = []
    for step in (10, 20):
        made.at(step, EVERY)
        rows = seen(made)
        found = zip(rows["negative_ids"], rows["negative_sources"], strict=True)
        drawn.append([[each for each, source in zip(*row, strict=True) if source != "dense"] for row in found])
    assert sum(map(len, drawn[0])) > len(pairs)
    assert sum(first != second for first, second in zip(*drawn, strict=True)) > len(pairs) / 2


def test_nothing_of_the_model_or_of_what_is_drawn_next_changes(made):
    set_seed(1)
    made.encoder.model.train()
    before = {name: value.clone() for name, value in made.encoder.model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    made.at(10, EVERY)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(torch.equal(value, before[name]) for name, value in made.encoder.model.state_dict().items())
    assert made.encoder.model.training


def test_a_generation_of_the_same_weights_is_left_as_it_is(made):
    made.at(10, EVERY)
    manifest = made.generations.place(1) / directories.MANIFEST
    written = manifest.stat().st_mtime_ns
    made.at(12, EVERY)
    assert made.at(10, EVERY) is False
    assert manifest.stat().st_mtime_ns == written


def test_going_back_to_a_checkpoint(made):
    """As a run does that is resumed: the generation of that step, and a later one made again where weights differ."""
    kept = {0: seen(made)["negative_ids"]}
    for step in (10, 20, 30):
        shift(made.encoder, step)
        made.at(step, EVERY)
        kept[step] = seen(made)["negative_ids"]
    assert made.at(25, EVERY) and seen(made)["negative_ids"] == kept[20]
    assert made.at(10 + 1, EVERY) and seen(made)["negative_ids"] == kept[10]
    assert made.at(3, EVERY) and seen(made)["negative_ids"] == kept[0]
    shift(made.encoder, 99)
    made.at(15, EVERY)
    made.at(20, EVERY)
    assert seen(made)["negative_ids"] != kept[20]


def test_a_generation_that_is_gone_is_named(made):
    made.at(10, EVERY)
    shutil.rmtree(made.generations.place(1))
    made.generations.switch(0)
    with pytest.raises(StoreError, match="gen-000001 does not exist, or is not whole. Give the directory="):
        made.at(11, EVERY)


def test_an_altered_generation_is_refused(made):
    made.at(10, EVERY)
    file = made.generations.place(1) / "negatives.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(StoreError, match="negatives.npy is truncated or altered"):
        made.generations.switch(1)


def test_query_chunks(tmp_path):
    made = refresher(tmp_path / "run", live_model(), query_chunks=5)
    warm = seen(made)["negative_ids"]
    size, whole = len(made.pairs), []
    for number in range(1, 7):
        shift(made.encoder, number)
        made.at(10 * number, EVERY)
        whole.append(seen(made)["negative_generation"])
    each = size // 5
    expected = [0] * size
    for number in range(1, 7):
        place = (number - 1) % 5
        for row in range(place * each, size if place == 4 else (place + 1) * each):
            expected[row] = number
        assert whole[number - 1] == expected
    made.at(25, EVERY)
    found = seen(made)
    assert found["negative_ids"][2 * each :] == warm[2 * each :]


def test_a_fraction_of_the_corpus(tmp_path):
    made = refresher(tmp_path / "run", live_model(), corpus_fraction=0.3)
    made.at(10, EVERY)
    first = made.generations.index(1).documents
    positives = {one for ids in made.pairs["positive_ids"] for one in ids}
    assert len(positives) < first < len(made.corpus)
    rows = seen(made)
    texts = dict(zip(made.corpus["_id"], made.corpus["text"], strict=True))
    for texts_of_row, ids in zip(rows["negatives"], rows["negative_ids"], strict=True):
        assert texts_of_row == [texts[one] for one in ids]
    drawn = {one for ids in rows["negative_ids"] for one in ids}
    made.at(20, EVERY)
    assert {one for ids in seen(made)["negative_ids"] for one in ids} != drawn


def test_mined_pairs_as_the_warm_start(tmp_path):
    pairs, corpus = world(3, documents=70, queries=14)
    mined = mine(pairs, corpus, "random", num_negatives=3)
    made = refresher(tmp_path / "run", live_model(), mined, corpus, warm_start=None)
    assert seen(made)["negatives"] == mined["negatives"][:]
    made.at(10, EVERY)
    assert seen(made)["negatives"] != mined["negatives"][:]
    made = refresher(tmp_path / "other", live_model(), pairs, corpus, warm_start=None)
    with pytest.raises(ColumnError, match="have no column 'negatives'; they have 'query_id', .*warm_start='bm25'"):
        seen(made)


def test_what_lies_around_after_a_refresh(made):
    for step in (10, 20):
        shift(made.encoder, step)
        made.at(step, EVERY)
    directory = made.generations.directory
    assert sorted(path.name for path in directory.glob("*")) == [
        "CURRENT",
        "cache",
        "gen-000001",
        "gen-000002",
        "index-000002",
    ]
    kinds = {path.name.partition("-")[0] for path in (directory / "cache").iterdir() if path.is_dir()}
    assert kinds == {"corpus", "keys", "positives", "rows", "bm25"}
    assert made.generations.index(2).documents == len(made.corpus)


def test_map_stores_each_generation_as_its_own(made):
    fingerprints, ids = [], []
    for step in (0, 10, 20):
        shift(made.encoder, step)
        made.at(step, EVERY)
        mapped = made.pairs.map(made.negatives, batched=True, batch_size=5)
        fingerprints.append(mapped._fingerprint)
        ids.append(mapped["negative_ids"][:])
        assert ids[-1] == seen(made)["negative_ids"]
    assert len(set(fingerprints)) == 3 and ids[0] != ids[1] != ids[2]


def test_it_pickles_small_and_reads_the_newest_wherever_it_is(made):
    copy = pickle.loads(pickle.dumps(made.negatives))
    assert len(pickle.dumps(made.negatives)) < 20_000
    before = Hasher.hash(made.negatives)
    made.at(10, EVERY)
    assert made.pairs.with_transform(copy)[:] == seen(made)
    assert Hasher.hash(made.negatives) != before


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_rows_do_not_depend_on_their_batch(made, batch):
    made.at(10, EVERY)
    rows = made.pairs.with_transform(made.negatives)
    found = [rows[start : start + batch]["negative_ids"] for start in range(0, len(rows), batch)]
    assert [one for part in found for one in part] == seen(made)["negative_ids"]
    order = np.random.default_rng(0).permutation(len(rows))
    assert rows[order]["negative_ids"] == [seen(made)["negative_ids"][row] for row in order]


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_a_loader_switch_too(made, persistent):
    rows = made.pairs.with_transform(made.negatives)
    loader = DataLoader(
        rows, batch_size=2, num_workers=2, prefetch_factor=1, persistent_workers=persistent, collate_fn=list
    )
    found = []
    for number, batch in enumerate(loader):
        found.append({row["negative_generation"] for row in batch})
        if number == 2:
            made.at(10, EVERY)
    assert found[0] == {0} and found[-1] == {1}
    assert {number for batch in loader for row in batch for number in [row["negative_generation"]]} == {1}


def test_a_stream(made):
    made.at(10, EVERY)
    stream = made.pairs.to_iterable_dataset().map(made.negatives, batched=True, batch_size=4)
    assert [row["negative_ids"] for row in stream] == seen(made)["negative_ids"]


def test_a_row_of_something_else_is_refused(made):
    row = {**made.pairs[0], "query": "never seen"}
    with pytest.raises(
        DataError, match="1 rows are none of the pairs that are refreshed, such as the query 'never see"
    ):
        made.negatives({name: [value] for name, value in row.items()})


class Fixed:
    digest = "always the same"

    def __call__(self, texts):
        return encode(texts)


def test_a_digest_that_does_not_change_with_the_weights_is_refused(tmp_path):
    made = refresher(tmp_path / "run", Fixed())
    made.at(10, EVERY)
    with pytest.raises(ModelError, match="digest at step 20 is still the one of step 10"):
        made.at(20, EVERY)
    assert made.generations.current == 1


def test_a_callable_over_a_live_model(tmp_path):
    """Its digest is of what it holds, weights and all."""
    live = live_model(dropout=0.0)

    def function(texts, model=live.model, tokenizer=live.tokenizer):
        with torch.inference_mode():
            return model(**tokenizer(texts, padding=True, return_tensors="pt")).last_hidden_state[:, 0]

    made = refresher(tmp_path / "run", function)
    made.at(10, EVERY)
    first = made.generations.index(1).flat_vectors().copy()
    shift(live)
    made.at(20, EVERY)
    assert not np.allclose(first, made.generations.index(2).flat_vectors(), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"warm_start": "dense"}, "warm_start='dense' needs vectors; allowed are 'bm25', 'random' and None"),
        ({"on_shortage": "drop_row"}, "got on_shortage='drop_row', which leaves rows out"),
        ({"on_missing_positive_score": "drop_row"}, "got on_missing_positive_score='drop_row', which leaves rows out"),
        ({"warm_start": "bm25+consistent_positive"}, "got ConsistentPositive.*, which leaves rows out"),
        ({"columns": {"vector": "v"}}, "got columns=.'vector'.*; it encodes with encoder="),
        ({"corpus_fraction": 0.0}, r"corpus_fraction=0.0\) .* a number above 0 and up to 1"),
        ({"query_chunks": 0}, r"query_chunks=0\) .* a whole number of at least 1"),
    ],
)
def test_what_cannot_be_refreshed_is_refused_before_anything_is_built(tmp_path, options, text):
    with pytest.raises(ConfigError, match=text):
        refresher(tmp_path / "run", live_model(), **options)
    assert not (tmp_path / "run").exists()


def test_a_strategy_that_leaves_rows_out_is_refused(tmp_path):
    pairs, corpus = world(1)
    with pytest.raises(ConfigError, match="got ConsistentPositive.consistency_depth=20.*mine.. the pairs with it once"):
        Refresher(pairs, corpus, "dense+consistent_positive", encoder=encode, directory=tmp_path / "run")
    kept = Strategy([Dense()], [ConsistentPositive(on_inconsistent="keep")])
    Refresher(pairs, corpus, kept, encoder=encode, directory=tmp_path / "run", warm_start=None)


def test_a_bare_module_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"got a BertModel; allowed are a SentenceTransformer, LiveModel"):
        refresher(tmp_path / "run", live_model().model)


def test_a_strategy_without_vectors_is_refused(tmp_path):
    from hf_hardneg.training import Refresher

    pairs, corpus = world(1)
    with pytest.raises(ConfigError, match="strategy='bm25' uses no vectors, so new weights change nothing"):
        Refresher(pairs, corpus, "bm25", encoder=encode, directory=tmp_path)
    assert STRATEGY.uses_vectors


def test_a_directory_that_another_process_uses_is_refused(made):
    made.at(10, EVERY)
    before = seen(made)
    other = multiprocessing.get_context("spawn").Process(target=_refused, args=(made.generations.directory,))
    other.start()
    other.join()
    assert other.exitcode == 0
    assert seen(made) == before
    refresher(made.generations.directory, made.encoder).at(10, EVERY)


def _refused(directory):
    refresh.LINGERS = 0.1
    with pytest.raises(ConfigError, match=r"another process that is running, process \d+ on .*; each run needs"):
        refresher(directory, live_model()).at(0, EVERY)


def test_a_compiled_model_is_saved_as_it_is_without(made):
    """Whichever way it is compiled: Lightning, once imported, replaces `torch.compile`."""
    importlib.import_module("lightning.fabric.wrappers")
    compiled, in_place = live_model(), live_model()
    object.__setattr__(compiled, "model", torch.compile(compiled.model))
    in_place.model.compile()
    assert vars(compiled.model._orig_mod)["_compile_kwargs"] == {}
    folders = {save_weights(live, made.generations.directory) for live in (made.encoder, compiled, in_place)}
    assert len(folders) == 1


def test_a_part_of_the_weights_is_refused(made, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        fully_shard(made.encoder.model)
        with pytest.raises(
            ModelError, match=r"weights of this \w*BertModel are spread over .* Train it with Distributed"
        ):
            made.at(10, EVERY)
    finally:
        torch.distributed.destroy_process_group()


def test_a_live_model_that_cannot_be_saved_or_pooled():
    live = live_model()
    with pytest.raises(ConfigError, match="Unknown pooling 'average'; known are cls, "):
        replace(live, pooling="average")
    with pytest.raises(ConfigError, match=r"model=Linear, which has no save_pretrained\(\); transformers models are"):
        replace(live, model=torch.nn.Linear(2, 2))


def test_scores_of_a_fixed_scorer_are_kept_for_the_next_refresh(tmp_path):
    asked = tmp_path / "asked"

    def scorer(queries, documents):
        with asked.open("a") as stream:
            stream.writelines(f"{pair}\n" for pair in zip(queries, documents, strict=True))
        return shared_words(queries, documents)

    scorer.kind, scorer.digest = "ce_logit", "shared words"
    pairs, corpus = world(3, documents=70, queries=14)
    strategy = Strategy([Dense(12)], [Denoised(share=0.9)], Uniform(12))
    live = live_model()
    made = Refresher(pairs, corpus, strategy, encoder=live, directory=tmp_path / "run", cross_encoder=scorer)
    for step in (10, 20, 30):
        shift(live, step)
        made.at(step, EVERY)
    scored = asked.read_text().splitlines()
    assert len(set(scored)) == len(scored)
