"""Seats that come and go: a reload takes some away while the worker ends."""

from __future__ import annotations

import asyncio

from ashore.serving import MemoryReplica
from ashore.serving.replicas import ReplicaSet


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_seat_that_retires_as_the_worker_ends_is_left_in_order_too() -> None:
    async def scenario() -> None:
        made = {"/s/1": MemoryReplica(), "/s/2": MemoryReplica()}
        replicas = ReplicaSet("chat", tuple(made), made.__getitem__, lambda: None)
        replicas.start()
        await settle()
        seat, replica = await replicas.pick(lambda: 1.0)
        seat.in_flight += 1  # and that is still so when it ends
        await replicas.resize([socket for socket in made if socket != seat.socket])
        await settle()
        assert replica.connected, "its answer may end"
        await replicas.stop()
        assert not any(one.connected for one in made.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nobody connects again"

    asyncio.run(scenario())
