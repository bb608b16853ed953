"""Eviction rules. Pure: the supervisor and the trace simulator use the same functions.

The worth of a loaded model is the loading time that it saves per byte: request rate, times loading time, divided by
size. The least worth is evicted first. Source: GreedyDual-Size with frequency (Cherkasova 1998); decaying rates replace
its inflating clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RATE_SPAN_S: Final = 1800.0
"""A request counts for 1/e of itself after so long. Shorter is better for conversations, longer for requests that have
nothing to do with each other; `tests/support/residency_sim.py` has traces of both."""
LEAST_LOAD_S: Final = 0.1
"""A model of which it is not known how long it takes to load, or that takes next to nothing."""
LEAST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model that is loaded."""

    release: str
    num_bytes: int
    worth: float
    held: bool = False
    """Pinned, or not on demand, or loaded a moment ago."""
    busy: bool = False
    """Whether it answers now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Evictions needed to load a model."""

    fits: bool = False
    """There is room now."""
    evict: tuple[str, ...] = ()
    """Releases that make it; empty: none can, for now."""


def rate_after(rate: float, since_s: float, *, num: int = 0) -> float:
    """Return a decaying request count: decayed by `since_s`, plus `num` new requests."""
    return rate * math.exp(-max(0.0, since_s) / RATE_SPAN_S) + num


def worth(rate: float, load_s: float, num_bytes: int) -> float:
    """Return the worth of a loaded model: loading seconds saved per byte, in some unit."""
    return rate * max(load_s, LEAST_LOAD_S) / max(num_bytes, LEAST_BYTES)


def plan_room(
    needed_bytes: int, residents: Sequence[Resident], *, free_bytes: int, free_places: int | None = None
) -> Room:
    """Return the evictions that make room for a model of `needed_bytes`.

    The least worth are evicted first; those that a larger later one makes unnecessary stay.

    Args:
        needed_bytes: Memory of the model.
        residents: Loaded models.
        free_bytes: Free part of the budget; may be negative.
        free_places: How many more models may be loaded; None: no limit.
    """
    places = 1 if free_places is None else free_places
    if needed_bytes <= free_bytes and places >= 1:
        return Room(fits=True)
    chosen: list[Resident] = []
    for one in sorted((r for r in residents if not r.held and not r.busy), key=lambda r: (r.worth, r.release)):
        chosen.append(one)
        if needed_bytes <= free_bytes + sum(r.num_bytes for r in chosen) and places + len(chosen) >= 1:
            break
    else:
        return Room()
    for one in sorted(chosen[:-1], key=lambda r: -r.worth):
        rest = [r for r in chosen if r is not one]
        if needed_bytes <= free_bytes + sum(r.num_bytes for r in rest) and places + len(rest) >= 1:
            chosen = rest
    return Room(evict=tuple(r.release for r in chosen))
