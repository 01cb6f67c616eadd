"""The table of kinds is true: jobs run, one thing is changed, they run again, and what the cache gained is compared.

Together the jobs produce every kind of the table.
"""

import json
from functools import partial

import faiss
import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

from hf_hardneg import Strategy, compare, mine
from hf_hardneg.engines import shards
from hf_hardneg.filters import AbsoluteMargin, Denoised, NearDuplicate, RankWindow
from hf_hardneg.generate import SyntheticNegatives
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.retrievers import BM25, Dense, LateInteraction, Sparse
from hf_hardneg.samplers import TopicNegatives, Uniform, UnReMix
from hf_hardneg.store.kinds import CHANGES, KINDS
from hf_hardneg.store.manifests import MANIFEST
from hf_hardneg.training import Refresher, Trials
from tests.cross_encoders import cross_encoder
from tests.endpoints import passage
from tests.store.cache_page import PAGE, with_tables
from tests.worlds import encode, shared_words, split, weigh, world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*times as long as exact search:UserWarning"),  # on a busy machine
]

PAIRS, CORPUS = world(3)
CORPUS = CORPUS.add_column("part_of", [f"book {row // 3}" for row in range(len(CORPUS))])
SPARE = max(set(CORPUS["_id"]).difference(*PAIRS["positive_ids"]))
"""The id of a document that is nobody's positive."""


def changed(column, value):
    """The corpus with another value of the spare document."""
    return CORPUS.map(lambda row: {column: value} if row["_id"] == SPARE else {}, load_from_cache_file=False)


def another(function, digest):
    """A function that does the same and is known as another one."""
    same = partial(function)
    vars(same).update(vars(function) | {"digest": digest})
    return same


DOCUMENT = {"_id": "new", "text": "word1 word2 word3", "part_of": "a new book"}
ROW = {"query_id": "new", "query": "word1 word2", "positive": ["word5 word6"], "positive_ids": ["d3"]}
CORPUS_CHANGES = {
    "text": {"corpus": changed("text", "word1 word2 word3 word4")},
    "document": {"corpus": Dataset.from_list([*CORPUS, DOCUMENT])},
    "id": {"corpus": changed("_id", "renamed")},
}
PAIR_CHANGES = {"query": {"pairs": Dataset.from_list([*PAIRS, ROW])}}
DATA_CHANGES = {**CORPUS_CHANGES, **PAIR_CHANGES, "dedupe": {"dedupe": "exact"}}
NO_CHANGES = {
    "column": {"pairs": PAIRS.add_column("other", list(range(len(PAIRS))))},
    "processes": {"num_proc": 2, "batch_size": 7},
}
"""What may be changed of any job, as arguments of `mine`."""


def by_bm25(depth=100, last=15, sampler=None, **config):
    return {
        "strategy": Strategy([BM25(depth, config=BM25Config(**config))], [RankWindow(0, last)], sampler or Uniform(5))
    }


def by_parts(depth=100, **config):
    return {"strategy": Strategy([BM25(depth, config=BM25Config(**config), index_parts=3)], [RankWindow(0, 15)])}


def by_vectors(depth=300, margin=0.02, **retriever):
    return {"strategy": Strategy([Dense(depth, **retriever)], [AbsoluteMargin(margin), NearDuplicate(0.5)], UnReMix())}


def by_sparse_vectors(depth=100, last=15):
    return {"strategy": Strategy([Sparse(depth)], [RankWindow(0, last)], Uniform(5))}


def by_late_interaction(depth=100, last=15):
    return {"strategy": Strategy([LateInteraction(depth)], [RankWindow(0, last)], Uniform(5))}


def by_topics(topics=1):
    return {"strategy": Strategy([Dense(20)], [], TopicNegatives(topics))}


def by_judge(depth=100, first=3, judge=shared_words, **config):
    return {
        "strategy": Strategy(
            [BM25(depth, config=BM25Config(**config))], [RankWindow(first), Denoised(judge, scored_depth=10)]
        )
    }


