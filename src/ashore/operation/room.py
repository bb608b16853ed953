"""What an API worker answers of its own server."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from ashore.errors import NotReady
from ashore.operation.calls import CALLS, ServerDesk
from ashore.processes import ask
from ashore.rooms import Context, Opened, Room
from ashore.settings import Home


def ask_supervisor(socket: Path, question: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the last line of what the supervisor of a home answers.

    Raises:
        NotReady: nobody listens there, or what listens is of another version.
    """
    last: Mapping[str, Any] = {}
    for line in ask(socket, question):
        last = line
    if "error" in last or not last:
        raise NotReady(f"the supervisor says: {last.get('error', 'nothing')}", hint=str(last.get("hint", "")))
    return last


async def open_room(context: Context) -> Opened:
    """Open what operators ask; nothing where there is no home."""
    home: str = context.told("home")
    if not home:
        return Opened()
    root = Home(root=Path(home))
    return Opened(desk=ServerDesk(home=root, ask=partial(ask_supervisor, root.control_socket)))


ROOM: Final = Room(name="server", calls=CALLS, open=open_room)
