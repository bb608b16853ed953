"""A projection and its adapter as one step of the graph.

peft computes them separately: casts, scaling and addition are each a pass over the whole row, forward and back. Here
the adapter is added into the product of the projection, and only the input is stored for the backward pass, once.

Shapes in names: N tokens, I and O sizes of input and output, R rank of the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any


@contextmanager
def fused_adapters(model: Any) -> Iterator[None]:
    """Compute a model's plain adapters on frozen projections in fused form inside the block.

    Hooks on parts of an adapter are not called. A model without adapters is unchanged.
    """
    changed = []
    for module in model.modules():
        if _can_be_fused(module):
            module.forward = partial(_forward, module, module.forward)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _can_be_fused(module: Any) -> bool:
    """Return whether a module is a peft linear layer with exactly one low-rank adapter."""
    import torch

    if not hasattr(module, "lora_A") or not hasattr(module, "base_layer"):
        return False
    name = next(iter(module.lora_A), "")
    return (
        type(module.base_layer) is torch.nn.Linear  # one that is derived from it may scale its weights
        and module.base_layer.weight.is_floating_point()
        and not module.base_layer.weight.requires_grad
        and list(module.active_adapters) == [name]
        and not module.lora_variant
        and not module.lora_bias[name]
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
    )


def _forward(module: Any, plainly: Any, x: Any) -> Any:
    if module.disable_adapters or module.merged:
        return plainly(x)
    (name,) = module.active_adapters
    base = module.base_layer
    down_RI, up_OR = module.lora_A[name].weight, module.lora_B[name].weight
    out = _product().apply(x.reshape(-1, x.shape[-1]), base.weight, down_RI, up_OR, module.scaling[name])
    if base.bias is not None:
        out = out + base.bias.to(out.dtype)
    return out.view(*x.shape[:-1], -1)


@cache
def _product() -> Any:
    """Return the autograd function, created once torch is imported."""
    import torch

    class Product(torch.autograd.Function):  # type: ignore[misc]
        """`x_NI @ weight_OI.T + scale * x_NI @ down_RI.T @ up_OR.T`; the weight gets no gradient."""

        @staticmethod
        def forward(ctx: Any, x_NI: Any, weight_OI: Any, down_RI: Any, up_OR: Any, scale: float) -> Any:
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_NI.dtype
            with torch.autocast("cpu", enabled=False):
                x, weight, down, up = (one.to(dtype) for one in (x_NI, weight_OI, down_RI, scale * up_OR))
                low_NR = x @ down.T
                ctx.save_for_backward(x, weight, down, up, low_NR)
                ctx.scale, ctx.given, ctx.learned = scale, x_NI.dtype, down_RI.dtype
                return (x @ weight.T).addmm_(low_NR, up.T)

        @staticmethod
        def backward(ctx: Any, slope_NO: Any) -> Any:
            x, weight, down, up, low_NR = ctx.saved_tensors
            slope = slope_NO.to(x.dtype)
            low_slope_NR = slope @ up
            x_slope = (slope @ weight).addmm_(low_slope_NR, down).to(ctx.given) if ctx.needs_input_grad[0] else None
            down_slope = (low_slope_NR.T @ x).to(ctx.learned)
            up_slope = (slope.T @ low_NR).to(ctx.learned) * ctx.scale
            return x_slope, None, down_slope, up_slope, None

    return Product
