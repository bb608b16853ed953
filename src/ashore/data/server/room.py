"""Figures of an API worker: written to the state every ten seconds."""

from __future__ import annotations

import platform
from typing import Final

from ashore import __version__
from ashore.data.server.history import Ring
from ashore.data.server.series import Sampler
from ashore.kit.metrics import Metric
from ashore.kit.processes import allowed_memory_bytes, free_memory_bytes
from ashore.kit.rooms import Context, Opened, Room

INFO: Final = Metric("ashore_info", "gauge", "Always 1, with the version of ashore.", ("version",))


def memory_used() -> float:
    """Return the share of the memory that this server may use, in use by whatever runs there."""
    return max(0.0, 1 - free_memory_bytes() / allowed_memory_bytes())


async def serve_figures(context: Context) -> Opened:
    """Write the figures of this worker; nothing without a state."""
    if context.worker == 0:
        context.metrics.set(INFO.name, 1, __version__)
    if context.database is None:
        return Opened()
    source = f"{platform.node()}/{context.worker}"
    ring = Ring(context.database, Sampler(context.metrics, memory_used=memory_used), context.clock, source=source)
    return Opened(background={"figures of the last hours": ring.keep_writing})


ROOM: Final = Room(name="server", metrics=(INFO,), serve=serve_figures, stage="serving")
