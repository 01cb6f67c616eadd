"""Does a retriever's score tell false negatives? Known positives are hidden, and counted above and below the shown one.

    python benchmarks/hardness.py DATA_FOLDER [--seeds 0 1 2]

DATA_FOLDER as for `quality.py`, whose protocol this is: of every query with two or more positives one is shown, and a
hidden positive among the five negatives is a proven false negative. Writes, for each strategy, the share of false
negatives among those that score above their positive, and among the others.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from datasets import disable_progress_bars, load_dataset

from benchmarks.quality import MODEL, WANTED, Protocol
from hf_hardneg import mine, report


def false_by_side(mined, hidden):
    """Counts: negatives above their positive and the false ones of them, then those of the others."""
    counts = np.zeros(4, np.int64)
    for row, false in zip(mined, hidden, strict=True):
        best = max(row["positive_scores"])
        for name, score in zip(row["negative_ids"], row["negative_scores"], strict=True):
            side = 0 if score > best else 2
            counts[side : side + 2] += 1, name in false
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    disable_progress_bars()
    corpus, queries = (
        load_dataset("parquet", data_files=str(options.data / f"{name}.parquet"), split="train")
        for name in ("corpus", "queries")
    )
    queries = queries.add_column("place", list(range(len(queries))))
    nothing = {"documents": None, "queries": np.zeros((len(queries), 0))}
    lines = []
    with tempfile.TemporaryDirectory() as cache:
        common = {"num_negatives": WANTED, "columns": {"text": ["title", "text"]}, "cache_dir": cache}
        for strategy in ("bm25", "dense"):
            for safeguards in (True, False):
                counts, above = np.zeros(4, np.int64), []
                for seed in options.seeds:
                    protocol = Protocol(corpus, queries, seed, nothing)
                    model = {"encoder": MODEL} if strategy == "dense" else {}
                    mined = mine(protocol.pairs, corpus, strategy, safeguards=safeguards, **common, **model)
                    counts += false_by_side(mined, protocol.hidden)
                    above.append(report(mined).hardness.above)
                lines.append(
                    {
                        "strategy": strategy,
                        "safeguards": safeguards,
                        "negatives": int(counts[0] + counts[2]),
                        "above_positive": float(np.mean(above)),
                        "false": float((counts[1] + counts[3]) / (counts[0] + counts[2])),
                        "false_above": float(counts[1] / counts[0]),
                        "false_below": float(counts[3] / counts[2]),
                    }
                )
                print(lines[-1])
    options.out.write_text(json.dumps({"data": options.data.name, "seeds": options.seeds, "lines": lines}, indent=1))


if __name__ == "__main__":
    main()
