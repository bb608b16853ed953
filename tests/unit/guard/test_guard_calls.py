"""Calls on guard lists, over a state of SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ashore.control.guard.calls as calls
from ashore.control.guard.calls import GuardDesk, ListIn, list_lists, put_list, words_of_file
from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, InvalidRequest, InvalidSpec
from ashore.data.authority import SYSTEM
from ashore.data.guard import MOST_LISTS, Guard
from ashore.data.guard.lists import Compiled
from ashore.data.guard.room import read_lists
from ashore.data.guard.sql import GUARD_EPOCH
from ashore.kit.call import Nothing
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Following, open_database


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[GuardDesk]:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield GuardDesk(guard=Guard(), database=database, clock=ManualClock(), recorder=MemoryRecorder())
    database.close()


def put(desk: GuardDesk, name: str, **fields: Any) -> None:
    put_list(desk, SYSTEM, ListIn(name=name, **fields))


def test_words_are_read_before_the_transaction_for_which_others_wait(
    desk: GuardDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing: list[bool] = []
    begin = desk.database.write

    @contextmanager
    def write() -> Iterator[Any]:
        with begin() as connection:
            writing.append(True)
            yield connection
            writing.clear()

    def read_words(one: Any) -> Compiled:
        assert not writing
        return Compiled(one)

    monkeypatch.setattr(desk.database, "write", write)
    monkeypatch.setattr(calls, "Compiled", read_words)
    put(desk, "a", category="violence", words=["bomb"])
    put(desk, "a", do="block")
    [one] = list_lists(desk, SYSTEM, Nothing())
    assert (one.category, one.num_words, one.do) == ("violence", 1, "block")
    assert one.changed_at == int(desk.clock.now_s())


def test_a_file_of_words_that_cannot_be_read_is_named_without_the_number_of_the_fault(tmp_path: Path) -> None:
    (tmp_path / "gbk.txt").write_bytes("笨蛋".encode("gbk"))
    for name, why in (("none.txt", "No such file or directory"), ("gbk.txt", "it is not UTF-8")):
        with pytest.raises(InvalidRequest, match=f"{name}: {why}$"):
            words_of_file(str(tmp_path / name))


def test_what_cannot_be_a_list_is_refused(desk: GuardDesk) -> None:
    for fields in ({"words": ["a"]}, {"category": "x"}, {"category": "x", "words": ["a\nb"]}):
        with pytest.raises(InvalidRequest):
            put(desk, "a", **fields)
    with pytest.raises(InvalidSpec):
        put(desk, "a", category="x", words=[" "])
    for number in range(MOST_LISTS):
        put(desk, f"l{number}", category="x", words=["a"])
    with pytest.raises(Conflict):
        put(desk, "one-more", category="x", words=["a"])
    put(desk, "l0", words=["b"])


def test_the_thread_that_hears_of_changes_reads_no_lists(desk: GuardDesk) -> None:
    """A revoked key is heard of on the same thread."""

    async def scenario() -> None:
        following = Following(GUARD_EPOCH, partial(read_lists, desk.guard, desk.database), "the guard lists")
        await asyncio.to_thread(put, desk, "a", category="violence", words=["bomb"])
        await asyncio.to_thread(following.heed, GUARD_EPOCH, 1)
        assert not desk.guard.now.lists
        keeps = asyncio.create_task(following.keep_reading())
        while not desk.guard.now.lists:
            await asyncio.sleep(0.005)
        keeps.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))
