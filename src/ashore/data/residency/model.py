"""Status of a model on demand, as the supervisor reports it to API workers and operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

ResidenceState = Literal["cold", "waiting", "fetching", "loading", "loaded", "asleep", "leaving", "failed"]
"""cold: on disk or in the bucket. waiting: for memory, or for another model to load. fetching: from the bucket.
asleep: its engine keeps the weights in this machine's memory, and has given back what it computes in. leaving: its
last answers end. failed: it could not be loaded, and is tried again later."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Status of a model on demand, for API workers."""

    state: ResidenceState
    load_s: float = 0.0
    """How long it took to load, the last time; 0: not known."""
    faults: int = 0
    """Loads that failed since the start: whoever waits while this grows is told `why`."""
    why: str = ""
    """Why it could not be loaded, the last time that it could not."""
    again_s: int = 0
    """Unix time before which no load is tried again; 0: at once."""
    loads: int = 0
    unloads: int = 0
    """Since the server started."""

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting for it is pointless now."""
        return self.state == "failed"


class Residence(msgspec.Struct, frozen=True, kw_only=True):
    """One model, and whether it is in memory."""

    alias: str
    release: str
    model: str
    """With its variant."""
    state: ResidenceState
    load: Literal["start", "demand"] = "demand"
    pin: bool = False
    """Whether it is never unloaded."""
    memory_bytes: int = 0
    """Planned: weights and full KV cache of every replica; its processes themselves come on top. While it is asleep:
    what it keeps."""
    resident_bytes: int = 0
    """Measured: what its processes hold in this machine's memory now; 0: it has none."""
    load_s: float = 0.0
    """How long it took to load, the last time; 0: not known."""
    wake_s: float = 0.0
    """How long it took to wake up, the last time that it was asleep; 0: it was not."""
    keep_alive_s: int = 0
    idle_s: float = 0.0
    """Since its last request, of one that is loaded."""
    rate_per_min: float = 0.0
    """Requests, over about the last half hour."""
    evict_order: int = 0
    """1: the first to make room. 0: it makes none."""
    tier: Literal["memory", "disk", "bucket"] = "disk"
    """The fastest place where it lies whole."""
    loads: int = 0
    unloads: int = 0
    """Since the server started."""
    why: str = ""
    """What it waits for, or why it could not be loaded."""


class Standings(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor's answer."""

    items: list[Residence] = []
    memory_bytes: int = 0
    taken_bytes: int = 0
    error: str = ""
    hint: str = ""
    done: bool = True


class AsksSupervisor(Protocol):
    """Reaches the process that starts and ends engine hosts."""

    def __call__(self, question: Mapping[str, Any], /) -> Standings:
        """Return its answer. May block for a moment; not for an event loop.

        Raises:
            NotReady: it is not there.
        """
        ...
