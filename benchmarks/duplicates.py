"""Pairs of duplicates: how many negatives are duplicates that the pairs know, and how many ones that were hidden?

    python benchmarks/duplicates.py SCIFACT_FOLDER

SCIFACT_FOLDER holds `train.parquet` and `test.parquet` (`query, positive_ids`) and their vectors by MiniLM,
`minilm_train.npy` and `minilm_test.npy`. Claims that one abstract answers stand for duplicate questions: of three or
more the last is hidden, the others are pairs, each with the next. Five negatives are mined among all claims, with
`symmetric=True` and without, with safeguards and without. Writes JSON.
"""

import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_dataset

from hf_hardneg import mine

WANTED = 5
NAMES = ("train", "test")


def claims(folder):
    """Read claims with their vectors, and the classes of claims that one abstract answers."""
    parts = [load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train") for name in NAMES]
    vectors = np.concatenate([np.load(folder / f"minilm_{name}.npy") for name in NAMES])
    rows = concatenate_datasets([part.select_columns(["query", "positive_ids"]) for part in parts])
    first = {text: row for row, text in reversed(list(enumerate(rows["query"])))}
    classes = defaultdict(list)
    for text, answers in zip(rows["query"], rows["positive_ids"], strict=True):
        for answer in answers:
            if text not in classes[answer]:
                classes[answer].append(text)
    return {text: vectors[row] for text, row in first.items()}, [part for part in classes.values() if len(part) > 1]


def linked(pairs):
    """Each text's duplicates by pairs, in both directions and over others."""
    groups = {text: {text} for pair in pairs for text in pair}
    for query, positive in pairs:
        joined = groups[query] | groups[positive]
        groups |= dict.fromkeys(joined, joined)
    return groups


def main(folder):
    """Mine in each way, and count."""
    disable_progress_bars()
    vectors, classes = claims(folder)
    shown = [part[:-1] if len(part) > 2 else part for part in classes]
    pairs = list(dict.fromkeys(pair for part in shown for pair in itertools.pairwise(part)))
    same, known = defaultdict(set), linked(pairs)
    for part in classes:
        for text in part:
            same[text] |= set(part)
    table = Dataset.from_dict(
        {
            "query": [query for query, _ in pairs],
            "positive": [positive for _, positive in pairs],
            "query_vector": [vectors[query] for query, _ in pairs],
        }
    )
    corpus = Dataset.from_dict({"text": list(vectors), "vector": list(vectors.values())})
    lines = []
    for strategy, symmetric, safeguards in itertools.product(("bm25", "dense"), (True, False), (True, False)):
        more = {"columns": {"vector": "vector", "query_vector": "query_vector"}} if strategy == "dense" else {}
        how = {"symmetric": symmetric, "safeguards": safeguards}
        mined = mine(table, corpus, strategy, num_negatives=WANTED, **how, **more)
        found = [(row["query"], text) for row in mined for text in row["negatives"]]
        line = {
            "strategy": strategy,
            **how,
            "negatives": len(found),
            "known": sum(text in known[query] for query, text in found) / len(found),
            "hidden": sum(text in same[query] - known[query] for query, text in found) / len(found),
        }
        lines.append(line)
        print(line)
    told = {"data": "scifact", "claims": len(vectors), "pairs": len(pairs), "wanted": WANTED, "lines": lines}
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
