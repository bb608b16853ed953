"""What physics leave: boosted trees on the logarithm of measured over computed, and how sure a figure is.

The trees are fitted by `benchmarks/plan_fit.py` and shipped as numbers. They may move a figure by a factor of
`e ** MOST_MOVED` at most, so that physics stay in charge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashore.planning.sizing.steps import Array, Batch, Times

MOST_MOVED: Final = 1.2
QUANTITIES: Final = ("first_s", "token_s", "tokens_per_s")
_ENGINES: Final = ("trtllm", "vllm", "sglang", "transformers", "llama.cpp", "openvino", "mindie")


def logarithms(found: Times) -> npt.NDArray[np.float64]:
    """Return first token, time a token, and tokens a second as logarithms, one row for each case."""
    said: npt.NDArray[np.float64] = np.log(np.stack([found.first_s, found.token_s, found.tokens_per_s], axis=1))
    return said


def features(batch: Batch, found: Times) -> npt.NDArray[np.float64]:
    """Return what the trees look at, one row for each case: load, layout, model, device, and what the physics say."""

    def log(name: str) -> Array:
        return np.log(np.maximum(batch[name], 1e-9))

    said = logarithms(found)
    step = found.weight_s + found.cache_s + found.compute_s + found.overhead_s + found.network_s
    columns = [
        *(log(name) for name in ("isl", "osl")),
        np.log(np.maximum(batch["load"], 1)),
        np.log(found.concurrency),
        *(log(name) for name in ("tp", "n", "dp", "ep", "instances")),
        *(batch[name] for name in ("closed", "burst", "rate", "saturated", "p99", "official", "speculative")),
        *(log(name) for name in ("weight_item", "active", "weights")),
        (batch["experts"] > 0) * 1.0,
        np.log(batch["chosen"] + 1),
        np.log(batch["experts"] + 1),
        np.log(batch["kv"] / (batch["isl"] + batch["osl"] / 2)),
        *(log(name) for name in ("layers", "hidden", "bandwidth", "flops", "memory")),
        np.log(batch["flops"] / batch["bandwidth"]),
        *(part / step for part in (found.weight_s, found.cache_s, found.compute_s, found.overhead_s, found.network_s)),
        np.log(found.prefill_s),
        said[:, 0],
        said[:, 1],
        said[:, 2],
        np.log(found.capacity),
        np.log(batch["load"] / batch["instances"] / found.capacity),
        np.log(found.prefill_s * found.concurrency / (batch["osl"] * np.exp(said[:, 1]))),
        *(batch.has("engine", name) * 1.0 for name in _ENGINES),
    ]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees of one quantity in one table: a row for each node, `left` and `right` as rows, -1 at a leaf."""

    roots: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: Array
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Array
    baseline: float

    def predict(self, seen: npt.NDArray[np.float64]) -> Array:
        """Return what they add to a logarithm, for each row of `seen`."""
        total = np.full(len(seen), self.baseline)
        rows = np.arange(len(seen))
        for root in self.roots:
            at = np.full(len(seen), root)
            while (inner := self.left[at] >= 0).any():
                smaller = seen[rows, self.feature[at]] <= self.threshold[at]
                at = np.where(inner, np.where(smaller, self.left[at], self.right[at]), at)
            total += self.value[at]
        clipped: Array = np.clip(total, -MOST_MOVED, MOST_MOVED)
        return clipped


def trees_of(told: Mapping[str, Any]) -> Trees:
    """Return trees as `efficiencies.json` holds them."""
    whole = {name: np.array(told[name], dtype=np.int64) for name in ("roots", "feature", "left", "right")}
    return Trees(
        **whole,
        threshold=np.array(told["threshold"], dtype=float),
        value=np.array(told["value"], dtype=float),
        baseline=float(told["baseline"]),
    )


def correct(
    batch: Batch, found: Times, trees: Sequence[Trees], weight: float = 1.0, near: Array | None = None
) -> npt.NDArray[np.float64]:
    """Return the logarithms of the three quantities after the trees, and after what is missed at measurements `near`.

    Under a closed load the throughput follows from the other two; who keeps up with a rate puts out what comes in.
    """
    seen = features(batch, found)
    moved = weight * np.stack([one.predict(seen) for one in trees], axis=1)
    moved = moved if near is None else moved + near
    is_kept_up = (batch["rate"] > 0) & ((found.concurrency < 0.98 * found.capacity) | (batch["level_token"] > 0))
    moved[is_kept_up, 2] = 0.0
    said: npt.NDArray[np.float64] = logarithms(found) + moved
    whole = np.exp(said[:, 0]) + np.maximum(batch["osl"] - 1, 0) * np.exp(said[:, 1])
    closed = np.log(batch["load"] * batch["osl"] / whole)
    said[:, 2] = np.where(batch["closed"] > 0, closed, said[:, 2])
    return said
