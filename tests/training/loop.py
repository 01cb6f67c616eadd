"""A plain Accelerate loop with the plugin, as a script of one or more ranks runs it."""

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hf_hardneg.training import AsyncRefresher, HardNegativePlugin
from tests.training.world import live_model, loss_of, refresher

FIRST, EVERY, STEPS = 3, 4, 13


class Run:
    """Trains a tiny model for some steps; keeps its losses and the negatives of each step."""

    def __init__(self, directory, *, accumulate=1, workers=0, lag=None, **options):
        set_seed(5)
        self.accelerator = Accelerator(
            cpu=True,
            gradient_accumulation_steps=accumulate,
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        )
        live = live_model()
        optimizer = torch.optim.AdamW(live.model.parameters(), lr=3e-3)
        self.refresher = refresher(directory, live, **options)
        loader = DataLoader(
            self.refresher.pairs.with_transform(self.refresher.negatives),
            batch_size=4,
            shuffle=True,
            collate_fn=list,
            num_workers=workers,
        )
        prepared = self.accelerator.prepare(live.model, optimizer, loader)
        object.__setattr__(live, "model", prepared[0])
        self.live, self.optimizer, self.loader = live, prepared[1], prepared[2]
        made = self.refresher if lag is None else AsyncRefresher(self.refresher, lag=lag)
        self.plugin = HardNegativePlugin(self.accelerator, made, refresh_every=EVERY, first_refresh=FIRST)
        self.losses, self.seen = {}, {}

    def train(self, steps=STEPS, save=(), folder=None):
        self.live.model.train()
        while self.plugin.steps < steps:
            for rows in self.plugin.batches(self.loader):
                with self.accelerator.accumulate(self.live.model):
                    loss = loss_of(self.live, rows)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                self.seen.setdefault(self.plugin.steps, []).append(
                    [(row["query_id"], row["negative_generation"], tuple(row["negative_ids"])) for row in rows]
                )
                self.losses.setdefault(self.plugin.steps, []).append(loss.item())
                self.plugin.step()
                if self.plugin.steps in save and self.accelerator.sync_gradients:
                    self.accelerator.save_state(str(folder / f"step-{self.plugin.steps}"))
                if self.plugin.steps == steps:
                    break
        return self

    def resume(self, folder, step):
        self.accelerator.load_state(str(folder / f"step-{step}"))
        return self
