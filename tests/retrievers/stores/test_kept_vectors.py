import numpy as np
import pytest

from hf_hardneg.retrievers.stores import kept_vectors
from hf_hardneg.retrievers.stores.kept_vectors import KeptVectors

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("room", [3, 8, 40, 1000])
def test_kept_vectors_are_the_stores_and_fetched_once_while_there_is_room(monkeypatch, room):
    monkeypatch.setattr(kept_vectors, "ROOM", room * 4 * 5)
    rng = np.random.default_rng(room)
    stored = rng.normal(size=(40, 5)).astype(np.float32)
    kept, asked = KeptVectors(40, 5), []

    def fetched(rows):
        asked.extend(rows.tolist())
        return stored[rows]

    for _ in range(30):
        rows = np.sort(rng.choice(40, min(room, int(rng.integers(1, 9))), replace=False))
        assert (kept.of(rows, fetched) == stored[rows]).all()
    assert kept.vectors.nbytes <= kept_vectors.ROOM
    if room >= 40:
        assert len(asked) == len(set(asked))
