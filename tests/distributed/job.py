"""What each rank runs: `python -m torch.distributed.run --nproc_per_node 2 tests/distributed/job.py CACHE MODEL`."""

import sys
from pathlib import Path

from datasets import Dataset

from hf_hardneg.corpus.documents import open_corpus
from hf_hardneg.models import embeddings
from hf_hardneg.models.encoder import load_encoder
from hf_hardneg.retrievers.attach import index_corpus

TEXTS = [f"word{row % 300} word{row % 7}" for row in range(400)]
SHARD = 8


def build(cache, encoder, shard=SHARD):
    """The index of `TEXTS`, built by all ranks of the launch."""
    embeddings.SHARD = shard
    dataset = Dataset.from_dict({"text": TEXTS})
    corpus = open_corpus(dataset, cache_dir=str(cache))
    return index_corpus(dataset, corpus, load_encoder(encoder, cache_dir=Path(cache)), None, "cosine")


if __name__ == "__main__":
    build(*sys.argv[1:])
