"""What each rank trains: `python -m torch.distributed.run --nproc_per_node 2 tests/distributed/training.py FOLDER`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hf_hardneg.errors import DataError
from hf_hardneg.training import (
    CrossBatchLoss,
    Guide,
    MoCHi,
    cached_backward,
    gather_rows,
    in_batch_margin_mse_loss,
    kl_loss,
    lambda_loss,
    margin_mse_loss,
    pairwise_loss,
    star_loss,
)
from tests.training.worlds import WIDTH, draw, vectors

STEPS = 20
SPLITS = {10: (5, 5), 7: (5, 2), 3: (3, 0)}
"""Rows of each rank, by those of the joined batch: even, uneven, and a rank without any."""
BATCHES = (10, 10, 7, 10, 3)


@dataclass(frozen=True)
class Case:
    """A loss of vectors of queries, positives and negatives, and of the rows they are of."""

    loss: Callable
    negatives: int = 3
    batches: tuple[int, ...] = BATCHES
    widths: tuple[int | None, ...] = (None, None)
    trains_documents: bool = True


def infonce(*, keyed=True, guided=False, weighed=False, **options):
    loss = CrossBatchLoss(**options)

    def of(queries, positives, negatives, rows, step):
        guides = vectors(50, width=3)
        guide = Guide(
            queries=guides[0][rows.query], positives=guides[1][rows.positive], negatives=guides[1][rows.negative]
        )
        return loss(
            queries,
            positives,
            negatives,
            negative_mask=rows.mask,
            keys=rows.keys() if keyed else None,
            guide="own_weights" if weighed else guide if guided else None,
            step=step,
            weights=1.0 + rows.query % 3 if weighed else None,
            negative_weights=rows.negative % 3 / 2.0 if weighed else None,
        )

    return of


def own_documents(loss, **options):
    def of(queries, positives, negatives, rows, step):
        scores = (rows.scores,) if loss in (margin_mse_loss, kl_loss) else ()
        return loss(queries, positives, negatives, *scores, negative_mask=rows.mask, **options)

    return of


def in_batch(queries, positives, negatives, rows, step):
    """The teacher's vectors are those of the guide, here gathered by number."""
    teacher = vectors(50, width=3)
    gathered = gather_rows({"positives": rows.positive, "negatives": rows.negative.flatten()}).rows
    scores = teacher[0][rows.query] @ teacher[1][torch.cat([gathered["positives"], gathered["negatives"]])].T
    return in_batch_margin_mse_loss(queries, positives, negatives, scores, negative_mask=rows.mask)


def adore(queries, positives, negatives, rows, step):
    documents = torch.cat([negatives, positives.unsqueeze(1)], dim=1)
    relevant = (documents.new_tensor([0.0, 0.0, 0.0, 1.0]) > 0).expand(len(queries), -1)
    mask = torch.cat([rows.mask, relevant[:, :1] | True], dim=1)
    return lambda_loss(queries, documents, relevant, metric_cut=4, mask=mask)


def star(queries, positives, negatives, rows, step):
    return star_loss(queries, positives, negatives, negative_mask=rows.mask, keys=rows.keys())


CASES = {
    "in_batch": Case(infonce(keyed=False), negatives=0),
    "mined": Case(infonce(keyed=False)),
    "masked": Case(infonce()),
    "other_widths": Case(infonce(), widths=(None, 2)),
    "sum": Case(infonce(multi_positive="sum", mask_repeats=True)),
    "guided": Case(infonce(guided=True, contrast_queries=True, contrast_documents=True)),
    "weighed": Case(infonce(weighed=True, multi_positive="pairs", document_to_query=True)),
    "random": Case(infonce(multi_positive="random", document_to_query=True, guided=True)),
    "hardness": Case(infonce(hardness_mode="in_batch_negatives", hardness_strength=5.0)),
    "mixed": Case(infonce(mixing=MoCHi(n_hard=6, s1=3, s2=2, start1=0, start2=5))),
    "frozen_documents": Case(infonce(), trains_documents=False),
    "star": Case(star),
    "pairwise": Case(own_documents(pairwise_loss)),
    "margin_mse": Case(own_documents(margin_mse_loss)),
    "in_batch_margin_mse": Case(in_batch, widths=(None, 2)),
    "kl": Case(own_documents(kl_loss, temperature=2.0)),
    "adore": Case(adore),
}