ENCODER = {"encoder": encode}
OTHER_ENCODER = {"encoder": another(encode, "other weights")}
JOBS = {
    "bm25": (
        {**by_bm25(), "columns": {"parent": "part_of"}},
        {
            **DATA_CHANGES,
            **NO_CHANGES,
            "threshold": by_bm25(last=12),
            "sampler": by_bm25(sampler=Uniform(6)),
            "num_negatives": {"num_negatives": 3},
            "depth": by_bm25(depth=120),
            "bm25": by_bm25(k1=1.2),
        },
    ),
    "bm25 in parts": (
        by_parts(),
        {**DATA_CHANGES, **NO_CHANGES, "depth": by_parts(depth=120), "bm25": by_parts(k1=1.2)},
    ),
    "dense": (
        {**by_vectors(), **ENCODER},
        {
            **DATA_CHANGES,
            **NO_CHANGES,
            "threshold": by_vectors(margin=0.03),
            "sampler": {"seed": 1},
            "num_negatives": {"num_negatives": 3},
            "depth": by_vectors(depth=400),
            "encoder": OTHER_ENCODER,
        },
    ),
    "approximate": (
        {**by_vectors(factory="SQ8", recall=0.5), **ENCODER},
        {**DATA_CHANGES, "threshold": by_vectors(factory="SQ8", recall=0.5, margin=0.03), "encoder": OTHER_ENCODER},
    ),
    "splade": (
        {**by_sparse_vectors(), "encoder": weigh},
        {
            **DATA_CHANGES,
            **NO_CHANGES,
            "threshold": by_sparse_vectors(last=12),
            "depth": by_sparse_vectors(depth=120),
            "encoder": {"encoder": another(weigh, "other weights")},
        },
    ),
    "colbert": (
        {**by_late_interaction(), "encoder": split},
        {**DATA_CHANGES, "depth": by_late_interaction(depth=120), "encoder": {"encoder": another(split, "other")}},
    ),
    "topics": ({**by_topics(), **ENCODER}, {**DATA_CHANGES, "encoder": OTHER_ENCODER}),
    "judged": (
        {**by_judge(), "num_negatives": 1},
        {
            **DATA_CHANGES,
            **NO_CHANGES,
            "num_negatives_judged": {"num_negatives": 3},
            "threshold_judged": by_judge(first=2),
            "depth": by_judge(depth=120),
            "bm25": by_judge(k1=3.0),
            "cross_encoder": by_judge(judge=another(shared_words, "other weights")),
        },
    ),
}


def state_of(folder):
    """By directory its kind, its manifest, and when its data files were written."""
    state = {}
    for manifest in folder.rglob(MANIFEST):
        paths = [path for path in manifest.parent.rglob("*.*") if path.suffix != ".lock" and path != manifest]
        written = {path: path.stat().st_mtime_ns for path in paths}
        state[manifest.parent] = json.loads(manifest.read_text())["kind"], manifest.read_text(), written
    return state


def wrong_after(folder, run, changes, among=tuple(KINDS)):
    """What the table says falsely, by change, and the kinds that a first run leaves."""
    run()
    before = state_of(folder)
    present, wrong = {kind for kind, *_ in before.values()}.intersection(among), {}
    for name, change in changes.items():
        run(**change)
        after = state_of(folder)
        built = {after[path][0] for path in after if path not in before or after[path][1] != before[path][1]}
        grown = {after[path][0] for path in after if path in before and after[path][2] != before[path][2]}
        renewed = {kind for kind in present if name in KINDS[kind].renewed_by}
        extended = {kind for kind in present if name in KINDS[kind].extended_by}
        if (built & present, grown & present - built) != (renewed, extended):
            wrong[name] = {"built": built & present ^ renewed, "grown": grown & present - built ^ extended}
        before = after
    return wrong, present


def mined(folder, base):
    def run(**change):
        mine(**{"pairs": PAIRS, "corpus": CORPUS, "safeguards": False, **base, **change}, cache_dir=str(folder))

    return run


KINDS_OF = {
    "bm25": {"corpus", "keys", "positives", "parents", "bm25", "candidates", "signals", "negatives"},
    "dense": {"corpus", "keys", "positives", "vectors", "dense", "uncertainty", "candidates", "signals", "negatives"},
    "bm25 in parts": {"bm25parts"},
    "splade": {"sparsevectors", "sparse"},
    "colbert": {"tokenvectors", "tokens"},
    "approximate": {"approximate", "recall"},
    "topics": {"topics"},
    "judged": {"scores"},
    "live encoder": {"encoder"},
    "live cross-encoder": {"crossencoder"},
    "own index": {"faiss"},
    "refresher": {"rows", "generation"},
    "generator": {"replies", "positivetexts"},
    "shards": {"shard"},
    "comparison": {"trial"},
}
"""Which job shows which kinds, at least."""


@pytest.mark.parametrize("name", JOBS)
def test_mining_builds_again_what_the_table_says(name, tmp_path):
    base, changes = JOBS[name]
    wrong, present = wrong_after(tmp_path, mined(tmp_path, base), changes)
    assert wrong == {} and present >= KINDS_OF[name]


def test_a_live_encoder(tmp_path):
    cross_encoder(tmp_path / "model")
    words = Transformer(str(tmp_path / "model"), max_seq_length=32)
    model = SentenceTransformer(modules=[words, Pooling(32)], device="cpu")
    run = mined(tmp_path / "cache", {**by_topics(), "encoder": model})
    run()
    before = state_of(tmp_path / "cache")
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    run()
    check_built("encoder", before, state_of(tmp_path / "cache"), KINDS_OF["live encoder"])


def test_a_live_cross_encoder(tmp_path):
    model = CrossEncoder(str(cross_encoder(tmp_path / "model")), device="cpu")
    run = mined(tmp_path / "cache", by_judge(judge=model))
    run()
    before = state_of(tmp_path / "cache")
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    run(**by_judge(judge=model))
    check_built("cross_encoder", before, state_of(tmp_path / "cache"), KINDS_OF["live cross-encoder"])


