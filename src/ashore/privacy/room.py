"""The desk of the masking policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.privacy import data
from ashore.privacy.calls import CALLS
from ashore.privacy.desk import PrivacyDesk
from ashore.rooms import Context, Opened


async def administer_privacy(context: Context) -> Opened:
    """Open the desk."""
    return Opened(desk=context.need(PrivacyDesk))


ROOM: Final = replace(data.ROOM, calls=CALLS, administer=administer_privacy)
