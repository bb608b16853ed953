"""The operator's views in one API worker."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore import __version__
from ashore.errors import NotReady
from ashore.processes import ask
from ashore.rooms import Context, Opened, Room
from ashore.server.calls import CALLS, ListsModels, ServerDesk
from ashore.server.events import Feed
from ashore.server.history import Ring
from ashore.server.processes import METRICS, Processes
from ashore.server.series import Sampler
from ashore.settings import Home


def ask_config(socket: Path) -> Sequence[Mapping[str, Any]]:
    """Ask a home's supervisor for the effective configuration.

    Raises:
        NotReady: nothing listens there, or a different version does.
    """
    for line in ask(socket, {"op": "config"}):
        if line.get("error"):
            raise NotReady(f"the supervisor cannot tell: {line['error']}", hint=str(line.get("hint", "")))
        if "items" in line:
            return msgspec.convert(line["items"], list[dict[str, Any]])
    raise NotReady("the supervisor gave no configuration", hint="restart it, so that it is of the same version")


async def open_room(context: Context) -> Opened:
    """Open the room."""
    home, database = context.told("home"), context.database
    root = Home(root=Path(home)) if home else None
    background: dict[str, Callable[[], Awaitable[None]]] = {}
    if database is not None:
        source = f"{platform.node()}/{context.worker}"
        ring = Ring(database, Sampler(context.metrics), context.clock, source=source)
        background["figures of the last hours"] = ring.keep_writing
    feed = None
    if database is not None and context.watch is not None:
        feed = Feed(database, context.rights)
        feed.watch(context.watch)
    desk = ServerDesk(
        database=database,
        recorder=context.recorder,
        now_s=context.clock.now_s,
        logs=None if root is None else root.logs,
        models=context.find(ListsModels),
        config=None if root is None else partial(ask_config, root.control_socket),
        feed=feed,
    )
    context.metrics.set("ashore_info", 1, __version__)
    processes = Processes(context.metrics, os.getppid())
    return Opened(
        desk=desk,
        background=background,
        measure=partial(asyncio.to_thread, processes.measure),
        gives={} if feed is None else {Feed: feed},
    )


ROOM: Final = Room(
    name="server", calls=CALLS, metrics=METRICS, open=open_room, stage="serving",
    acts=("deployment:reload", "secret:seal", "secret:unseal", "state:begin-anew"),
)  # fmt: skip
