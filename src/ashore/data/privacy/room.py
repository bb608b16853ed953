"""The desk of the masking policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.data.privacy import worker as data
from ashore.data.privacy.calls import CALLS
from ashore.data.privacy.desk import PrivacyDesk
from ashore.kit.rooms import Context, Opened


async def administer_privacy(context: Context) -> Opened:
    """Open the desk."""
    return Opened(desk=context.need(PrivacyDesk))


ROOM: Final = replace(data.ROOM, calls=CALLS, administer=administer_privacy)
