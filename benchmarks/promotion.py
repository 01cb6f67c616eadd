"""How many of the documents that a judge promotes are relevant? Known positives are hidden, and counted among them.

    python -m benchmarks.promotion DATA_FOLDER [--seeds 0 1 2] [--folder FOLDER]

As in `quality.py`, one positive of each query is shown, and the rest are hidden. The 50 nearest documents of each query
are relabelled by a denoiser of five folds that learnt from the shown positives alone, with several thresholds of
promotion. A hidden positive among the promoted is right; whatever else is promoted counts as wrong. Writes JSON.
`--folder` keeps denoisers and scores, so that a stopped run goes on.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
from datasets import disable_progress_bars, load_dataset

from benchmarks.quality import MODEL, Protocol
from hf_hardneg import mine, relabel
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.training import train_denoiser

DEPTH, FOLDS = 50, 5
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98)
TEXT = ["title", "text"]


def encoded(corpus, queries, folder):
    encoder = load_encoder(MODEL, cache_dir=folder)
    texts = [f"{title} {text}" for title, text in zip(corpus["title"], corpus["text"], strict=True)]
    documents = encoder.encode(texts, kind="document")
    return {"documents": documents, "queries": encoder.encode(queries["query"][:], kind="query")}


def share(protocol, ids):
    """How many documents there are, and which share of them is hidden positives of their query."""
    flat = [(place, each) for place, listed in enumerate(ids) for each in listed]
    return {"documents": len(flat), "relevant": sum(e in protocol.hidden[p] for p, e in flat) / max(len(flat), 1)}


def figures(protocol, corpus, vectors, folder, seed):
    pairs = protocol.pairs.add_column("vector", list(protocol.queries))
    corpus = corpus.add_column("vector", list(vectors["documents"]))
    given = {"columns": {"vector": "vector", "query_vector": "vector", "text": TEXT}, "cache_dir": str(folder)}
    denoiser = folder / f"denoiser-{seed}"
    if not denoiser.exists():
        train_denoiser(pairs, corpus, encoder=MODEL, output_dir=denoiser, folds=FOLDS, **given)
    mined = mine(pairs, corpus, "dense", num_negatives=DEPTH, safeguards=False, **given)
    told = {"mined": share(protocol, mined["negative_ids"][:])}
    for quantile in QUANTILES:
        options = {"promote": "mark", "promote_from": quantile, "cache_dir": str(folder)}
        rows = relabel(mined, denoiser, **options)
        told[f"promoted from {quantile}"] = share(protocol, rows["pseudo_positive_ids"][:])
        told["kept"] = share(protocol, rows["negative_ids"][:])
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    disable_progress_bars()
    warnings.filterwarnings("ignore")
    folder = options.folder or Path(tempfile.mkdtemp())
    names = ("corpus", "queries")
    corpus, queries = (
        load_dataset("parquet", data_files=str(options.data / f"{name}.parquet"), split="train") for name in names
    )
    queries = queries.add_column("place", list(range(len(queries))))
    vectors = encoded(corpus, queries, folder)
    runs = [figures(Protocol(corpus, queries, seed, vectors), corpus, vectors, folder, seed) for seed in options.seeds]
    lines = {
        name: {what: round(float(np.mean([run[name][what] for run in runs])), 4) for what in runs[0][name]}
        | {"relevant_by_seed": [round(run[name]["relevant"], 4) for run in runs]}
        for name in runs[0]
    }
    told = {"data": options.data.name, "queries": len(queries), "seeds": options.seeds, "lines": lines}
    Path(__file__).with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
