"""ADORE: train the query encoder alone, against an index of document vectors that never changes.

python examples/train_adore.py --model sentence-transformers/all-MiniLM-L6-v2 --out trained

Nothing is mined beforehand: every step searches the index with the queries as they are encoded at that moment.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

from hf_hardneg import HardNegatives, attach_dense, metrics
from hf_hardneg.demo import standard_library
from hf_hardneg.training import LiveModel, StepRetrieval, lambda_loss
from hf_hardneg.training.snapshots import snapshot

LENGTH = 64


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="Hub id or folder, of a model that retrieves already")
    parser.add_argument("--documents", type=int, default=1000, help="of the corpus")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--retrieved", type=int, default=50, help="documents for each query at each step")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def columns(rows):
    """A batch as `StepRetrieval` reads it."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def encode(model, tokenizer, texts):
    """Mean vectors of texts, with gradients."""
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt").to(model.device)
    hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
    return normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def reciprocal_rank(live, test, indexed, out) -> float:
    """MRR@10 of the test queries, encoded with the weights of this moment."""
    vectors = snapshot(live, out / "queries").encode(test["query"][:], kind="query")
    scores, found = indexed.search_batch("dense", vectors, k=10)
    ids = indexed["_id"][:]
    run, judged = {}, {}
    for query, (row, positives) in enumerate(zip(found, test["positive_ids"], strict=True)):
        run[query] = {ids[doc]: score for doc, score in zip(row, scores[query], strict=True)}
        judged[query] = dict.fromkeys(positives, 1)
    return metrics.load("retrieval").compute(predictions=run, references=judged, k=[10])["mrr@10"]


def main() -> None:
    args = parsed()
    set_seed(0)
    pairs, corpus = standard_library()
    corpus = corpus.select(range(min(args.documents, len(corpus))))
    known = set(corpus["_id"])
    pairs = pairs.filter(lambda row: known.issuperset(row["positive_ids"]))
    split = pairs.train_test_split(test_size=0.2, seed=0)
    train, test = split["train"], split["test"]

    accelerator = Accelerator()
    model = AutoModel.from_pretrained(args.model, add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    live = LiveModel(model=model, tokenizer=tokenizer, max_length=LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    loader = DataLoader(train, batch_size=16, shuffle=True, collate_fn=columns)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    documents = snapshot(live, args.out / "documents")  # encoded once, with the weights before training
    indexed = attach_dense(corpus, encoder=documents, cache_dir=str(args.out / "documents"))
    miner = HardNegatives(
        corpus, "dense", encoder=documents, known_positives=[train], cache_dir=str(args.out / "documents")
    )
    retrieve = StepRetrieval.of(miner, neg_topk=args.retrieved)

    accelerator.print(f"step 0: MRR@10 {reciprocal_rank(live, test, indexed, args.out):.3f}")
    model.train()
    step = 0
    while step < args.steps:
        for batch in loader:
            queries = encode(model, tokenizer, batch["query"])
            found = retrieve(queries, batch)
            loss = lambda_loss(queries, found.documents, found.relevant, mask=found.mask, metric_cut=args.retrieved)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 20 == 0 or step == args.steps:
                accelerator.print(f"step {step}: loss {loss.item():.4f}")
            if step == args.steps:
                break
    accelerator.print(f"step {step}: MRR@10 {reciprocal_rank(live, test, indexed, args.out):.3f}")

    if accelerator.is_main_process:
        live.model.save_pretrained(args.out / "query-model")
        tokenizer.save_pretrained(args.out / "query-model")
    accelerator.end_training()


if __name__ == "__main__":
    main()
