"""What refreshed negatives cost a training step between refreshes.

    python -m benchmarks.refresh --model MODEL [--layers N]

The plugin's part of a step is what it adds to reading the same batch with stored negatives: looking them up in the
newest generation, and counting. Both are read in turns, and one of them trained on; medians of processor time, of one
thread, are compared, so that what else the machine does counts little. The refresh is timed by the clock.
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
    torch.set_num_threads(1)
    train, _, corpus = data(args.documents)
    model = AutoModel.from_pretrained(args.model, add_pooling_layer=False)
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
        read, trained = {"stored": [], "refreshed": []}, []
        loops = {"stored": iter(plain), "refreshed": plugin.batches(refreshed)}
        for _ in range(min(args.steps, len(plain) - 2)):
            for name, batches in loops.items():
                started = time.process_time()
                tokens = next(batches)
                if name == "refreshed":
                    plugin.step()
                read[name].append(time.process_time() - started)
            started = time.process_time()
            accelerator.backward(loss_of(model, tokens))
            optimizer.step()
            optimizer.zero_grad()
            trained.append(time.process_time() - started)
    medians = {name: statistics.median(values[2:]) for name, values in read.items()}
    step = statistics.median(trained) + medians["stored"]
    result = {
        "documents": len(corpus),
        "queries": len(train),
        "model": Path(args.model).name,
        "layers": args.layers or model.config.num_hidden_layers,
        "step_milliseconds": round(1000 * step, 2),
        "read_milliseconds": {name: round(1000 * value, 3) for name, value in medians.items()},
        "share_of_a_step": round((medians["refreshed"] - medians["stored"]) / step, 4),
        "refresh_seconds": round(refresh, 2),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