def check_built(change, before, after, kinds):
    built = {after[path][0] for path in after.keys() - before.keys()}
    present = {kind for kind, *_ in before.values()}
    assert built == {kind for kind in present if change in KINDS[kind].renewed_by} and kinds <= built


def test_an_index_of_ones_own(tmp_path):
    index = faiss.IndexFlatIP(16)
    index.add(encode(CORPUS["text"][:]))
    run = mined(tmp_path, {"strategy": Strategy([Dense(20)]), "index": index, "encoder": encode})
    changes = {name: CORPUS_CHANGES[name] for name in ("text", "id")} | PAIR_CHANGES
    wrong, present = wrong_after(tmp_path, run, changes)
    assert wrong == {} and present >= KINDS_OF["own index"]


def test_parts_of_shards(tmp_path):
    base, changes = JOBS["bm25"]

    def run(**change):
        arguments = {"pairs": PAIRS, "corpus": CORPUS, "safeguards": False, **base, **change}
        arguments.pop("batch_size", None)
        for number in (1, 2):
            place = {"out": tmp_path / "parts", "cache_dir": tmp_path / "cache", "overwrite": True}
            shards.mine(**arguments, **place, shard=(number, 2))

    for name, change in changes.items():
        run()
        before = state_of(tmp_path / "parts")
        run(**change)
        assert {kind for kind, *_ in before.values()} == KINDS_OF["shards"]
        assert (state_of(tmp_path / "parts") != before) == (name in KINDS["shard"].renewed_by), name


def test_a_refresh(tmp_path):
    base = {
        "pairs": PAIRS,
        "corpus": CORPUS,
        "strategy": Strategy([Dense(100)], [AbsoluteMargin(0.02)]),
        "encoder": encode,
    }

    def run(**change):
        Refresher(**{**base, **change}, directory=str(tmp_path)).refresh(1, step=1)

    changes = {
        **{name: change for name, change in DATA_CHANGES.items() if name != "column"},
        "threshold": {"strategy": Strategy([Dense(100)], [AbsoluteMargin(0.03)])},
        "num_negatives": {"num_negatives": 3},
        "depth": {"strategy": Strategy([Dense(120)], [AbsoluteMargin(0.02)])},
        "encoder": OTHER_ENCODER,
    }
    kept = {name for name, kind in KINDS.items() if kind.lasts}
    wrong, present = wrong_after(tmp_path, run, changes, among=kept | {"generation"})
    assert wrong == {} and present >= KINDS_OF["refresher"]
    assert {kind for kind, *_ in state_of(tmp_path / "cache").values()} <= kept


def test_a_comparison(tmp_path):
    trials = Trials(seeds=1, rounds=1, epochs=1)
    base = {"strategies": [Strategy([Dense(20)], [AbsoluteMargin(0.02)])], "encoder": encode, "trials": trials}

    def run(**change):
        compare(**{"pairs": PAIRS, "corpus": CORPUS, **base, **change}, cache_dir=str(tmp_path))

    changes = {
        **DATA_CHANGES,
        "column": NO_CHANGES["column"],
        "processes": {"num_proc": 2},
        "threshold": {"strategies": [Strategy([Dense(20)], [AbsoluteMargin(0.03)])]},
        "num_negatives": {"num_negatives": 3},
        "encoder": OTHER_ENCODER,
    }
    wrong, present = wrong_after(tmp_path, run, changes, among=("trial",))
    assert wrong == {} and present == KINDS_OF["comparison"]


def write(prompts):
    return [passage(" ".join(f"new{sum(map(ord, prompt)) % 9973}x{place}" for place in range(4))) for prompt in prompts]


def test_generated_negatives(tmp_path):
    cache, writer = {"cache_dir": str(tmp_path / "cache")}, another(write, "writer 1")

    def run(pairs=PAIRS, generator=writer):
        rows = mine(pairs, CORPUS, "bm25", cache_dir=str(tmp_path / "mined"))
        negatives = SyntheticNegatives(generator, known_positives=[rows], rate=1.0, **cache)
        rows.map(negatives, batched=True, load_from_cache_file=False)

    changes = {**PAIR_CHANGES, "generator": {"generator": another(write, "writer 2")}}
    wrong, present = wrong_after(tmp_path / "cache", run, changes)
    assert wrong == {} and present == KINDS_OF["generator"]


def test_every_kind_is_produced_and_every_change_tried():
    assert set().union(*KINDS_OF.values()) == set(KINDS)
    tried = {change for _, changes in JOBS.values() for change in changes} | {"generator"}
    assert tried == set(CHANGES)


def test_the_page_says_what_the_table_says():
    """`python -m tests.store.cache_page` writes it anew."""
    assert PAGE.read_text() == with_tables(PAGE.read_text())
    assert "| `num_proc`, `batch_size` | nothing |" in PAGE.read_text()


def test_what_a_refresh_keeps_does_not_depend_on_the_weights():
    kept = {name for name, kind in KINDS.items() if kind.lasts}
    assert {"corpus", "keys", "positives", "rows", "bm25", "scores", "replies"} <= kept
    assert not kept & {"vectors", "dense", "candidates", "negatives", "encoder", "topics"}
