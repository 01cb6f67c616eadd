"""Audits of what others mine: sentence-transformers' own function, and rows as FlagEmbedding's script makes them."""

import json
import random

import numpy as np
import pytest
from datasets import Dataset, load_dataset

from hf_hardneg import audit, from_format
from hf_hardneg.cli import main
from tests.audits.oracle import compared, counted
from tests.peers.test_sentence_transformers import LAYOUTS, World, normal

pytestmark = pytest.mark.slow


class Copies(World):
    """A world whose corpus has some documents twice: shouted, or with a space more."""

    def __init__(self, seed):
        super().__init__(seed, positives=2)
        twice = range(0, len(self.documents), 3)
        copies = [f" {self.documents[row]}" if row % 2 else self.documents[row].upper() for row in twice]
        self.documents += copies


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sentence_transformers(layout):
    made = Copies(3).theirs(layout, layout in ("triplet", "n-tuple"))
    found, back = audit(made, layout=layout), list(from_format(made, layout))
    assert found.layout == layout and found.rows == len(back)
    assert compared(found) == counted(back)
    assert found.counts["positive_normalized"] > 0 and "positive_text" not in found.counts


def test_planted_in_theirs():
    made = World(4, positives=1).theirs("triplet", True)
    clean = audit(made)
    assert clean.ok and compared(clean) == counted(list(from_format(made)))
    rng = np.random.default_rng(0)
    rows, places = made.to_list(), rng.permutation(len(made))
    for place in places[:7]:
        rows[place]["negative"] = rows[place]["positive"]
    for place in places[7:12]:
        rows[place]["negative"] = f"  {rows[place]['positive'].upper()}"
    for place in places[12:16]:
        rows[place]["negative"] = rows[place]["query"]
    for place in places[16:18]:
        rows[place]["scores"] = [0.5, float("-inf")]
    broken = audit(Dataset.from_list(rows))
    wanted = {"positive_text": 7, "positive_normalized": 5, "query_as_negative": 4, "bad_score": 2}
    errors = {one.name: one.count for one in broken.findings if one.severity == "error"}
    assert errors == wanted


def flagembedding(path, queries, positives, vectors, corpus, *, negatives, depth):
    """Rows by the steps of FlagEmbedding's hn_mine: a sample of the first hits that are no positive of the row nor the
    query, letter for letter; where those are too few, filled from the corpus at random, positives of the row left out.
    """
    draw = random.Random(0)
    corpus = sorted(set(corpus))
    scores = normal(vectors(queries)) @ normal(vectors(corpus)).T
    with path.open("w", encoding="utf-8") as file:
        for query, own, row in zip(queries, positives, scores, strict=True):
            hits = [corpus[place] for place in np.argsort(-row)[:depth]]
            kept = [text for text in hits if text not in own and text != query]
            kept = draw.sample(kept, negatives) if len(kept) > negatives else kept
            if len(kept) < negatives:
                filled = draw.sample(corpus, negatives - len(kept) + len(own))
                kept.extend([text for text in filled if text not in own][: negatives - len(kept)])
            file.write(json.dumps({"query": query, "pos": own, "neg": kept}) + "\n")


def test_flagembedding(tmp_path, capsys):
    """Filling repeats negatives and knows nothing of other rows, cases and the query; all of it is counted."""
    world = Copies(5)
    queries, positives = world.queries * 2, world.positives + world.positives[1:] + world.positives[:1]
    corpus = [*world.documents, *world.queries[:5]]
    path = tmp_path / "mined.jsonl"
    flagembedding(path, queries, positives, world.encode, corpus, negatives=12, depth=8)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = audit(load_dataset("json", data_files=str(path), split="train"))
    assert (found.layout, found.rows, found.negatives) == ("flagembedding", 50, 600)
    assert compared(found) == counted(
        [{"query": row["query"], "positive": row["pos"], "negatives": row["neg"]} for row in rows]
    )
    assert {"positive_normalized", "positive_elsewhere", "repeated_negative"} <= set(found.counts)
    assert found.counts["repeated_query"] == 50
    assert main(["audit", str(path)]) == 1
    assert "positive_elsewhere" in capsys.readouterr().out
