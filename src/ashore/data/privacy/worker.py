"""The masking of a process: by the policy of ashore.toml, or that of the state if there is one."""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import Final

from ashore.core.errors import InvalidSpec, MissingExtra
from ashore.core.names import Names
from ashore.data.privacy.desk import PrivacyDesk, read_secret
from ashore.data.privacy.service import Privacy
from ashore.data.privacy.sql import POLICY_EPOCH
from ashore.kit.rooms import Context, Opened, Room

log = logging.getLogger("ashore.worker")


async def open_privacy(context: Context) -> Opened:
    """Open it with the policy in force.

    Raises:
        AshoreError: the state cannot be read, or the policy cannot be used here.
    """
    desk = await asyncio.to_thread(_desk, context)

    async def reload(context: Context) -> None:
        await asyncio.to_thread(desk.take_file, context.told("privacy"))

    return Opened(gives={Privacy: desk.privacy, PrivacyDesk: desk}, reload=(reload,))


def _desk(context: Context) -> PrivacyDesk:
    policy, database = context.told("privacy"), context.database
    secret = secrets.token_bytes(32) if database is None else read_secret(database)
    desk = PrivacyDesk(
        Privacy(policy, secret=secret),
        policy,
        database,
        clock=context.clock,
        recorder=context.recorder,
        behind=context.behind,
        names=context.need(Names),
    )
    if context.watch is not None:
        context.watch.on_change(partial(_changed, desk))
    desk.refresh()  # after the line above, so that no change falls between them
    return desk


def _changed(desk: PrivacyDesk, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind != POLICY_EPOCH:
        return
    try:
        desk.refresh()
    except (InvalidSpec, MissingExtra) as fault:  # which a retry would not mend
        log.error("cannot read the privacy policy, so the old one stays in force: %s (%s)", fault.message, fault.hint)


ROOM: Final = Room(name="privacy", open=open_privacy)
