"""A small training set, a tiny BERT, and a plain loop over them."""

import shutil

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from hf_hardneg import Strategy
from hf_hardneg.retrievers import Dense
from hf_hardneg.samplers import Uniform
from hf_hardneg.training import LiveModel, Refresher
from tests.models.test_encoder import MINILM
from tests.worlds import world

STRATEGY = Strategy([Dense(12)], [], Uniform(12))


def live_model(seed=0, dropout=0.1):
    """A BERT of two layers with MiniLM's tokenizer."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return LiveModel(
        model=BertModel(config, add_pooling_layer=False), tokenizer=AutoTokenizer.from_pretrained(MINILM), max_length=32
    )


def refresher(directory, live, pairs=None, corpus=None, **options):
    given = world(3, documents=70, queries=14) if pairs is None else (pairs, corpus)
    return Refresher(*given, STRATEGY, encoder=live, directory=directory, **{"num_negatives": 3, **options})


def shift(live, seed=7):
    """Change the weights, as training would."""
    with torch.no_grad():
        for number, parameter in enumerate(live.model.parameters()):
            generator = torch.Generator().manual_seed(seed + number)
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def encoded(live, texts):
    """Mean vectors of texts with gradients, (n, d), by whatever the model is wrapped in."""
    tokens = live.tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    return pooled(live.model, tokens)


def pooled(model, tokens):
    hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)


def loss_of(live, rows):
    """InfoNCE of each query's positive and its own negatives."""
    texts = [row["query"] for row in rows]
    documents = [[row["positive"][0], *row["negatives"]] for row in rows]
    flat = [text for group in documents for text in group]
    vectors = torch.nn.functional.normalize(encoded(live, texts + flat), dim=-1)
    queries, groups = vectors[: len(texts)], vectors[len(texts) :].split([len(group) for group in documents])
    scores = [group @ query / 0.1 for query, group in zip(queries, groups, strict=True)]
    return torch.stack([torch.logsumexp(one, 0) - one[0] for one in scores]).mean()


def copied(source, target):
    shutil.copytree(source, target, copy_function=shutil.copy2)
    return target
