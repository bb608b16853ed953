"""Vendors' rules of thumb, printed for comparison: estimates from a data sheet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ashore.lab.sizing.steps import Batch


def thumbs(batch: Batch) -> npt.NDArray[np.float64]:
    """Return first token, time a token and tokens a second by the usual rules, one row for each case.

    A token takes the active weights over the bandwidth of all devices; a prompt takes two operations for each active
    weight and token over half of the operations of the data sheet; as many tokens a second as requests at once, each at
    that pace. Source: NVIDIA's "Mastering LLM Techniques: Inference Optimization" and Databricks' "LLM Inference
    Performance Engineering" give the first two; the third is what sales sheets multiply.
    """
    b = batch.values
    devices = b["n"]
    token_s = b["active"] * b["weight_item"] / (devices * b["bandwidth"])
    first_s = 2 * b["active"] * b["isl"] / (devices * 0.5 * b["flops"])
    at_once = np.where(b["saturated"] > 0, 256.0, np.maximum(1.0, b["load"] / b["instances"]))
    closed = at_once * b["instances"] / token_s
    speed = np.where(b["rate"] > 0, np.minimum(b["load"] * b["osl"], b["instances"] * 256 / token_s), closed)
    return np.stack([first_s, token_s, speed], axis=1)
