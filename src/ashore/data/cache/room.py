"""The desk of the cached answers, which the API workers hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.core.names import Names
from ashore.data.cache import worker as data
from ashore.data.cache.calls import CALLS, CacheDesk
from ashore.data.cache.service import AnswerCache
from ashore.kit.rooms import Context, Opened, Workers


async def administer_cache(context: Context) -> Opened:
    """Open the desk."""
    desk = CacheDesk(
        rights=context.rights,
        recorder=context.recorder,
        database=context.database,
        names=context.need(Names),
        cache=context.find(AnswerCache),
        workers=context.find(Workers),
    )
    return Opened(desk=desk)


ROOM: Final = replace(data.ROOM, calls=CALLS, acts=("cache:import",), administer=administer_cache)
