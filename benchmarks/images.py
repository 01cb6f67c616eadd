"""Mine drawn pictures whose truth is known: how hard negatives are, and how many are false, by a CLIP or by colours.

python -m benchmarks.images [pictures] [clip | colours]
"""

import sys
import tempfile
import time

import numpy as np

from hf_hardneg import HardNegatives, Strategy, mine
from hf_hardneg.retrievers import Dense, Random
from tests.clip import clip
from tests.drawn import pixels, world

STEPS = 200
"""Of training the CLIP, of 64 pictures each."""


def original(name):
    return name.removeprefix("copy-of-")


def counted(rows, drawn):
    """Negatives that are known positives or copies of one, that repeat another, that answer their query; and all."""
    known = {}
    for row in drawn.pairs:
        known.setdefault(row["query"], set()).update(row["positive_ids"])
    names = [(row["query"], name) for row in rows for name in row["negative_ids"]]
    wrong = sum(original(name) in known[query] for query, name in names)
    repeated = sum(len(row["negative_ids"]) - len(set(map(original, row["negative_ids"]))) for row in rows)
    false = sum(drawn.truth[name] == tuple(query.split()[:0:-1]) for query, name in names)
    return wrong, repeated, false, len(names)


def main(size=2000, model="clip"):
    encoder = pixels if model == "colours" else str(clip(tempfile.mkdtemp(), steps=STEPS))
    drawn = world(size, size // 5, copies=size // 5, seed=7)
    searcher = HardNegatives(drawn.corpus, Strategy([Dense()]), encoder=encoder).retrieval.searcher
    places = {name: row for row, name in enumerate(drawn.corpus["_id"])}
    vectors = searcher.vectors(np.arange(len(drawn.corpus)))
    asked = searcher.encoder.encode(drawn.pairs["query"][:], kind="query")
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    for name in ("dense", "without safeguards", "random"):
        strategy = {"without safeguards": Strategy([Dense()]), "random": Strategy([Random()])}.get(name, name)
        options = {} if name == "random" else {"encoder": encoder}
        start = time.perf_counter()
        rows = mine(drawn.pairs, drawn.corpus, strategy, num_negatives=5, **options)
        taken = time.perf_counter() - start
        wrong, repeated, false, total = counted(rows, drawn)
        near = [asked[place] @ vectors[places[each]] for place, row in enumerate(rows) for each in row["negative_ids"]]
        print(
            f"{name:20} {total:,} negatives: {wrong} known positives or copies, {repeated} repeated, "
            f"{false / max(total, 1):.1%} false, mean similarity {np.mean(near):.3f}, {taken:.1f} s"
        )


if __name__ == "__main__":
    main(*(int(each) if each.isdigit() else each for each in sys.argv[1:]))
