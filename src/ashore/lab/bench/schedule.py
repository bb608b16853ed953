"""When requests arrive."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson_arrivals(
    rate_per_s: float, *, seed: int, requests: int | None = None, duration_s: float | None = None
) -> Iterator[float]:
    """Yield arrival times in seconds from the start: exponential gaps with mean 1/rate, ending at the first limit."""
    draw = random.Random(seed)
    at_s = 0.0
    sent = 0
    while requests is None or sent < requests:
        if duration_s is not None and at_s >= duration_s:
            return
        yield at_s
        sent += 1
        at_s += draw.expovariate(rate_per_s)
