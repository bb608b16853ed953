"""The operator's views."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.control.server.calls import CALLS, ServerDesk
from ashore.control.server.events import Feed
from ashore.control.server.processes import METRICS, Processes
from ashore.control.server.stored import Shelf
from ashore.core.errors import NotReady
from ashore.data.server import room as data
from ashore.kit.processes import ask
from ashore.kit.rooms import Context, Opened
from ashore.kit.settings import Home


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


async def administer_server(context: Context) -> Opened:
    """Open the desk."""
    home, database = context.told("home"), context.database
    root = Home(root=Path(home)) if home else None
    feed = None
    if database is not None and context.watch is not None:
        feed = Feed(database, context.rights)
        feed.watch(context.watch)
    desk = ServerDesk(
        database=database,
        recorder=context.recorder,
        rights=context.rights,
        now_s=context.clock.now_s,
        logs=None if root is None else root.logs,
        shelf=context.find(Shelf),
        config=None if root is None else partial(ask_config, root.control_socket),
        feed=feed,
    )
    processes = Processes(context.metrics, os.getppid())
    return Opened(
        desk=desk,
        measure=partial(asyncio.to_thread, processes.measure),
        gives={} if feed is None else {Feed: feed},
    )


ROOM: Final = replace(
    data.ROOM, calls=CALLS, metrics=(data.INFO, *METRICS), administer=administer_server,
    acts=("deployment:reload", "secret:seal", "secret:unseal", "state:begin-anew"),
)  # fmt: skip
