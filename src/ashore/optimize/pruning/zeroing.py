"""Unstructured pruning, for the record: the smallest weights become 0, and nothing gets faster."""

from __future__ import annotations

from typing import Any

from ashore.engines import torch_libraries


def zero_smallest(model: Any, zeros: int) -> int:
    """Set the smallest weights of the layers' matrices to 0, in place, the same share of each; return how many.

    A dense product multiplies by 0 as it does by any number: the model is as large and as fast as before.

    Args:
        model: A `PreTrainedModel`.
        zeros: How many weights, of all layers together.

    Source: Han and others, "Learning both Weights and Connections" (arXiv 1506.02626), section 3.
    """
    torch, _ = torch_libraries()
    weights = [m.weight for layer in model.model.layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    total = sum(w.numel() for w in weights)
    done = 0
    with torch.inference_mode():
        for weight in weights:
            here = round(zeros * weight.numel() / total)
            if here:
                smallest = weight.abs().flatten().topk(here, largest=False).indices
                weight.view(-1)[smallest] = 0
                done += here
    return done
