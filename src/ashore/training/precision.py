"""Whether BF16 pays on this processor: it does with AMX, and may not with AVX-512 alone. Measured, not believed."""

from __future__ import annotations

import time
from typing import Any, Final

from ashore.training.loop import Precision

ROUNDS: Final = 5
GAIN: Final = 1.15
"""BF16 must be that much faster: it costs bits, and casts that this measurement leaves out."""


def faster_precision(hidden_size: int, mlp_size: int, row_tokens: int) -> Precision:
    """Return the precision in which a layer's products, forward and back, take less time here. About 0.2 s."""
    import torch

    times = {dtype: _best_s(torch, dtype, hidden_size, mlp_size, row_tokens) for dtype in ("float32", "bfloat16")}
    return "bfloat16" if times["float32"] > GAIN * times["bfloat16"] else "float32"


def _best_s(torch: Any, dtype: str, hidden_size: int, mlp_size: int, row_tokens: int) -> float:
    weight = torch.ones((mlp_size, hidden_size), dtype=getattr(torch, dtype))
    row = torch.ones((row_tokens, hidden_size), dtype=weight.dtype)
    best = float("inf")
    with torch.no_grad():
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            (row @ weight.T) @ weight
            best = min(best, time.perf_counter() - begun)
    return best
