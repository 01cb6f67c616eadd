"""Rows of all ranks, with gradients; the only training module that talks to `torch.distributed`.

Every rank compares its own queries with the documents of all (scheme A of RocketQA's cross-batch negatives, arXiv
2010.08191). The gradient of a gathered row is the sum over ranks, so averaged over ranks, as DistributedDataParallel
does, gradients are the same as of one process with the joined batch. No factor of the world's size is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hf_hardneg.errors import DataError
from hf_hardneg.runtime.arguments import AtLeastZero, checked


def world_size() -> int:
    """Return how many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Rows of all ranks, rank after rank.

    Args:
        rows (`dict[str, Tensor]`): (rows of all ranks, …).
        start (`dict[str, int]`): where the rows of this rank begin.
    """

    rows: dict[str, Tensor]
    start: dict[str, int]


@checked
def gather_rows(tensors: Mapping[str, Tensor]) -> Gathered:
    """Gather the rows of all ranks; every rank must call it, with the same names.

    Ranks may have different numbers of rows, none included. Alone, tensors are returned as they are.

    Args:
        tensors (`Mapping[str, Tensor]`): (rows, …); gradients flow back to every rank whose tensor wants them.

    Raises:
        DataError: on all ranks, where one gives other names, dimensions (but the first) or another dtype.
    """
    if world_size() == 1:
        return Gathered(rows=dict(tensors), start=dict.fromkeys(tensors, 0))
    ranks = _described(tensors)
    _check(ranks)
    groups: dict[Any, list[str]] = {}
    for name, tensor in ranks[0].items():
        groups.setdefault((tensor.dtype, tensor.shape[1:]), []).append(name)
    rows: dict[str, Tensor] = {}
    for names in groups.values():
        block = torch.cat([tensors[name] for name in names])
        if torch.is_grad_enabled() and any(rank[name].wants_grad for rank in ranks for name in names):
            block.requires_grad_()
        sizes = [sum(rank[name].shape[0] for name in names) for rank in ranks]
        everyone: Tensor = _AllGather.apply(block, sizes)  # type: ignore[no-untyped-call]
        parts = torch.split(everyone, [rank[name].shape[0] for rank in ranks for name in names])
        rows |= {name: torch.cat(parts[place :: len(names)]) for place, name in enumerate(names)}
    before = ranks[: dist.get_rank()]
    return Gathered(rows=rows, start={name: sum(rank[name].shape[0] for rank in before) for name in tensors})


@checked
def joined_mean(total: Tensor, count: Tensor | AtLeastZero) -> Tensor:
    """Return this rank's share of a mean: averaged over ranks, shares are the mean of the joined batch.

    With equal counts it is the local mean; otherwise `ranks * total / sum of counts`. 0 where nothing is counted.

    Args:
        total (`Tensor`): scalar, the sum over this rank's items.
        count (`Tensor` or `int`): how many items that is, or the sum of their weights.
    """
    number = torch.as_tensor(count, device=total.device)
    exact = torch.promote_types(number.dtype, torch.float32) if number.is_floating_point() else torch.int64
    everyone = number.detach().to(exact, copy=True)
    if world_size() > 1:
        dist.all_reduce(everyone)
    return total * world_size() / torch.where(everyone == 0, 1, everyone).to(total.dtype)


@dataclass(frozen=True)
class _Description:
    shape: tuple[int, ...]
    dtype: str
    wants_grad: bool


def _described(tensors: Mapping[str, Tensor]) -> list[dict[str, _Description]]:
    """Describe the tensors of each rank."""
    described = {
        name: _Description(tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad)
        for name, tensor in tensors.items()
    }
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, described)
    return everyone


def _check(ranks: Sequence[dict[str, _Description]]) -> None:
    for number, rank in enumerate(ranks):
        for name in ranks[0].keys() ^ rank.keys():
            has, lacks = (0, number) if name in ranks[0] else (number, 0)
            raise DataError(
                f"Rank {has} gave {name} and rank {lacks} did not; every rank must give the same tensors, "
                "if of no rows. Build the batches of all ranks with one collator and one loss."
            )
        for name, tensor in rank.items():
            first = ranks[0][name]
            if (tensor.dtype, tensor.shape[1:]) != (first.dtype, first.shape[1:]):
                raise DataError(
                    f"Rank {number} gave {name} of shape {tensor.shape}, {tensor.dtype}; rank 0 of shape "
                    f"{first.shape}, {first.dtype}. Only the number of rows may differ. Use one model and one "
                    "precision on all ranks."
                )


class _AllGather(torch.autograd.Function):
    """Rows of all ranks; the gradient is summed over ranks."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = block.new_zeros(max(sizes), *block.shape[1:])
        padded[: len(block)] = block
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        summed = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return torch.split(summed, ctx.sizes)[dist.get_rank()], None
