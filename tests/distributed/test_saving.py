"""Whichever rank takes the lock saves a live model whole."""

import time

import pytest
from sentence_transformers import CrossEncoder

from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.runtime.ranks import launched_ranks
from hf_hardneg.training.snapshots import snapshot
from tests.distributed.job import TEXTS, build
from tests.distributed.test_ranks import index_bytes
from tests.models.test_encoder import tiny
from tests.training.test_ranks import launch
from tests.training.world import live_model

pytestmark = pytest.mark.slow


def saved(cache):
    """Files by name; tokenizers also write how they were last used."""
    paths = [path for path in cache.glob("*/model/**/*") if path.is_file()]
    return {str(path.relative_to(cache)): path.name == "tokenizer.json" or path.read_bytes() for path in paths}


def load_all(cache, model, cross_encoder):
    """What a live model, a model in training and a live cross-encoder say of some texts."""
    encoders = load_encoder(model, cache_dir=cache), snapshot(live_model(), cache)
    vectors = [encoder.encode(TEXTS[:4], kind="document").tolist() for encoder in encoders]
    scorer = load_cross_encoder(cross_encoder, cache_dir=cache)
    return [*vectors, scorer.score(TEXTS[:4], TEXTS[4:8]).tolist()]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model, _ = tiny(folder)
    return model, CrossEncoder(str(folder / "base"), num_labels=1, device="cpu")


def test_rank_one_saves_what_one_process_would(tmp_path, models):
    expected = load_all(tmp_path / "alone", *models)

    def work(rank):
        ranks = launched_ranks()
        if rank == 0:
            ranks.wait()
        assert load_all(tmp_path / "two", *models) == expected
        if rank == 1:
            ranks.wait()

    assert launch(tmp_path / "log", work)[0] == [0, 0]
    assert saved(tmp_path / "two") == saved(tmp_path / "alone")


def test_a_live_model_mines_on_two_ranks(tmp_path, models):
    """Rank 0 comes late, so that the other takes the lock."""
    build(tmp_path / "alone", models[0])

    def work(rank):
        launched_ranks()
        time.sleep(2 * (rank == 0))
        build(tmp_path / "two", models[0])

    assert launch(tmp_path / "log", work)[0] == [0, 0]
    assert index_bytes(tmp_path / "two") == index_bytes(tmp_path / "alone")
