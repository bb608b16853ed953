"""Events: kept with the change, in order, read by whoever may, and resumed where a reader stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from ashore.control.server.events import MOST_OF_ONE, Feed
from ashore.core.errors import Overloaded
from ashore.core.ids import TenantId
from ashore.core.principal import KeyScope, Principal
from ashore.kit.state import (
    Database,
    EpochWatch,
    Event,
    events_after,
    events_span,
    happenings,
    keep_event,
    open_scratch,
)


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    rule: str = ""


class OfTenant:
    """Rights of somebody who sees one tenant alone."""

    def decide(self, principal: Principal, action: str, resource: str) -> Verdict:
        return Verdict(resource.startswith(f"tenant/{principal.tenant}/") and action == "job:read")

    def holds(self, principal: Principal, action: str) -> bool:
        return action == "job:read"

    def require(self, principal: Principal, action: str, resource: str) -> None:
        raise AssertionError("a stream leaves out what its reader may not see")


class OfNobody(OfTenant):
    """Rights of somebody who has none."""

    def decide(self, principal: Principal, action: str, resource: str) -> Verdict:
        return Verdict(allowed=False)


ANN = Principal(id="ann", tenant=TenantId("acme"), kind="user")


def happen(database: Database, tenant: str, job: str, owner: str = "bob") -> int:
    about: dict[str, str | int | float | None] = {"job": job, "owner": owner}
    event = Event(kind="job.running", resource=f"tenant/{tenant}/job/{job}", reads="job:read", about=about, at_ms=7)
    with database.write() as connection:
        return keep_event(connection, event)


def following(work: Callable[[Database, Feed], Awaitable[None]]) -> None:
    async def main() -> None:
        database = open_scratch()
        watch = EpochWatch(database, look_every_s=0.01).start()
        feed = Feed(database, OfTenant())
        feed.watch(watch)
        try:
            async with asyncio.timeout(60):
                await work(database, feed)
        finally:
            watch.close()
            database.close()

    asyncio.run(main())


async def frames(stream: AsyncGenerator[bytes], most: int) -> list[tuple[int, dict[str, Any]]]:
    found = []
    async with aclosing(stream):
        async for piece in stream:
            if piece.startswith(b"id: "):
                head, _, data = piece.partition(b"\ndata: ")
                found.append((int(head[4:]), msgspec.json.decode(data)))
            if len(found) == most:
                break
    return found


def test_a_reader_gets_what_it_may_read_in_order_and_goes_on_where_it_stopped() -> None:
    async def work(database: Database, feed: Feed) -> None:
        for number in range(4):
            await asyncio.to_thread(happen, database, "acme" if number % 2 == 0 else "beta", f"job_{number}")
        stream = await feed.follow(ANN, 0)
        assert [(number, one["about"]["job"]) for number, one in await frames(stream, 2)] == [
            (1, "job_0"),
            (3, "job_2"),
        ]
        again = await feed.follow(ANN, 1)
        assert [number for number, _ in await frames(again, 1)] == [3]
        new = await feed.follow(ANN, None)
        await anext(new)  # it knows now where it begins
        waiting = asyncio.create_task(frames(new, 1))
        await asyncio.to_thread(happen, database, "beta", "hidden")
        await asyncio.to_thread(happen, database, "acme", "seen")
        ((number, one),) = await waiting
        assert number == 6 and one["about"]["job"] == "seen" and one["kind"] == "job.running"

    following(work)


def test_everyone_reads_of_their_own_jobs_but_not_with_a_key_that_is_narrowed() -> None:
    async def work(database: Database, feed: Feed) -> None:
        eve = Principal(id="eve", tenant=TenantId("beta"), kind="user")
        feed = Feed(database, OfNobody())
        for tenant, owner in (("beta", "bob"), ("acme", "eve"), ("beta", "eve")):
            await asyncio.to_thread(happen, database, tenant, f"of_{owner}", owner)
        found, number = await feed.after(eve, 0, limit=10)
        assert ([one.id for one in found], number) == ([3], 3)
        narrowed = replace(eve, key_id="ash_0a1b2c3d", scope=KeyScope(actions=("infer",)))
        assert await feed.after(narrowed, 0, limit=10) == ([], 3)
        found, _ = await feed.after(replace(narrowed, key_id=""), 0, limit=10)
        assert [one.id for one in found] == [3], "a session of the console, which lacks what belongs to an office"

    following(work)


def test_followers_read_one_after_the_other_and_each_all_of_it() -> None:
    async def work(database: Database, feed: Feed) -> None:
        streams = [await feed.follow(replace(ANN, id=f"ann-{at}"), 0) for at in range(40)]
        assert feed.num_followers == 40
        reading = [asyncio.create_task(frames(stream, 3)) for stream in streams]
        for number in range(3):
            await asyncio.to_thread(happen, database, "acme", f"job_{number}")
        assert [[number for number, _ in one] for one in await asyncio.gather(*reading)] == [[1, 2, 3]] * 40
        assert feed.num_followers == 0

    following(work)


def test_who_was_away_for_too_long_is_told_and_one_account_holds_few_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "KEPT", 5)

    async def work(database: Database, feed: Feed) -> None:
        for number in range(12):
            await asyncio.to_thread(happen, database, "acme", f"job_{number}")
        with database.read() as connection:
            assert events_span(connection) == (8, 12)
            assert [one.number for one in events_after(connection, 9, limit=2)] == [10, 11]
        found = await frames(await feed.follow(ANN, 2), 3)
        assert [(number, one["kind"]) for number, one in found] == [
            (7, "missed"),
            (8, "job.running"),
            (9, "job.running"),
        ]
        ((number, one),) = await frames(await feed.follow(ANN, 99), 1)
        assert (number, one["kind"]) == (12, "missed"), "of another state, before it was restored"
        streams = [await feed.follow(ANN, None) for _ in range(MOST_OF_ONE)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Overloaded):
            await feed.follow(ANN, None)
        await streams[0].aclose()
        await feed.follow(ANN, None)
        listed, last = await feed.after(ANN, await feed.last(before=3), limit=2)
        assert [one.id for one in listed] == [10, 11] and last == 11
        for stream in streams[1:]:
            await stream.aclose()

    following(work)


def test_streams_that_are_asked_for_at_once_are_counted_and_closed_ones_are_not() -> None:
    async def work(database: Database, feed: Feed) -> None:
        asked = await asyncio.gather(*(feed.follow(ANN, None) for _ in range(3 * MOST_OF_ONE)), return_exceptions=True)
        streams = [one for one in asked if not isinstance(one, BaseException)]
        assert len(streams) == MOST_OF_ONE and all(isinstance(one, Overloaded) for one in asked if one not in streams)
        for stream in streams:
            await stream.aclose()  # before anything was read of it
        for stream in [await feed.follow(ANN, None) for _ in range(MOST_OF_ONE)]:
            await stream.aclose()

    following(work)


def test_many_followers_of_one_event_read_the_state_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(database: Database, feed: Feed) -> None:
        streams = [await feed.follow(ANN, 0) for _ in range(MOST_OF_ONE)]
        await asyncio.to_thread(happen, database, "acme", "first")
        await asyncio.gather(*(frames(one, 1) for one in streams))
        read, reads = feed._read, list[int]()

        def counted(number: int) -> list[Event]:
            reads.append(number)
            return read(number)

        monkeypatch.setattr(feed, "_read", counted)
        streams = [await feed.follow(ANN, 1) for _ in range(MOST_OF_ONE)]
        waiting = [asyncio.create_task(frames(one, 1)) for one in streams]
        await asyncio.sleep(0)
        await asyncio.to_thread(happen, database, "acme", "second")
        found = await asyncio.gather(*waiting)
        assert [number for ((number, _),) in found] == [2] * MOST_OF_ONE
        assert len(reads) <= 4, reads

    following(work)


def test_an_event_of_a_change_that_was_taken_back_is_none() -> None:
    database = open_scratch()
    with pytest.raises(RuntimeError), database.write() as connection:
        keep_event(connection, Event(kind="x", resource="x", reads="x", about={}, at_ms=1))
        raise RuntimeError
    assert happen(database, "acme", "first") == 1
    database.close()
