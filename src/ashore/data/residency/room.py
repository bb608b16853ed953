"""Models in memory: the connection to the supervisor, which loads them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.core.errors import NotReady
from ashore.core.foreign import foreign_errors
from ashore.data.residency.model import AsksSupervisor, Standings
from ashore.kit.metrics import Metric
from ashore.kit.processes import ask
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.settings import Home

METRICS = (
    Metric("ashore_model_loaded", "gauge", "Whether a model on demand is in memory (1) or not (0).", ("model",)),
    Metric("ashore_model_loads", "gauge", "Number of times that a model on demand was loaded.", ("model",)),
    Metric("ashore_model_unloads", "gauge", "Number of times that a model on demand was unloaded.", ("model",)),
    Metric("ashore_model_load_seconds", "gauge", "How long a model on demand took to load, the last time.", ("model",)),
    Metric("ashore_model_failed_loads", "gauge", "Number of loads of a model on demand that failed.", ("model",)),
    Metric("ashore_model_waiting", "gauge", "Requests that wait for a model on demand to load.", ("model",)),
)
"""Counted by the supervisor, but for those that wait; set by `data/path`, which reads what the supervisor says."""


def ask_supervisor(socket: Path, question: Mapping[str, Any]) -> Standings:
    """Query the supervisor of a home about its models.

    Raises:
        NotReady: no supervisor listens, or it has another version.
    """
    for line in ask(socket, {"op": "models", **question}):
        with foreign_errors("the supervisor gave an answer that is not understood", NotReady, hint=""):
            return msgspec.convert(line, Standings)
    raise NotReady("the supervisor gave no answer")


async def open_room(context: Context) -> Opened:
    """Open the connection; nothing without a home."""
    home = context.told("home")
    if not home:
        return Opened()
    reach: AsksSupervisor = partial(ask_supervisor, Home(root=Path(home)).control_socket)
    return Opened(gives={AsksSupervisor: reach})


ROOM: Final = Room(name="model", metrics=METRICS, open=open_room)
