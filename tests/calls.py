"""A valid call of every public function, class and method, for tests that put odd values into each argument.

A new public name without an entry here fails `tests/runtime/test_arguments.py`.
"""

import functools
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader

import hf_hardneg
from hf_hardneg import (
    BM25,
    Analyzer,
    Candidates,
    HardNegatives,
    RankWindow,
    Recipe,
    Strategy,
    Verdicts,
    attach_bm25,
    attach_dense,
    audit,
    demote,
    from_format,
    mine,
    plan,
    recipe_of,
    relabel,
    report,
    review,
    save_format,
    to_format,
    with_images,
)
from hf_hardneg.compat import mine_hard_negatives
from hf_hardneg.demo import standard_library
from hf_hardneg.generate import (
    EndpointGenerator,
    ListwiseJudge,
    LocalGenerator,
    Prompt,
    RetrieverScorer,
    SyntheticNegatives,
    Validation,
)
from hf_hardneg.generate.prompts import KEYS
from hf_hardneg.hub import Reproduction, mined_dataset_card, push_mined_dataset, reproduce
from hf_hardneg.metrics import load
from hf_hardneg.models import load_cross_encoder
from hf_hardneg.training import (
    AsyncRefresher,
    CrossBatchCollator,
    CrossBatchLoss,
    EasyRows,
    FreshNegatives,
    GenerationNegatives,
    Generations,
    GraphBatchSampler,
    Guide,
    HardNegativeCallback,
    HardNegativeLightning,
    HardNegativePlugin,
    Keys,
    LiveModel,
    MoCHi,
    Refresher,
    Schedule,
    StepRetrieval,
    TopicBatchSampler,
    Trials,
    Tuples,
    cached_backward,
    cross_batch_loss,
    gather_rows,
    in_batch_margin_mse_loss,
    joined_mean,
    kl_loss,
    known_positives,
    lambda_loss,
    margin_bins,
    margin_mse_loss,
    pairwise_loss,
    query_topics,
    star_loss,
    train_denoiser,
)
from hf_hardneg.training.denoiser import Training
from tests.cross_encoders import MINILM, cross_encoder
from tests.drawn import world as drawn_world
from tests.models.test_encoder import tiny
from tests.training.world import live_model, refresher
from tests.worlds import encode, world

NUMBERS = itertools.count()


