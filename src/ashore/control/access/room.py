"""The desk of accounts, keys, roles and the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.control.access.calls import CALLS, open_desk
from ashore.core.names import Names
from ashore.data.authority import ACTIONS
from ashore.data.authority import room as data
from ashore.data.authority.keeping import Keys
from ashore.kit.rooms import Context, Opened


async def administer_access(context: Context) -> Opened:
    """Open the desk; nothing without a state."""
    keys = context.need(Keys)
    if keys.database is None:
        return Opened()
    desk = open_desk(
        keys.database,
        context.clock,
        context.recorder,
        names=context.need(Names),
    )
    return Opened(desk=desk)


ROOM: Final = replace(
    data.ROOM, calls=CALLS, administer=administer_access,
    acts=(
        *(right.name for right in ACTIONS),
        *(call.act for call in CALLS if call.changes and call.word not in ("bind", "consent")),
        "access:authenticate", "access:lock-out", "access:use", "first-key:revive", "policy:check", "role:revoke",
    ),
)  # fmt: skip
