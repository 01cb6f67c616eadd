"""Train a retriever in Lightning with negatives that are mined again from its own weights.

python examples/train_lightning.py --model sentence-transformers/all-MiniLM-L6-v2 --out trained
"""

import argparse
import functools
from pathlib import Path

import lightning.pytorch as lightning
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

from hf_hardneg.demo import standard_library
from hf_hardneg.training import HardNegativeLightning, LiveModel, Refresher

NEGATIVES, LENGTH = 4, 64


class Retriever(lightning.LightningModule):
    """InfoNCE over each query's positive and its own negatives."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, tokens, _):
        hidden, mask = self.model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
        vectors = normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
        size = len(vectors) // (2 + NEGATIVES)
        queries, documents = vectors[:size], vectors[size:].view(size, 1 + NEGATIVES, -1)
        scores = torch.einsum("qd,qnd->qn", queries, documents) / 0.05
        return cross_entropy(scores, torch.zeros(size, dtype=torch.long, device=scores.device))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=5e-5)


def collate(rows, tokenizer):
    """One batch of tokens: the queries, then each query's positive and negatives."""
    texts = [row["query"] for row in rows]
    texts += [text for row in rows for text in (row["positive"][0], *row["negatives"])]
    return dict(tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a BERT-like model: Hub id or folder")
    parser.add_argument("--documents", type=int, default=1000, help="of the corpus")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--refresh-every", type=int, default=25)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pairs, corpus = standard_library()
    corpus = corpus.select(range(min(args.documents, len(corpus))))
    known = set(corpus["_id"])
    pairs = pairs.filter(lambda row: known.issuperset(row["positive_ids"]))

    model, tokenizer = AutoModel.from_pretrained(args.model), AutoTokenizer.from_pretrained(args.model)
    refresher = Refresher(
        pairs,
        corpus,
        encoder=LiveModel(model=model, tokenizer=tokenizer, max_length=LENGTH),
        directory=args.out / "negatives",
        num_negatives=NEGATIVES,
        on_shortage="pad_random",
    )
    loader = DataLoader(
        pairs.with_transform(refresher.negatives),
        batch_size=16,
        shuffle=True,
        drop_last=True,
        collate_fn=functools.partial(collate, tokenizer=tokenizer),
    )
    callback = HardNegativeLightning(refresher, refresh_every=args.refresh_every)
    lightning.Trainer(max_steps=args.steps, default_root_dir=args.out, callbacks=[callback], logger=False).fit(
        Retriever(model.train()), loader
    )
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    print(f"{refresher.generations.current} generations of negatives in {args.out / 'negatives'}")


if __name__ == "__main__":
    main()
