"""A topology that was written anew reaches the worker, whatever was wrong in the moment that it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ashore.core.errors import AshoreError, InvalidSpec, Overloaded
from ashore.data.path import ServedModel, Topology, write_topology
from ashore.data.rereading import keep_rereading, take_each


def written(path: Path, release: str) -> None:
    write_topology(Topology(models=(ServedModel(alias="chat", release=release, kind="fake", sockets=()),)), path)


async def rereads(path: Path, faults: list[Exception], until: Callable[[list[str]], bool]) -> list[str]:
    """Read again once; return the releases that were to be taken, in turn, where taking them raises these."""
    told, tried = asyncio.Event(), list[str]()

    async def take(topology: Topology) -> None:
        tried.append(topology.models[0].release)
        if faults:
            raise faults.pop(0)

    told.set()
    work = asyncio.create_task(keep_rereading(told, path, take, again_s=0.02))
    async with asyncio.timeout(5):
        while not until(tried) and not work.done():
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.06)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return tried


def test_what_could_not_be_taken_while_the_state_was_busy_is_taken_later(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    written(path, "chat-2")
    busy: list[Exception] = [Overloaded("the state was locked by another process for 5 s"), AshoreError("away")]
    assert asyncio.run(rereads(path, busy, lambda tried: len(tried) == 3)) == ["chat-2"] * 3


def test_what_is_wrong_itself_waits_for_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "topology.json"
    written(path, "chat-2")
    wrong: list[Exception] = [InvalidSpec("no such thing")]
    assert asyncio.run(rereads(path, wrong, lambda tried: len(tried) == 1)) == ["chat-2"]
    assert "no such thing" in caplog.text


def test_a_bug_does_not_lose_it(tmp_path: Path) -> None:
    path, told = tmp_path / "topology.json", asyncio.Event()
    written(path, "chat-2")

    async def take(topology: Topology) -> None:
        raise ZeroDivisionError

    async def once() -> None:
        told.set()
        await keep_rereading(told, path, take)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(once())
    assert told.is_set()


def test_a_part_that_cannot_take_a_topology_keeps_no_other_one_from_it() -> None:
    taken = list[str]()

    async def keys() -> None:
        raise InvalidSpec("no such issuer")

    async def cache() -> None:
        raise Overloaded("the state was locked by another process for 5 s")

    async def models() -> None:
        taken.append("models")

    with pytest.raises(Overloaded):  # what is tried again
        asyncio.run(take_each((keys, cache, models)))
    assert taken == ["models"]
