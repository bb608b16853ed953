"""How large a step is over the course of a run, and how often where it stands is written down."""

from __future__ import annotations

from math import cos, pi
from typing import Final

CHECKPOINT_S: Final = 30.0
SAVING_SHARE: Final = 0.05
"""Most of the time that writing checkpoints may take; a crash costs at most the steps since the last."""


def rate_share(step: int, *, num_steps: int, warmup_share: float = 0.05, final_share: float = 0.1) -> float:
    """Return the learning rate of step `step` (from 0) as a share of the highest: up in a line, down by a cosine.

    Args:
        step: 0 up to `num_steps` - 1.
        num_steps: Of the whole run, whatever part of it this process does.
        warmup_share: Part of the steps in which the rate rises; at least one step, where there are two.
        final_share: What the rate comes down to at the last step.
    """
    warmup = max(1, round(warmup_share * num_steps)) if num_steps > 1 else 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    behind = (step - warmup) / max(1, num_steps - 1 - warmup)
    return final_share + (1 - final_share) * (1 + cos(pi * min(1.0, behind))) / 2


def next_checkpoint_s(last_cost_s: float) -> float:
    """Return the seconds to train between two checkpoints, when the last took `last_cost_s` to write."""
    return max(CHECKPOINT_S, last_cost_s / SAVING_SHARE)
