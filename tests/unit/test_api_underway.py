"""Bodies under way: what is counted, for whom, and what over the bound gets."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from ashore.core.errors import InvalidRequest, Overloaded
from ashore.data.path import Delta, Hear, Limits, ServingEvent, TokenText
from ashore.data.underway import (
    LEAST_BYTES,
    LOGPROB_BYTES,
    NO_HOLD,
    PRINCIPAL_SHARE,
    Bodies,
    Hold,
    bodies_of,
    logprob_bytes,
    made_whole,
)


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
    principal = max(tenant // PRINCIPAL_SHARE, limits.max_body_bytes)
    assert bodies.has_room(("a", "ann"), principal) and not bodies.has_room(("a", "ann"), principal + 1)
    held = 0
    for at in range(PRINCIPAL_SHARE):
        if held + principal <= tenant:
            bodies.take(("a", f"p{at}"), principal)
            held += principal
    left = tenant - held
    assert bodies.has_room(("a", "x"), left) and not bodies.has_room(("a", "x"), left + 1)
    rest = min(principal, most - held)
    assert bodies.has_room(("b", "bob"), rest) and not bodies.has_room(("b", "bob"), rest + 1)


def test_one_of_a_tenant_leaves_room_for_the_others_and_announcing_takes_none() -> None:
    bodies = Bodies(100, 60, principal_bytes=20, free_bytes=5)
    bodies.hold("a", "ann").check(25)
    with pytest.raises(Overloaded, match="of ann"):
        bodies.hold("a", "ann").check(26)
    assert bodies.held_bytes == 0
    first = bodies.hold("a", "ann")
    first.grow(3)
    assert bodies.held_bytes == 0, "the beginning is free"
    first.grow(22)
    assert bodies.held_bytes == 20
    with pytest.raises(Overloaded):
        first.grow(1)
    bodies.hold("a", "ann").grow(5)
    bodies.hold("a", "bea").grow(25)
    assert bodies.held_bytes == 40
    first.shrink_to(6)
    assert bodies.held_bytes == 21
    first.release()
    first.release()
    assert bodies.held_bytes == 20


def test_what_was_read_of_a_body_counts_up_to_what_one_principal_may_hold() -> None:
    bodies = Bodies(1000, 500, principal_bytes=200)
    alone = bodies.hold("bank-a", "alice")
    alone.grow(50)
    alone.grow_read(10_000)
    assert bodies.held_bytes == 200
    with pytest.raises(Overloaded):
        bodies.hold("bank-a", "alice").grow(1)
    alone.release()
    assert bodies.held_bytes == 0
    NO_HOLD.grow_read(10_000)


def test_log_probabilities_of_an_answer_count_until_there_is_no_room_and_then_nothing_more_is_made() -> None:
    entries = tuple(("a", b"a", -1.0) for _ in range(20))
    piece = Delta(choice=0, text="a", logprobs=(TokenText(text="a", raw=b"a", logprob=0.0, top=entries),) * 10)
    room, heard = Bodies(10_000_000, 400_000, principal_bytes=200_000), list[ServingEvent]()

    async def answer(hear: Hear, *, pieces: int) -> None:
        for _ in range(pieces):
            hear(piece)
            await asyncio.sleep(0)

    async def ask(who: str, pieces: int) -> Hold:
        heard.clear()
        hold = room.hold("bank-b", who)
        try:
            await made_whole(partial(answer, pieces=pieces), heard.append, hold)
        except BaseException:
            hold.release()
            raise
        return hold

    async def scenario() -> None:
        mine = await ask("bob", 6)
        assert len(heard) == 6 and room.held_bytes == 6 * 10 * 21 * LOGPROB_BYTES
        with pytest.raises(Overloaded):
            await ask("bob", 2)
        assert not heard
        mine.release()
        for pieces in (7, 1000):  # the last piece of an answer, and one among many
            with pytest.raises(InvalidRequest, match="log-probabilities"):
                await ask("bob", pieces)
            assert len(heard) == 6
        task = asyncio.create_task(ask("mallory", 1000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        text = Delta(choice=0, text="a" * 1_000_000)
        assert logprob_bytes(text) == 0

    asyncio.run(scenario())


def test_vectors_wait_for_room_before_they_are_made_and_one_request_alone_always_has_it() -> None:
    async def scenario() -> None:
        bodies = Bodies(1000, 500, principal_bytes=200)
        first, second = bodies.hold("bank-b", "bob"), bodies.hold("bank-b", "bob")
        first.grow(50)
        await first.make_room(10_000, 0.0)
        assert bodies.held_bytes == 200
        waiting = asyncio.create_task(second.make_room(10_000, 60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await waiting
        assert bodies.held_bytes == 200
        with pytest.raises(Overloaded):
            await bodies.hold("bank-b", "bob").make_room(1, 0.0)

    asyncio.run(scenario())


def test_a_long_answer_counts_until_it_is_read_and_one_alone_always_has_room() -> None:
    """Few bytes of a body ask for many, and a client need not read them."""

    async def scenario() -> None:
        bodies = Bodies(1000, 500, principal_bytes=200)
        first, second = bodies.hold("bank-b", "bob"), bodies.hold("bank-b", "bob")
        first.grow(50)
        first.cover(40)
        assert bodies.held_bytes == 50
        first.cover(10_000)
        assert bodies.held_bytes == 200
        with pytest.raises(Overloaded):
            second.cover(1)
        first.release()
        second.cover(150)
        assert bodies.held_bytes == 150

    asyncio.run(scenario())
