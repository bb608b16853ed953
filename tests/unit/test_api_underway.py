"""Bodies under way: what is counted, for whom, and what over the bound gets."""

from __future__ import annotations

import asyncio

import pytest

from ashore.api.underway import LEAST_BYTES, NO_HOLD, Bodies, bodies_bytes
from ashore.errors import Overloaded


def test_a_body_counts_until_its_request_ends() -> None:
    bodies = Bodies(100, 60)
    first, second = bodies.hold("a"), bodies.hold("a")
    first.grow(40)
    first.grow(20)
    with pytest.raises(Overloaded) as refused:
        second.grow(1)
    assert refused.value.retry_after_s == 1 and "tenant_bodies_bytes" in refused.value.hint
    other = bodies.hold("b")
    other.grow(40)
    with pytest.raises(Overloaded) as refused:
        bodies.hold("c").grow(1)
    assert "[http] bodies_bytes" in refused.value.hint
    first.release()
    first.release()
    second.grow(60)
    second.shrink_to(10)
    assert bodies.held_bytes == 50


def test_who_cannot_know_its_length_waits_for_room() -> None:
    async def main() -> None:
        bodies = Bodies(100, 60)
        first = bodies.hold("a")
        first.grow(50)
        second = bodies.hold("a")
        waiting = asyncio.create_task(second.grow_in_turn(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        await bodies.hold("b").grow_in_turn(20)
        first.shrink_to(1)
        await asyncio.sleep(0)
        assert not waiting.done(), "one byte too many"
        first.release()
        await asyncio.wait_for(waiting, 1)
        assert bodies.held_bytes == 80

    asyncio.run(main())


def test_nothing_is_counted_where_nobody_reads() -> None:
    NO_HOLD.grow(1 << 40)
    NO_HOLD.release()


def test_the_share_of_memory() -> None:
    assert bodies_bytes(64 << 30, 4) == 2 << 30
    assert bodies_bytes(1 << 30, 4) == LEAST_BYTES
