"""The loss at the answers, computed without ever holding the logits of a whole row.

A vocabulary of 50,000 makes the logits of a thousand tokens as large as the weights of a small model. They are needed
only where a token is a target, and only a chunk of them at a time: the gradient for the hidden states (and for the
head, where it is trained) is made in the forward pass, chunk by chunk.

Shapes in names: T tokens of a row, N targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ashore.lab.training.attention import row_layout
from ashore.lab.training.batches import Batch

CHUNK = 128
"""Targets whose logits exist at one time: 25 MB for a vocabulary of 49,152."""


def hidden_states(model: Any, batch: Batch, *, shared: bool = True) -> Any:
    """Return the last hidden states `[T, H]` of a row, with attention inside each example.

    Args:
        model: A `PreTrainedModel` (or one in which peft has put adapters), under `packed_attention`.
        batch: The row.
        shared: Compute what several examples begin with once. Without it each layer sees every token of each example.
    """
    import torch

    layout = row_layout(batch, shared=shared)
    ids, positions = torch.from_numpy(batch.ids_T), torch.from_numpy(batch.positions_T)
    if layout.is_shared:
        ids, positions = ids[layout.firsts_U], positions[layout.firsts_U]
    hidden = model.base_model(
        input_ids=ids[None], position_ids=positions[None], use_cache=False, layout=layout
    ).last_hidden_state[0]
    return hidden.index_select(0, layout.places_T) if layout.is_shared else hidden


def answer_loss(model: Any, batch: Batch, *, shared: bool = True) -> Any:
    """Return the negative log-likelihood of a row's targets, summed.

    Args:
        model: See `hidden_states`.
        batch: The row.
        shared: See `hidden_states`.

    Raises:
        ValueError: the model's head has a bias, unlike any Llama, Qwen or DeepSeek.
    """
    import torch

    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError("a head with a bias")
    (at,) = np.nonzero(batch.targets_T)
    hidden_NH = hidden_states(model, batch, shared=shared)[torch.from_numpy(at - 1)]
    return _head_loss().apply(hidden_NH, head.weight, torch.from_numpy(batch.ids_T[at]))


@cache
def _head_loss() -> Any:
    """Return the autograd function, created once torch is imported."""
    import torch

    class HeadLoss(torch.autograd.Function):  # type: ignore[misc]
        """Sum of cross-entropies of `hidden_NH @ weight_VH.T` with `wanted_N`."""

        @staticmethod
        def forward(ctx: Any, hidden_NH: Any, weight_VH: Any, wanted_N: Any) -> Any:
            needs_hidden, needs_weight, _ = ctx.needs_input_grad
            gradient_NH = torch.empty_like(hidden_NH) if needs_hidden else None
            gradient_VH = torch.zeros_like(weight_VH) if needs_weight else None
            total = torch.zeros((), dtype=torch.float32)
            with torch.autocast("cpu", enabled=False):
                weight = weight_VH.to(hidden_NH.dtype)
                for start in range(0, len(wanted_N), CHUNK):
                    part = slice(start, start + CHUNK)
                    hidden, wanted = hidden_NH[part], wanted_N[part, None]
                    scores = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
                    total -= scores.gather(1, wanted).sum()
                    if not (needs_hidden or needs_weight):
                        continue
                    slope = scores.exp_().scatter_add_(1, wanted, torch.full((len(wanted), 1), -1.0)).to(hidden.dtype)
                    if gradient_NH is not None:
                        torch.mm(slope, weight, out=gradient_NH[part])
                    if gradient_VH is not None:
                        gradient_VH += slope.T @ hidden
            ctx.gradients = gradient_NH, gradient_VH
            return total

        @staticmethod
        def backward(ctx: Any, scale: Any) -> Any:
            hidden, weight = ctx.gradients
            del ctx.gradients
            return (
                None if hidden is None else hidden.mul_(scale),
                None if weight is None else weight.mul_(scale),
                None,
            )

    return HeadLoss
