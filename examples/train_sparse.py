"""Train a SparseEncoder (SPLADE) with negatives that are mined again from its own sparse vectors while it learns.

python examples/train_sparse.py --model naver/splade-cocondenser-ensembledistil --out trained
"""

import argparse
from pathlib import Path

from sentence_transformers import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss

from hf_hardneg import Sparse, Strategy, Uniform
from hf_hardneg.demo import standard_library
from hf_hardneg.training import HardNegativeCallback, Refresher, Tuples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--model", required=True, help="Hub id or folder, of a SparseEncoder or a masked language model"
    )
    parser.add_argument("--documents", type=int, default=1000, help="of the corpus")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--refresh-every", type=int, default=25)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pairs, corpus = standard_library()
    corpus = corpus.select(range(min(args.documents, len(corpus))))
    known = set(corpus["_id"])
    pairs = pairs.filter(lambda row: known.issuperset(row["positive_ids"]))

    model = SparseEncoder(args.model)
    model.max_seq_length = 64
    refresher = Refresher(
        pairs,
        corpus,
        Strategy([Sparse(100)], [], Uniform(100)),
        encoder=model,
        directory=args.out / "negatives",
        num_negatives=2,
        on_shortage="pad_random",
    )
    callback = HardNegativeCallback(
        refresher, refresh_every=args.refresh_every, transform=Tuples(refresher.negatives, size=2)
    )
    arguments = SparseEncoderTrainingArguments(
        str(args.out / "checkpoints"),
        max_steps=args.steps,
        per_device_train_batch_size=16,
        learning_rate=2e-5,
        remove_unused_columns=False,
        report_to=[],
    )
    ranking = SparseMultipleNegativesRankingLoss(model)
    SparseEncoderTrainer(
        model,
        arguments,
        train_dataset=pairs,
        loss=SpladeLoss(model, ranking, document_regularizer_weight=3e-5, query_regularizer_weight=5e-5),
        callbacks=[callback],
    ).train()
    model.save_pretrained(str(args.out / "model"))
    print(f"{refresher.generations.current} generations of negatives in {args.out / 'negatives'}")


if __name__ == "__main__":
    main()
