"""Looks at a backup over HTTP: a node that hangs leaves threads of administration to others."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

from ashore.control.backup.calls import LOOKS, BackupDesk, list_backups
from ashore.kit.call import Nothing


def test_few_looks_take_a_thread_at_a_time() -> None:
    released, inside = threading.Event(), []

    class Hanging:
        looks = asyncio.Semaphore(LOOKS)

        def service(self, actor: object) -> Hanging:
            return self

        def kept(self) -> tuple[()]:
            inside.append(1)
            released.wait(20)
            return ()

    async def ask() -> int:
        desk = cast(BackupDesk, Hanging())
        asked = [asyncio.create_task(list_backups(desk, cast(Any, None), Nothing())) for _ in range(8)]
        while len(inside) < LOOKS:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        first = len(inside)
        released.set()
        await asyncio.gather(*asked)
        return first

    assert asyncio.run(ask()) == LOOKS and len(inside) == 8
