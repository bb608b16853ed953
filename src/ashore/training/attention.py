"""Attention that stays inside each example of a packed row.

Registered with transformers under a name of its own. No mask is made: each example is a causal product of its own, so
that tokens of another example cannot be seen, and the cost is the sum of squares of the lengths, not the square of the
sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NAME = "ashore_packed"


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Let a `PreTrainedModel` take `example_lengths`, as `Batch.lengths`, while the block runs."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    example_lengths: Sequence[int] | None = None,
    **unused: Any,
) -> tuple[Any, None]:
    """Return the attention of one row. Shapes: query [1, heads, T, d], key and value [1, kv heads, T, d]."""
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    grouped = query.shape[1] != key.shape[1]
    lengths = list(example_lengths) if example_lengths is not None else [query.shape[2]]
    parts = [
        attend(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(
            query.split(lengths, dim=2), key.split(lengths, dim=2), value.split(lengths, dim=2), strict=True
        )
    ]
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return out.transpose(1, 2).contiguous(), None
