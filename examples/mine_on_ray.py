"""Mine on a Ray cluster.

    ray start --head --port=6379                      # on the first machine
    ray start --address=first-machine:6379            # on every other one, with `pip install 'hf-hardneg[ray]'`
    ray job submit --working-dir examples -- python mine_on_ray.py \
        --pairs /shared/pairs.parquet --corpus /shared/corpus.parquet --cache-dir /shared/cache --out /shared/mined

Without a file system that all machines see: `--shared s3://bucket/folder`, and `--cache-dir` may lie on this machine. A
job that was stopped goes on when it is submitted again with the same `--cache-dir`.
"""

import argparse
from collections.abc import Sequence

import ray

from hf_hardneg.engines.ray import mine


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", required=True, help="files or folder of Parquet, as ray.data reads them")
    parser.add_argument("--corpus", required=True, help="whatever holds documents, as hf_hardneg.mine reads it")
    parser.add_argument("--strategy", default="bm25")
    parser.add_argument("--encoder", help="Hub id or folder, for strategies with vectors")
    parser.add_argument("--num-negatives", type=int, default=4)
    parser.add_argument("--workers", type=int, help="actors; by default as many as the cluster has room for")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each actor")
    parser.add_argument("--cache-dir", required=True, help="where all machines see it, or else --shared")
    parser.add_argument("--shared", help="a URL of fsspec that all machines reach")
    parser.add_argument("--out", required=True)
    options = parser.parse_args(arguments)
    if not ray.is_initialized():
        ray.init(address="auto")
    mined = mine(
        ray.data.read_parquet(options.pairs),
        options.corpus,
        options.strategy,
        workers=options.workers,
        num_gpus=options.gpus,
        shared=options.shared,
        num_negatives=options.num_negatives,
        cache_dir=options.cache_dir,
        confirm_cost=True,
        **({"encoder": options.encoder} if options.encoder else {}),
    )
    mined.save_to_disk(options.out)


if __name__ == "__main__":
    main()