RUNS = {name: (case, None) for name, case in CASES.items()}
RUNS |= {f"{name} cached": (case, 4) for name, case in CASES.items() if case.trains_documents}
"""Cases, and rows that GradCache encodes at a time."""


def encoder():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, 8), torch.nn.Tanh(), torch.nn.Linear(8, WIDTH)).double()


def share(rows, rank, world, widths):
    """The rows of a rank, as wide as its negatives need."""
    if world == 1:
        return rows
    ends = SPLITS[len(rows.query)]
    start = sum(ends[:rank])
    width = widths[rank]
    return rows.part(slice(start, start + ends[rank]), width)


def train(case, chunk_size, rank=0, world=1):
    """Losses and gradients of all steps, averaged over ranks, and the parameters after them."""
    model = encoder()
    trained = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    inputs = vectors(7)
    losses, grads = [], []
    for step in range(STEPS):
        batch = draw(case.batches[step % len(case.batches)], step, negatives=case.negatives)
        if min(filter(None, case.widths), default=0):
            batch = narrowed(batch, case.widths)
        rows = share(batch, rank, world, case.widths)
        tokens = [inputs[0][rows.query], inputs[1][rows.positive], inputs[1][rows.negative].flatten(0, 1)]
        optimizer.zero_grad()
        losses.append(backward(case, trained, tokens, rows, step, chunk_size))
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        optimizer.step()
    losses = torch.stack(losses)
    if world > 1:
        dist.all_reduce(losses)
    return {
        "losses": losses / world,
        "gradients": torch.stack(grads),
        "parameters": torch.cat([parameter.detach().flatten() for parameter in model.parameters()]),
    }


def narrowed(rows, widths):
    """The joined batch where the last rows, of the last rank, have fewer negatives."""
    first = SPLITS[len(rows.query)][0]
    rows.mask[first:, widths[1] :] = False
    rows.negative[first:, widths[1] :] = rows.positive[first:, None]
    return rows


def backward(case, model, tokens, rows, step, chunk_size):
    def loss(queries, positives, negatives=None):
        shaped = None if negatives is None else negatives.unflatten(0, rows.mask.shape)
        return case.loss(queries, positives, shaped, rows, step)

    if not case.negatives:
        tokens = tokens[:2]
    if chunk_size is not None:
        return cached_backward(model, tokens, loss, chunk_size=chunk_size, module=model)
    found = [model(tokens[0]), *(model(one) if case.trains_documents else one for one in tokens[1:])]
    value = loss(*found)
    value.backward()
    return value.detach()


class Towers(torch.nn.Module):
    """An encoder of queries and another of documents."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.towers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH).double() for _ in range(2))

    def forward(self, batch):
        return self.towers[int(batch["tower"][0])](batch["vectors"])


def train_towers(rank=0, world=1):
    """Gradients of three steps of two towers."""
    model, found = Towers(), []
    trained = DistributedDataParallel(model, find_unused_parameters=True) if world > 1 else model
    for step in range(3):
        rows = share(draw(7, step), rank, world, (None, None))
        parts = zip(vectors(step), (rows.query, rows.positive), strict=True)
        inputs = [
            {"vectors": part[places], "tower": torch.full((len(places),), tower)}
            for tower, (part, places) in enumerate(parts)
        ]
        model.zero_grad()
        cached_backward(trained, inputs, CrossBatchLoss(), chunk_size=2, module=trained)
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    return torch.stack(found)


def refused(rank):
    """What ranks are told whose rows cannot be joined."""
    messages = []
    for given in (
        {"positives": torch.ones(2, 3 + rank)},
        {"positives": torch.ones(2, 3, dtype=[torch.float32, torch.float64][rank])},
        {"positives": torch.ones(2, 3)} | ({"keys": torch.ones(2)} if rank else {}),
    ):
        try:
            gather_rows(given)
        except DataError as error:
            messages.append(str(error))
    return messages


def lopsided(rank):
    """The gradient of rows of rank 1, where rank 0 wants none of its own."""
    rows = torch.ones(1 + rank, 3, requires_grad=rank == 1)
    gather_rows({"rows": rows}).rows["rows"].sum().backward()
    return rows.grad


def main(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found = {name: train(*run, rank, dist.get_world_size()) for name, run in RUNS.items()}
    found = {"runs": found, "towers": train_towers(rank, dist.get_world_size())}
    found |= {"refused": refused(rank), "lopsided": lopsided(rank)}
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
