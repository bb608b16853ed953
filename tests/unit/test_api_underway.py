"""Bodies under way: what is counted, for whom, and what over the bound gets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ashore.api.underway import LEAST_BYTES, NO_HOLD, Bodies, bodies_of, memory_bytes
from ashore.errors import Overloaded
from ashore.serving import Limits


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
        waiting = asyncio.create_task(second.grow_in_turn(60, 5))
        await asyncio.sleep(0)
        assert not waiting.done()
        await bodies.hold("b").grow_in_turn(20, 5)
        first.shrink_to(1)
        await asyncio.sleep(0)
        assert not waiting.done(), "one byte too many"
        first.release()
        await asyncio.wait_for(waiting, 1)
        assert bodies.held_bytes == 80
        with pytest.raises(Overloaded):
            await first.grow_in_turn(1, 0.001)

    asyncio.run(main())


def test_nothing_is_counted_where_nobody_reads() -> None:
    NO_HOLD.grow(1 << 40)
    NO_HOLD.release()


@pytest.mark.parametrize(
    ("limits", "memory", "most", "tenant"),
    [
        (Limits(), 64 << 30, 2 << 30, 1 << 30),
        (Limits(), 1 << 30, LEAST_BYTES, LEAST_BYTES // 2),
        (Limits(bodies_bytes=100 << 20), 64 << 30, 100 << 20, 50 << 20),
        (Limits(bodies_bytes=1, tenant_bodies_bytes=1), 64 << 30, 16 << 20, 16 << 20),
    ],
    ids=["an eighth of the memory", "a small machine", "said", "never below the longest body"],
)
def test_the_bounds_of_one_of_four_workers(limits: Limits, memory: int, most: int, tenant: int) -> None:
    bodies = bodies_of(limits, num_workers=4, memory=memory)
    assert bodies.has_room("a", tenant) and not bodies.has_room("a", tenant + 1)
    bodies.take("a", tenant)
    assert bodies.has_room("b", most - tenant) and not bodies.has_room("b", most - tenant + 1)


def test_a_control_group_bounds_the_memory(tmp_path: Path) -> None:
    whole = memory_bytes(tmp_path)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1048576\n")
    assert memory_bytes(tmp_path) == 1 << 20 < whole
    (group / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == whole