@dataclass(frozen=True)
class Given:
    """What calls are made with, each made once.

    Args:
        folder (`Path`): for files.
    """

    folder: Path

    @functools.cached_property
    def tables(self):
        return world(3, documents=40, queries=6)

    @property
    def pairs(self):
        return self.tables[0]

    @property
    def corpus(self):
        return self.tables[1]

    @functools.cached_property
    def mined(self):
        return mine(*self.tables, "bm25", num_negatives=2)

    @functools.cached_property
    def pictured(self):
        drawn = drawn_world(6, 3)
        return mine(drawn.pairs, drawn.corpus, "random", num_negatives=1), drawn.corpus

    @functools.cached_property
    def miner(self):
        return HardNegatives(self.corpus, "bm25", num_negatives=2, known_positives=[self.pairs])

    @functools.cached_property
    def dense(self):
        return HardNegatives(
            self.corpus, "dense", encoder=encode, known_positives=[self.pairs], safeguards=False, num_negatives=2
        )

    @functools.cached_property
    def model(self):
        """The folder of an encoder."""
        return tiny(self.folder)[1]

    @functools.cached_property
    def reranker(self):
        """The folder of a cross-encoder."""
        return cross_encoder(self.folder / "reranker")

    @functools.cached_property
    def writer(self):
        """The folder of a causal language model."""
        from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

        folder = self.folder / "writer"
        config = GPT2Config(vocab_size=30522, n_positions=128, n_embd=16, n_layer=1, n_head=2)
        GPT2LMHeadModel(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
        return str(folder)

    @functools.cached_property
    def refresher(self):
        """One that has published a generation."""
        made = refresher(self.folder / "run", live_model(), *self.tables)
        made.refresh(1, step=1)
        return made

    @functools.cached_property
    def tokenizer(self):
        return live_model().tokenizer

    @functools.cached_property
    def vectors(self):
        """Queries, positives and negatives of a batch of three."""
        generator = torch.Generator().manual_seed(0)
        shapes = {"queries": (3, 8), "positives": (3, 8), "negatives": (3, 2, 8)}
        return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    @functools.cached_property
    def keys(self):
        positives, negatives = torch.arange(3, 6), torch.arange(6, 12).view(3, 2)
        return Keys(queries=torch.arange(3), positives=positives, known=positives.unsqueeze(1), negatives=negatives)

    @property
    def batch(self):
        return self.pairs[:3]

    @property
    def teacher(self):
        return {**self.vectors, "scores": torch.tensor([[2.0, 1.0, 0.0]] * 3)}


def interrupt(url):
    raise KeyboardInterrupt


def verdicts(given):
    """The file of a person who judged nothing."""
    path = given.folder / f"verdicts-{next(NUMBERS)}.jsonl"
    path.touch()
    return path


def reply(prompts):
    text = "Few painters of that time dared to make the sky over a town as blue as this."
    return [json.dumps(dict.fromkeys(KEYS, text)) for _ in prompts]


class Backwards:
    """Finds the last document the most relevant."""

    at_once = 20

    def order(self, queries, documents):
        return [range(len(texts))[::-1] for texts in documents]


def part(name):
    """An entry of a class whose arguments all have defaults."""
    return lambda given: (getattr(hf_hardneg, name), {})


SCORES = Candidates.of([[0.9, 0.6, 0.5], [0.8]], positive=[0.7, 0.7])
PARTS = ("AbsoluteMargin", "Analyzer", "ContainsAnswer", "BM25", "BM25Config", "Denoised", "Dense")
PARTS += ("Disagreement", "DistanceWeighted", "Hybrid", "Importance", "NearDuplicate", "NearQuery", "Random")
PARTS += ("ConsistentPositive", "LateInteraction", "Mixture", "Reranked", "Sparse")
PARTS += (
    "SameParent",
    "RankWindow",
    "RankZone",
    "RelativeMargin",
    "SemiHard",
    "SimANS",
    "Stratified",
    "TooSimilar",
    "Top",
)
PARTS += ("TopicNegatives", "UnReMix", "Uniform")

CALLS = {
    **{name: part(name) for name in PARTS},
    "ScoreBounds": lambda given: (hf_hardneg.ScoreBounds, {"min_score": 0.1, "max_score": 0.9}),
    "Prompt": lambda given: (Prompt, {}),
    "Validation": lambda given: (Validation, {}),
    "Strategy": lambda given: (Strategy, {"retrievers": [BM25(20)], "filters": [RankWindow(2)]}),
    "Strategy.depth": lambda given: (Strategy([BM25(20)]).depth, {"num_negatives": 2}),
    "Analyzer()": lambda given: (Analyzer().__call__, {"text": "a text"}),
    "Candidates": lambda given: (Candidates, vars(SCORES).copy()),
    "Candidates.of": lambda given: (
        Candidates.of,
        {"scores": [[0.9, 0.6]], "positive": [0.7], "docs": [[3, 1]], "ranks": [[0, 2]], "signals": {"near": [[0, 1]]}},
    ),
    "Candidates.take": lambda given: (SCORES.take, {"keep": np.array([True, False, True, True])}),
    "Candidates.with_signals": lambda given: (SCORES.with_signals, {"added": {"near": np.zeros(4)}}),
    "HardNegatives": lambda given: (HardNegatives, {"corpus": given.corpus}),
    "HardNegatives()": lambda given: (given.miner.__call__, {"batch": given.batch}),
    "mine": lambda given: (mine, {"pairs": given.pairs, "corpus": given.corpus}),
    "plan": lambda given: (plan, {"pairs": given.pairs, "corpus": given.corpus}),
    "Plan.at": lambda given: (plan(given.pairs, given.corpus).at, {"documents": 1000, "rows": 1000}),
    "sweep": lambda given: (
        hf_hardneg.sweep,
        {"pairs": given.pairs, "corpus": given.corpus, "strategy": "bm25", "relative_margin": [0.1]},
    ),
    "compare": lambda given: (
        hf_hardneg.compare,
        {
            "pairs": given.pairs,
            "corpus": given.corpus,
            "strategies": ["random"],
            "model": encode,
            "trials": Trials(seeds=1, rounds=1, epochs=1),
        },
    ),
    "training.EasyRows": lambda given: (EasyRows, {}),
    "training.Trials": lambda given: (Trials, {}),
    "report": lambda given: (report, {"dataset": given.mined}),
    "audit": lambda given: (audit, {"dataset": given.mined}),
    "Audit.html": lambda given: (audit(given.mined).html, {"path": given.folder / "page.html"}),
    "to_format": lambda given: (to_format, {"dataset": given.mined, "layout": "triplet"}),
    "with_images": lambda given: (with_images, {"dataset": given.pictured[0], "images": given.pictured[1]}),
    "from_format": lambda given: (from_format, {"source": to_format(given.mined, "triplet")}),
    "join_scores": lambda given: (
        hf_hardneg.join_scores,
        {
            "rows": Dataset.from_dict({"query": ["a"], "positive": ["b"], "negative": ["c"]}),
            "table": Dataset.from_dict({"query_id": ["a"], "corpus_id": [["b", "c"]], "score": [[2.0, 1.0]]}),
            "name": "teacher",
        },
    ),
    "evaluation_set": lambda given: (hf_hardneg.evaluation_set, {"mined": given.mined, "corpus": given.corpus}),
    "save_format": lambda given: (
        save_format,
        {"dataset": to_format(given.mined, "triplet"), "layout": "triplet", "directory": given.folder / "saved"},
    ),
    "attach_bm25": lambda given: (attach_bm25, {"dataset": given.corpus}),
    "attach_dense": lambda given: (attach_dense, {"dataset": given.corpus, "encoder": encode}),
    "compat.mine_hard_negatives": lambda given: (
        mine_hard_negatives,
        {
            "dataset": Dataset.from_dict({"query": ["sky", "sea"], "positive": ["blue sky", "blue sea"]}),
            "model": str(given.model),
            "corpus": ["red sky", "green sea", "blue whale", "salt"],
            "verbose": False,
        },
    ),
    "review": lambda given: (
        review,
        {"mined": given.mined, "verdicts": verdicts(given), "browser": False, "opened": interrupt},
    ),
    "relabel": lambda given: (relabel, {"mined": given.mined, "judge": Backwards()}),
    "demote": lambda given: (demote, {"rows": relabel(given.mined, Backwards(), promote="merge")}),
    "ListwiseJudge": lambda given: (ListwiseJudge, {"generator": reply}),
    "ListwiseJudge.order": lambda given: (
        ListwiseJudge(reply).order,
        {"queries": ["sky"], "documents": [["red", "blue"]]},
    ),
    "Report.html": lambda given: (report(given.mined).html, {"path": given.folder / "report.html"}),
    "Verdicts": lambda given: (Verdicts, {"path": verdicts(given)}),
    "Verdicts.on": lambda given: (Verdicts(verdicts(given)).on, {"mined": given.mined}),
    "Verdicts.positives": lambda given: (Verdicts(verdicts(given)).positives, {}),
    "Verdicts.to_argilla": lambda given: (Verdicts(verdicts(given)).to_argilla, {"path": given.folder / "a.jsonl"}),
    "recipe_of": lambda given: (recipe_of, {"dataset": given.mined}),
    "Recipe": lambda given: (Recipe, vars(recipe_of(given.mined)).copy()),
    "Recipe.of": lambda given: (Recipe.of, {"miner": given.miner}),
    "Recipe.from_json": lambda given: (Recipe.from_json, {"text": recipe_of(given.mined).to_json()}),
    "Recipe.from_card": lambda given: (
        Recipe.from_card,
        {"text": str(mined_dataset_card(given.mined, repo_id="a/b")), "config": None},
    ),
    "Recipe.to_json": lambda given: (recipe_of(given.mined).to_json, {}),
    "Recipe.code": lambda given: (recipe_of(given.mined).code, {}),
    "load_cross_encoder": lambda given: (
        load_cross_encoder,
        {"model": str(given.reranker), "cache_dir": given.folder},
    ),
    "training.train_denoiser": lambda given: (
        train_denoiser,
        {
            "pairs": given.pairs,
            "corpus": given.corpus,
            "encoder": str(given.model),
            "output_dir": given.folder / f"denoiser-{next(NUMBERS)}",
            "first_pass": "bm25",
            "training": Training(epochs=1),
        },
    ),
    "training.Training": lambda given: (Training, {}),
    "EndpointGenerator": lambda given: (
        EndpointGenerator,
        {"model": "writer", "base_url": "http://127.0.0.1:9/v1"},
    ),
    "LocalGenerator": lambda given: (LocalGenerator, {"model": given.writer}),
    "SyntheticNegatives": lambda given: (SyntheticNegatives, {"generator": reply}),
    "SyntheticNegatives()": lambda given: (SyntheticNegatives(reply).__call__, {"batch": given.mined[:3]}),
    "RetrieverScorer": lambda given: (RetrieverScorer, {"miner": given.miner}),
    "RetrieverScorer()": lambda given: (
        RetrieverScorer(given.miner).__call__,
        {"queries": ["word1"], "documents": ["word1 word2"]},
    ),
    "Prompt.render": lambda given: (
        Prompt().render,
        {"query": "sky", "positive": "blue", "seed": 1, "identity": "sky", "draw": 0},
    ),
    "metrics.load": lambda given: (load, {"name": "retrieval"}),
    "standard_library": lambda given: (standard_library, {}),
    "training.AsyncRefresher": lambda given: (AsyncRefresher, {"refresher": given.refresher, "lag": 2}),
    "training.CrossBatchCollator": lambda given: (CrossBatchCollator, {"tokenizer": given.tokenizer}),
    "training.CrossBatchCollator()": lambda given: (
        CrossBatchCollator(given.tokenizer).__call__,
        {"rows": given.mined.select(range(2)).to_list()},
    ),
    "training.CrossBatchLoss": lambda given: (CrossBatchLoss, {}),
    "training.CrossBatchLoss()": lambda given: (CrossBatchLoss().__call__, {**given.vectors, "keys": given.keys}),
    "training.CrossBatchLoss.rows": lambda given: (CrossBatchLoss().rows, {**given.vectors, "keys": given.keys}),
    "training.GenerationNegatives": lambda given: (GenerationNegatives, vars(given.refresher.negatives).copy()),
    "training.GenerationNegatives()": lambda given: (given.refresher.negatives.__call__, {"batch": given.batch}),
    "training.Generations": lambda given: (Generations, {"directory": given.folder / "run"}),
    "training.Generations.open": lambda given: (given.refresher.generations.open, {"number": 1}),
    "training.Generations.switch": lambda given: (given.refresher.generations.switch, {"number": 0}),
    "training.Generations.index": lambda given: (given.refresher.generations.index, {"number": 1}),
    "training.Generations.place": lambda given: (given.refresher.generations.place, {"number": 1}),
    "training.Guide": lambda given: (Guide, dict(given.vectors)),
    "training.FreshNegatives": lambda given: (FreshNegatives, {"size": 1}),
    "training.FreshNegatives()": lambda given: (FreshNegatives(1).__call__, {"batch": given.mined[:3]}),
    "training.FreshNegatives.set_epoch": lambda given: (FreshNegatives(1).set_epoch, {"epoch": 1}),
    "training.FreshNegatives.reading": lambda given: (FreshNegatives(1).reading, {"columns": None}),
    "training.FreshNegatives.of_rows": lambda given: (
        FreshNegatives(1).of_rows,
        {"rows": given.mined.select(range(2)).to_list()},
    ),
    "training.GraphBatchSampler": lambda given: (
        GraphBatchSampler,
        {"positives": ["a", "b", "c"], "batch_size": 2, "candidates": [["b"], ["c"], ["a"]], "queries": [1, 2, 3]},
    ),
    "training.GraphBatchSampler.set_epoch": lambda given: (GraphBatchSampler(["a"]).set_epoch, {"epoch": 1}),
    "training.Guide.forbids": lambda given: (
        Guide(**given.vectors).forbids,
        {"rows": given.vectors["queries"], "others": given.vectors["positives"]},
    ),
    "training.HardNegativeCallback": lambda given: (HardNegativeCallback, {"refresher": given.refresher}),
    "training.HardNegativeLightning": lambda given: (HardNegativeLightning, {"refresher": given.refresher}),
    "training.HardNegativePlugin": lambda given: (
        HardNegativePlugin,
        {"accelerator": Accelerator(cpu=True), "refresher": given.refresher},
    ),
    "training.HardNegativePlugin.batches": lambda given: (
        lambda loader: next(HardNegativePlugin(Accelerator(cpu=True), given.refresher).batches(loader)),
        {"loader": Accelerator(cpu=True).prepare(DataLoader([1, 2], batch_size=1))},
    ),
    "training.Keys": lambda given: (Keys, vars(given.keys).copy()),
    "training.LiveModel": lambda given: (LiveModel, vars(live_model()).copy()),
    "training.MoCHi": lambda given: (MoCHi, {}),
    "training.MoCHi()": lambda given: (
        MoCHi(n_hard=2, s1=2, s2=2, start1=0, start2=0).__call__,
        {
            "queries": given.vectors["queries"],
            "positives": given.vectors["positives"],
            "pool": given.vectors["positives"],
            "allowed": ~torch.eye(3, dtype=torch.bool),
            "step": 1,
        },
    ),
    "training.Refresher": lambda given: (
        Refresher,
        {
            "pairs": given.pairs,
            "corpus": given.corpus,
            "encoder": encode,
            "directory": given.folder / f"run-{next(NUMBERS)}",
            "num_negatives": 2,
        },
    ),
    "training.Refresher.at": lambda given: (given.refresher.at, {"step": 1, "schedule": Schedule(every=10**9)}),
    "training.Refresher.due": lambda given: (given.refresher.due, {"step": 1, "schedule": Schedule(every=10**9)}),
    "training.Refresher.switch": lambda given: (given.refresher.switch, {"number": 0}),
    "training.Schedule": lambda given: (Schedule, {}),
    "training.Schedule.due": lambda given: (Schedule().due, {"step": 1}),
    "training.Schedule.number": lambda given: (Schedule().number, {"step": 1}),
    "training.Schedule.step_of": lambda given: (Schedule().step_of, {"number": 1}),
    "training.Schedule.rewarm": lambda given: (Schedule().rewarm, {"step": 1, "over": 4}),
    "training.StepRetrieval": lambda given: (StepRetrieval, vars(StepRetrieval.of(given.dense)).copy()),
    "training.StepRetrieval.of": lambda given: (StepRetrieval.of, {"miner": given.dense}),
    "training.StepRetrieval()": lambda given: (
        StepRetrieval.of(given.dense).__call__,
        {"queries": torch.from_numpy(encode(given.batch["query"])), "batch": given.batch},
    ),
    "training.TopicBatchSampler": lambda given: (
        TopicBatchSampler,
        {"topics": [0, 0, 1, 1], "batch_size": 2, "queries": ["a", "b", "c", "d"], "margins": [0.1, 0.2, 0.3, 0.4]},
    ),
    "training.TopicBatchSampler.set_epoch": lambda given: (
        TopicBatchSampler([0, 0], batch_size=2).set_epoch,
        {"epoch": 1},
    ),
    "training.Tuples": lambda given: (Tuples, {"negatives": given.refresher.negatives}),
    "training.cached_backward": lambda given: (
        cached_backward,
        {
            "encode": torch.nn.Linear(8, 2),
            "inputs": [given.vectors["queries"], given.vectors["positives"]],
            "loss": lambda first, second: ((first - second) ** 2).mean(),
            "chunk_size": 2,
        },
    ),
    "training.cross_batch_loss": lambda given: (cross_batch_loss, {**given.vectors, "keys": given.keys}),
    "training.gather_rows": lambda given: (gather_rows, {"tensors": dict(given.vectors)}),
    "training.in_batch_margin_mse_loss": lambda given: (
        in_batch_margin_mse_loss,
        {**given.vectors, "scores": torch.zeros(3, 9)},
    ),
    "training.joined_mean": lambda given: (joined_mean, {"total": torch.tensor(3.0), "count": 2}),
    "training.kl_loss": lambda given: (kl_loss, given.teacher),
    "training.known_positives": lambda given: (
        lambda pairs, **more: known_positives(pairs, **more),
        {"pairs": given.mined},
    ),
    "training.lambda_loss": lambda given: (
        lambda_loss,
        {
            "queries": given.vectors["queries"],
            "documents": given.vectors["negatives"],
            "relevant": torch.tensor([[True, False]] * 3),
            "metric_cut": 2,
        },
    ),
    "training.margin_bins": lambda given: (margin_bins, {"margins": np.array([0.1, 0.4]), "queries": np.array([0, 0])}),
    "training.margin_mse_loss": lambda given: (margin_mse_loss, given.teacher),
    "training.pairwise_loss": lambda given: (pairwise_loss, dict(given.vectors)),
    "training.query_topics": lambda given: (query_topics, {"vectors": np.eye(6, 4), "topics": 2}),
    "training.star_loss": lambda given: (star_loss, {**given.vectors, "keys": given.keys}),
    "hub.mined_dataset_card": lambda given: (mined_dataset_card, {"mined": given.mined, "repo_id": "ada/set"}),
    "hub.push_mined_dataset": lambda given: (push_mined_dataset, {"mined": given.mined, "repo_id": "ada/set"}),
    "hub.reproduce": lambda given: (reproduce, {"repo_id": "ada/nowhere"}),
    "hub.Reproduction": lambda given: (Reproduction, {"repo_id": "ada/set", "sha": "c0ffee", "rows": 3}),
}
"""By name: the function, and arguments that it takes. Methods of one class stand behind it."""
