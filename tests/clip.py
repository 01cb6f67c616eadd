"""A CLIP of 154,000 parameters, with random weights or trained for seconds on drawn pictures and their captions."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from tests.drawn import COLOURS, KINDS, SHAPES, SIDE, draw

VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "a", *COLOURS, *SHAPES)
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def tokenizer():
    words = models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="<unk>")
    cut = Tokenizer(words)
    cut.pre_tokenizer = pre_tokenizers.Whitespace()
    cut.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=cut, model_max_length=16, **marks)


def clip(folder, *, steps=0):
    """Save a tiny CLIP into a folder, trained for some steps of 64 pictures; return the folder."""
    torch.manual_seed(0)
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    text = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 16, **marks, **SIZES}
    config = CLIPConfig(
        text_config=text, vision_config={"image_size": SIDE, "patch_size": 8, **SIZES}, projection_dim=32
    )
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    model, processor = CLIPModel(config), CLIPProcessor(image_processor=images, tokenizer=tokenizer())
    _train(model, processor, steps)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)


def _train(model, processor, steps):
    """Bring pictures and captions of one kind together; equal captions in a batch are no negatives of each other."""
    rng, optimizer = np.random.default_rng(1), torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        kinds = [KINDS[number] for number in rng.integers(len(KINDS), size=64)]
        captions = [f"a {colour} {shape}" for shape, colour in kinds]
        inputs = processor(
            text=captions, images=[draw(*kind, rng) for kind in kinds], return_tensors="pt", padding=True
        )
        logits = model(**inputs).logits_per_image
        alike = torch.tensor([[one == other for other in captions] for one in captions]).float()
        target = alike / alike.sum(1, keepdim=True)
        loss = sum(torch.nn.functional.cross_entropy(each, target) for each in (logits, logits.T))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
