"""Mined rows of every strategy on two worlds, as digests: what a change of the house must not change.

`python -m tests.pipeline.frozen` prints them; give it `> tests/pipeline/frozen.json` where results changed on purpose.
"""

import json
import warnings
from hashlib import blake2b

from hf_hardneg import mine
from tests.worlds import SMALL, needed, world

WORLDS = {"small": (7, 60, 12), "larger": (11, 400, 40)}
DRAWN = (
    "Uniform",
    "RankZone",
    "SimANS",
    "Importance",
    "DistanceWeighted",
    "UnReMix",
    "TopicNegatives",
    "Random",
    "Mixture",
)
"""Parts of strategies whose results depend on draws, and so on the hash that keys them."""


def digest(size, strategy, cache_dir):
    """Ids and scores to four decimals of the negatives of one job."""
    pairs, corpus = world(*WORLDS[size])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mined = mine(
            pairs, corpus, SMALL[strategy], num_negatives=5, cache_dir=str(cache_dir), **needed(SMALL[strategy])
        )
    columns = (mined[name][:] for name in ("negative_ids", "negative_scores", "positive_scores"))
    said = [[ids, *map(_rounded, scores)] for ids, *scores in zip(*columns, strict=True)]
    return blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def _rounded(scores):
    return [None if score is None else f"{score:.4f}" for score in scores]


if __name__ == "__main__":
    import tempfile

    folder = tempfile.mkdtemp()
    print(json.dumps({f"{size}: {name}": digest(size, name, folder) for size in WORLDS for name in SMALL}, indent=1))
