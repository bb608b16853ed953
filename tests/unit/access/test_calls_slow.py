"""Slow calls of administration leave threads to quick ones, whichever rooms they are of."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec

from ashore.control.process import SLOW, THREADS
from ashore.kit.call import Call, Nothing, perform


class Said(msgspec.Struct):
    """What both calls answer."""

    word: str


def test_a_quick_call_does_not_wait_for_slow_ones() -> None:
    released, inside = threading.Event(), []

    def look(desk: object, actor: object, asked: Nothing) -> Said:
        """Hang."""
        inside.append(1)
        released.wait(60)
        return Said("slow")

    def glance(desk: object, actor: object, asked: Nothing) -> Said:
        """Answer at once."""
        return Said("quick")

    slow = Call("audit", "verify", "GET", "/a", "x:read", look, slow=True)
    quick = Call("audit", "status", "GET", "/b", "x:read", glance)

    async def ask() -> tuple[str, int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        line, actor = asyncio.Semaphore(SLOW), cast(Any, None)
        asked = [asyncio.create_task(perform(slow, None, actor, Nothing(), slow=line)) for _ in range(2 * THREADS)]
        try:
            while len(inside) < SLOW:
                await asyncio.sleep(0.01)
            answered = await asyncio.wait_for(perform(quick, None, actor, Nothing(), slow=line), 30)
            return answered.word, len(inside)
        finally:
            released.set()
            await asyncio.gather(*asked)

    assert SLOW < THREADS
    assert asyncio.run(ask()) == ("quick", SLOW) and len(inside) == 2 * THREADS
