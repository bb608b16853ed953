"""The desk of accounts, keys, roles and the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.access import data
from ashore.access.actions import ACTIONS
from ashore.access.calls import CALLS, open_desk
from ashore.access.keeping import Keys
from ashore.core import Names
from ashore.rooms import Context, Opened


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
