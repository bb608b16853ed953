"""Corrections of the physical model, and derived quantities."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ashore.lab.sizing.steps import Array, Batch, Times

QUANTITIES: Final = ("first_s", "token_s", "tokens_per_s")


def logarithms(found: Times) -> npt.NDArray[np.float64]:
    """Return first token, time a token, and tokens a second as logarithms, one row for each case."""
    said: npt.NDArray[np.float64] = np.log(np.stack([found.first_s, found.token_s, found.tokens_per_s], axis=1))
    return said


def correct(batch: Batch, found: Times, near: Array) -> npt.NDArray[np.float64]:
    """Return the logarithms of the three quantities, corrected by the errors at measurements `near`.

    Under a closed load the throughput follows from the other two; under a sustainable rate, output equals input.
    """
    moved = near.copy()
    is_kept_up = (batch["rate"] > 0) & ((found.concurrency < 0.98 * found.capacity) | (batch["level_token"] > 0))
    moved[is_kept_up, 2] = 0.0
    said: npt.NDArray[np.float64] = logarithms(found) + moved
    whole = np.exp(said[:, 0]) + np.maximum(batch["osl"] - 1, 0) * np.exp(said[:, 1])
    closed = np.log(batch["load"] * batch["osl"] / whole)
    said[:, 2] = np.where(batch["closed"] > 0, closed, said[:, 2])
    return said
