"""Linear layers in oneDNN's own weight layout, for inference in float32 on CPU.

The weights are reordered once, when a model is loaded, and a GELU that follows is applied while its input is still in
cache. The results differ from the plain layers' in the last bits; the results of a row do not depend on other rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

ROWS = 1024
TOLERANCE = 1e-4


class PackedLinear(nn.Module):
    """A linear layer, with the exact GELU after it if asked, that keeps only the reordered weights.

    Args:
        layer (`nn.Linear`): the layer to replace.
        gelu (`bool`): whether to apply GELU.
    """

    def __init__(self, layer: nn.Linear, *, gelu: bool) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.bias = layer.bias
        self.after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, *self.after)


def pack(model: nn.Module, probe: Mapping[str, Tensor]) -> None:
    """Replace a model's linear layers in place; leave it as it is where its first output would not stay the same.

    Args:
        model (`nn.Module`): a transformers model in float32 on CPU.
        probe (`Mapping[str, torch.Tensor]`): inputs on which that output is compared.
    """
    originals = []
    with torch.inference_mode():
        expected = model(**probe)[0]
        try:
            for block, name, replacement in _replacements(model):
                originals.append((block, name, getattr(block, name)))
                setattr(block, name, replacement)
            packed = model(**probe)[0]
            same = torch.allclose(packed, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
        except (AttributeError, RuntimeError, TypeError) as error:
            logger.info("plain linear layers: %s", error)
            same = False
    if not same:
        for block, name, original in originals:
            setattr(block, name, original)


def _replacements(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (module, name of its child, replacement) for each linear layer, and each activation fused into one."""
    for block in list(model.modules()):
        fused = _gelu_follows(block)
        for name, child in list(block.named_children()):
            if type(child) is nn.Linear:
                yield block, name, PackedLinear(child, gelu=fused and name == "dense")
        if fused:
            yield block, "intermediate_act_fn", nn.Identity()


def _gelu_follows(block: Any) -> bool:
    """Say whether this is one of transformers' `*Intermediate` blocks: `dense`, then the exact GELU."""
    activation = getattr(block, "intermediate_act_fn", None)
    if type(getattr(block, "dense", None)) is not nn.Linear or not isinstance(activation, nn.Module):
        return False
    points = torch.linspace(-6, 6, 97)
    return torch.allclose(activation(points), nn.functional.gelu(points), rtol=0, atol=1e-6)
