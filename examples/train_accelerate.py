"""Train a retriever on the documentation of Python's standard library: mine, train, refresh, evaluate, save.

    python examples/train_accelerate.py --model sentence-transformers/all-MiniLM-L6-v2 --out trained
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 examples/train_accelerate.py --model ... --out trained

Run again with --resume, it goes on from its last checkpoint, with the same batches and the same negatives.
"""

import argparse
import functools
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

from hf_hardneg import attach_dense
from hf_hardneg.demo import standard_library
from hf_hardneg.training import HardNegativePlugin, LiveModel, Refresher
from hf_hardneg.training.snapshots import snapshot

NEGATIVES, LENGTH = 4, 64


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a BERT-like model: Hub id or folder")
    parser.add_argument("--layers", type=int, help="use the first layers only")
    parser.add_argument("--documents", type=int, default=1000, help="of the corpus")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--refresh-every", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def data(documents: int):
    """Training pairs, test pairs, corpus."""
    pairs, corpus = standard_library()
    corpus = corpus.select(range(min(documents, len(corpus))))
    known = set(corpus["_id"])
    pairs = pairs.filter(lambda row: known.issuperset(row["positive_ids"]))
    split = pairs.train_test_split(test_size=0.2, seed=0)
    return split["train"], split["test"], corpus


def collate(rows, tokenizer):
    """One batch of tokens: the queries, then each query's positive and negatives."""
    texts = [row["query"] for row in rows]
    texts += [text for row in rows for text in (row["positive"][0], *row["negatives"])]
    return tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")


def loss_of(model, tokens):
    """InfoNCE over each query's own documents."""
    hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
    vectors = normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    group = 1 + NEGATIVES
    size = len(vectors) // (1 + group)
    queries, documents = vectors[:size], vectors[size:].view(size, group, -1)
    scores = torch.einsum("qd,qnd->qn", queries, documents) / 0.05
    return cross_entropy(scores, torch.zeros(size, dtype=torch.long, device=scores.device))


def reciprocal_rank(live, test, corpus, out) -> float:
    """MRR@10 of the test queries, by exact search."""
    encoder = snapshot(live, out / "evaluation")
    indexed = attach_dense(corpus, encoder=encoder, cache_dir=str(out / "evaluation"))
    _, found = indexed.search_batch("dense", encoder.encode(test["query"][:], kind="query"), k=10)
    ids, total = corpus["_id"][:], 0.0
    for rows, positives in zip(found, test["positive_ids"], strict=True):
        ranks = [rank for rank, row in enumerate(rows, 1) if ids[row] in positives]
        total += 1 / ranks[0] if ranks else 0
    return total / len(test)


def main() -> None:
    args = parsed()
    set_seed(0)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    train, test, corpus = data(args.documents)

    model = AutoModel.from_pretrained(args.model, add_pooling_layer=False)
    if args.layers:
        model.encoder.layer, model.config.num_hidden_layers = model.encoder.layer[: args.layers], args.layers
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    live = LiveModel(model=model, tokenizer=tokenizer, max_length=LENGTH)

    refresher = Refresher(
        train, corpus, encoder=live, directory=args.out / "negatives", num_negatives=NEGATIVES, on_shortage="pad_random"
    )
    loader = DataLoader(
        train.with_transform(refresher.negatives),
        batch_size=args.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=functools.partial(collate, tokenizer=tokenizer),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    plugin = HardNegativePlugin(accelerator, refresher, refresh_every=args.refresh_every)

    if args.resume:
        accelerator.load_state(str(args.out / "checkpoint"))
    accelerator.print(f"step {plugin.steps}: MRR@10 {reciprocal_rank(live, test, corpus, args.out):.3f}")
    prepared.train()
    while plugin.steps < args.steps:
        for tokens in plugin.batches(loader):
            loss = loss_of(prepared, tokens)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if plugin.step():
                accelerator.print(f"step {plugin.steps}: loss {loss.item():.3f}, new negatives")
                accelerator.save_state(str(args.out / "checkpoint"))
            if plugin.steps == args.steps:
                break
    accelerator.print(f"step {plugin.steps}: MRR@10 {reciprocal_rank(live, test, corpus, args.out):.3f}")

    if accelerator.is_main_process:
        model.save_pretrained(args.out / "model")
        tokenizer.save_pretrained(args.out / "model")
    accelerator.end_training()


if __name__ == "__main__":
    main()
