"""The pieces together: mined data, tokens, a transformer in chunks, a loss."""

import pytest
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel

from hf_hardneg import mine
from hf_hardneg.training import (
    CrossBatchCollator,
    Keys,
    TopicBatchSampler,
    cached_backward,
    cross_batch_loss,
    known_positives,
    query_topics,
)
from tests.training.test_collator import TOKENIZER
from tests.worlds import encode


@pytest.mark.slow
def test_a_transformer_learns_from_mined_data_in_chunks(tmp_path):
    corpus = Dataset.from_dict({"text": [f"word{i % 7} word{i % 5} word{i}" for i in range(40)]})
    pairs = Dataset.from_dict({"query": [f"word{i % 7} word{i}" for i in range(24)], "positive": corpus["text"][:24]})
    mined = mine(pairs, corpus, "bm25", num_negatives=2, cache_dir=str(tmp_path))
    sampler = TopicBatchSampler(query_topics(encode(mined["query"]), topics=3), 8)
    collator = CrossBatchCollator(TOKENIZER, num_negatives=2, known=known_positives(mined, cache_dir=tmp_path))
    loader = DataLoader(mined, batch_sampler=sampler, collate_fn=collator)
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertModel(config, add_pooling_layer=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for epoch in range(8):
        sampler.set_epoch(epoch)
        for batch in loader:
            batch = send_to_device(batch, "cpu")
            mask, keys = batch["negative_mask"], Keys(**batch["keys"])

            def loss(queries, positives, negatives, mask=mask, keys=keys):
                shaped = negatives.unflatten(0, mask.shape)
                return cross_batch_loss(queries, positives, shaped, negative_mask=mask, keys=keys)

            tokens = [batch[name] for name in ("queries", "positives", "negatives")]
            optimizer.zero_grad()
            losses.append(cached_backward(lambda one: model(**one)[0].mean(dim=1), tokens, loss, chunk_size=4))
            optimizer.step()
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
