"""What refreshed negatives cost a training step between refreshes, and how refreshes scale to two ranks.

    python -m benchmarks.refresh --model MODEL [--layers N]

The plugin's part of a step is what it adds to the same loop over stored negatives: reading the newest generation, and
counting. Both loops run in turns over the same batches, on the machine as it is; medians are compared.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

from examples.train_accelerate import LENGTH, NEGATIVES, collate, data, loss_of
from hf_hardneg.training import HardNegativePlugin, LiveModel, Refresher, Schedule


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    train, _, corpus = data(args.documents)
    model, tokenizer = AutoModel.from_pretrained(args.model, add_pooling_layer=False), None
    if args.layers:
        model.encoder.layer, model.config.num_hidden_layers = model.encoder.layer[: args.layers], args.layers
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    live = LiveModel(model=model, tokenizer=tokenizer, max_length=LENGTH)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    with tempfile.TemporaryDirectory() as folder:
        refresher = Refresher(
            train, corpus, encoder=live, directory=folder, num_negatives=NEGATIVES, on_shortage="pad_random"
        )
        started = time.perf_counter()
        refresher.at(0, Schedule(every=10**6, first=0))
        refresh = time.perf_counter() - started
        stored = train.map(refresher.negatives, batched=True)
        plugin = HardNegativePlugin(accelerator, refresher, refresh_every=10**6, first_refresh=0)
        optimizer = accelerator.prepare(torch.optim.AdamW(model.parameters(), lr=1e-5))
        options = {"batch_size": 16, "drop_last": True, "collate_fn": functools.partial(collate, tokenizer=tokenizer)}
        plain = accelerator.prepare(DataLoader(stored, **options))
        refreshed = accelerator.prepare(DataLoader(train.with_transform(refresher.negatives), **options))
        seconds = {"plain": [], "plugin": []}

        def step(tokens):
            accelerator.backward(loss_of(model, tokens))
            optimizer.step()
            optimizer.zero_grad()

        loops = {"plain": iter(plain), "plugin": plugin.batches(refreshed)}
        for number in range(min(args.steps, len(plain) - 1) * 2):
            name = ("plain", "plugin")[number % 2]
            started = time.perf_counter()
            step(next(loops[name]))
            if name == "plugin":
                plugin.step()
            seconds[name].append(time.perf_counter() - started)
        rows = train[:16]
        started = time.perf_counter()
        for _ in range(100):
            refresher.negatives(rows)
        lookup = (time.perf_counter() - started) / 100
    median = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    result = {
        "documents": len(corpus),
        "queries": len(train),
        "model": Path(args.model).name,
        "layers": args.layers or model.config.num_hidden_layers,
        "step_seconds": {name: round(value, 5) for name, value in median.items()},
        "lookup_milliseconds_for_16_rows": round(1000 * lookup, 3),
        "share_of_a_step": round(lookup / median["plain"], 4),
        "refresh_seconds": round(refresh, 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
