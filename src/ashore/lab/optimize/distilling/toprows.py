"""Compact teacher outputs: the likeliest tokens of each position with their log-probabilities, and the rest.

A row keeps the fewest tokens that leave out less than `tail` of the probability, and at most `most`.
Shapes in names: N positions, K tokens kept, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NOTHING: Final = -30.0
"""Stands for the logarithm of a rest of nothing: e^-30 is below what float32 adds to 1."""


@dataclass(frozen=True, slots=True)
class TopRows:
    """The likeliest tokens of N positions, best first. Unused places have id 0 and `NOTHING`."""

    ids_NK: NDArray[np.int64]
    logprobs_NK: NDArray[np.float32]
    rest_N: NDArray[np.float32]
    """Logarithm of the probability of all other tokens together, `NOTHING` at least."""

    def __len__(self) -> int:
        return len(self.rest_N)


def top_rows(logprobs_NV: NDArray[np.float32], *, most: int, tail: float) -> TopRows:
    """Return the likeliest tokens of each row.

    Args:
        logprobs_NV: Natural logarithms of probabilities; each row sums to 1.
        most: Tokens kept at most, at least 1.
        tail: Probability that may be left out of a row before `most` is reached.
    """
    most = min(most, logprobs_NV.shape[1])
    found_NK = np.argpartition(logprobs_NV, -most, axis=1)[:, -most:]
    values_NK = np.take_along_axis(logprobs_NV, found_NK, axis=1)
    order_NK = np.argsort(-values_NK, axis=1, kind="stable")
    ids_NK = np.take_along_axis(found_NK, order_NK, axis=1)
    return cut_rows(ids_NK, np.take_along_axis(values_NK, order_NK, axis=1), tail=tail)


def cut_rows(ids_NK: NDArray[np.int64], logprobs_NK: NDArray[np.float32], *, tail: float) -> TopRows:
    """Return rows of tokens, best first, without those that `tail` leaves out."""
    mass_NK = np.cumsum(np.exp(logprobs_NK.astype(np.float64)), axis=1)
    kept_NK = np.concatenate([np.ones((len(mass_NK), 1), bool), mass_NK[:, :-1] < 1 - tail], axis=1)
    count_N = kept_NK.sum(axis=1)
    kept_mass_N = np.take_along_axis(mass_NK, count_N[:, None] - 1, axis=1)[:, 0] if len(mass_NK) else np.empty(0)
    rest_N = np.log(np.maximum(1 - kept_mass_N, np.exp(NOTHING)))
    width = int(count_N.max(initial=1))
    kept_NK = kept_NK[:, :width]
    return TopRows(
        np.where(kept_NK, ids_NK[:, :width], 0).astype(np.int64),
        np.where(kept_NK, logprobs_NK[:, :width], NOTHING).astype(np.float32),
        rest_N.astype(np.float32),
    )


def join_rows(parts: Sequence[TopRows]) -> TopRows:
    """Return rows concatenated, padded to the widest."""
    width = max(part.ids_NK.shape[1] for part in parts)

    def widened(rows_NK: NDArray[Any], filler: float) -> NDArray[Any]:
        return np.pad(rows_NK, ((0, 0), (0, width - rows_NK.shape[1])), constant_values=filler)

    return TopRows(
        np.concatenate([widened(part.ids_NK, 0) for part in parts]),
        np.concatenate([widened(part.logprobs_NK, NOTHING) for part in parts]),
        np.concatenate([part.rest_N for part in parts]),
    )
