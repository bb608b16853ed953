"""The choice of the next token from one row of logits, and log-probabilities under the unmodified distribution.

Order: bias and penalties, grammar, then greedy, or temperature, top-k, top-p, min-p and a draw.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed
from ashore.core.sampling import Sampling
from ashore.data.engines.model import TokenLogprob

Logits = NDArray[np.float32]

_NEGLIGIBLE = 30.0
"""Tokens e^30 times less likely than the best cannot be drawn in single precision; they are dropped at once."""
_BLOCK = 512
_COLDEST = 1e-5
"""Lower temperatures are greedy: in single precision they become zero, which divides nothing."""


class Sampler:
    """The sampling state of one sequence: its random generator and its tokens so far."""

    __slots__ = ("_bias_ids", "_bias_values", "_counts", "_prompt_ids", "_random", "_sampling", "is_plain_greedy")

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int], begun: Sequence[int] = ()) -> None:
        """Create it for the answer to a prompt; `begun` are the tokens that were sampled elsewhere."""
        if 0 < sampling.temperature < _COLDEST:
            sampling = msgspec.structs.replace(sampling, temperature=0.0)
        self._sampling = sampling
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(63)
        bits = np.random.PCG64(seed & (2**64 - 1))
        if sampling.temperature:
            bits.advance(len(begun))  # each took one draw
        self._random = np.random.Generator(bits)
        self._counts: Counter[int] = Counter(begun)
        self._prompt_ids = np.unique(np.array(prompt_ids, np.int64)) if sampling.repetition_penalty != 1 else None
        self._bias_ids = np.array(list(sampling.logit_bias), np.int64)
        self._bias_values = np.array(list(sampling.logit_bias.values()), np.float32)
        penalised = sampling.repetition_penalty != 1 or sampling.presence_penalty or sampling.frequency_penalty
        self.is_plain_greedy = sampling.temperature == 0 and not penalised and not sampling.logit_bias
        """True where the answer is the row's arg-max and nothing else."""

    def choose(self, logits_V: Logits, allowed_V: NDArray[np.bool_] | None = None) -> int:
        """Return the next token id. `logits_V` is not changed; `allowed_V` is the grammar's mask.

        Raises:
            EngineFailed: the best logit is not a number, or not finite.
        """
        row = self._adjusted(logits_V)
        if allowed_V is not None:
            row = np.where(allowed_V, row, np.float32(-np.inf))
        if self._sampling.temperature == 0:
            chosen = int(row.argmax())  # the first that is not a number, if there is one
            _check_best(float(row[chosen]))
            return chosen
        return self._draw(row)

    def note(self, token_id: int) -> None:
        """Count a sent token."""
        self._counts[token_id] += 1

    def _adjusted(self, logits_V: Logits) -> Logits:
        sampling = self._sampling
        if self.is_plain_greedy:
            return logits_V
        row = logits_V
        if sampling.repetition_penalty != 1 and self._prompt_ids is not None:
            row = row.copy()
            said = np.fromiter(self._counts, np.int64, len(self._counts))
            seen = np.union1d(self._prompt_ids, said)
            values = row[seen]
            row[seen] = np.where(values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty)
        if (sampling.presence_penalty or sampling.frequency_penalty) and self._counts:
            row = row.copy() if row is logits_V else row
            said = np.fromiter(self._counts, np.int64, len(self._counts))
            times = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            row[said] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * times
        if self._bias_ids.size:
            row = row.copy() if row is logits_V else row
            row[self._bias_ids] += self._bias_values
        return row

    def _draw(self, row_V: Logits) -> int:
        sampling = self._sampling
        best = row_V.max()
        _check_best(float(best))
        if 0 < sampling.top_k < row_V.size:
            kept = np.argpartition(row_V, -sampling.top_k)[-sampling.top_k :]
            kept.sort()
        else:
            depth = _NEGLIGIBLE
            if sampling.min_p > 0 and sampling.top_p >= 1:
                depth = min(depth, 1e-3 - math.log(min(sampling.min_p, 1.0)))
            kept = np.flatnonzero(row_V >= best - np.float32(depth * sampling.temperature))
        values = row_V[kept]
        weights = np.exp((values - best) / np.float32(sampling.temperature))
        if sampling.top_p < 1:
            kept, weights = _nucleus(kept, weights, sampling.top_p)
        if sampling.min_p > 0:
            enough = weights >= np.float32(min(sampling.min_p, 1.0) * (1 - 1e-6)) * weights.max()
            kept, weights = kept[enough], weights[enough]
        return int(kept[_place_of(weights, self._random.random())])


def _check_best(best: float) -> None:
    if not math.isfinite(best):
        raise EngineFailed(
            f"the model gave {best} for the likeliest token",
            hint="its weights or its config.json are damaged, or its numbers overflow: verify it",
        )


def _place_of(weights: Logits, share: float) -> int:
    """Return the first place up to which the weights reach more than `share` of their sum, of 0 to 1.

    Blocks are summed first, and the weights of one alone: sums of 152,000 weights one by one take 1.7 ms, this 0.07.
    """
    sums = np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK), dtype=np.float64)
    totals = np.cumsum(sums)
    wanted = share * totals[-1]
    block = min(int(np.searchsorted(totals, wanted, side="right")), sums.size - 1)
    inside = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    place = int(np.searchsorted(inside, wanted - (totals[block] - sums[block]), side="right"))
    return block * _BLOCK + min(place, inside.size - 1)


def _nucleus(kept: NDArray[np.int64], weights: Logits, top_p: float) -> tuple[NDArray[np.int64], Logits]:
    """Return the smallest set of the likeliest tokens whose share reaches `top_p`; never empty."""
    wanted = max(top_p, 0.0) * float(weights.sum(dtype=np.float64))
    for count in (64, 1024, weights.size):
        if count < weights.size:
            front = np.argpartition(weights, -count)[-count:]
            if float(weights[front].sum(dtype=np.float64)) < wanted:
                continue
        else:
            front = np.arange(weights.size)
        order = front[np.argsort(-weights[front], kind="stable")]
        totals = np.cumsum(weights[order], dtype=np.float64)
        size = min(int(np.searchsorted(totals, wanted, side="left")) + 1, order.size)
        chosen = np.sort(order[:size])
        return kept[chosen], weights[chosen]
    raise AssertionError("unreachable: the last count takes every token")


def log_normaliser(logits_V: Logits) -> float:
    """Return the logarithm of the sum of exponentials of a row."""
    best = logits_V.max()
    return float(best) + float(np.log(np.exp(logits_V - best).sum(dtype=np.float64)))


def top_of(logits_V: Logits, log_total: float, count: int) -> tuple[TokenLogprob, ...]:
    """Return the `count` likeliest tokens, best first, with their log-probabilities."""
    if count <= 0:
        return ()
    front = np.argpartition(logits_V, -count)[-count:]
    front = front[np.lexsort((front, -logits_V[front]))]
    return tuple(TokenLogprob(int(i), float(logits_V[i]) - log_total) for i in front)
