"""Rooms open in the order of the list, stage by stage, and close in the reverse one."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import pytest

from ashore.core.errors import InvalidSpec
from ashore.data.rereading import take_each
from ashore.kit.listed import LISTED, PACKAGE
from ashore.kit.metrics import TABLE
from ashore.kit.rooms import Context, Opened, Room, Rooms, Stage, rooms


class House:
    """Three rooms, and what happened to them."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        listed = (self.room("log", "record"), self.room("beside", "serving"), self.room("kept", "state"))
        self.rooms = Rooms(Context(told={"word": "old"}.__getitem__), listed=lambda: listed)

    def room(self, name: str, stage: Stage) -> Room:
        async def close() -> None:
            self.happened.append(f"close {name}")

        async def reload(context: Context) -> None:
            self.happened.append(f"reload {name} {context.told('word')}")
            if name == "kept":
                raise InvalidSpec(f"{name} cannot")

        async def opening(context: Context) -> Opened:
            self.happened.append(f"open {name} {context.find(int)}")
            return Opened(
                desk=None if name == "beside" else name,
                gives={int: len(name)},
                over_state=lambda context: self.happened.append(f"{name} over {context.find(str)}"),
                reload=(reload,),
                close=close,
            )

        return Room(name=name, open=opening, stage=stage)

    async def state_closes(self) -> None:
        self.happened.append("close state")

    async def open(self) -> None:
        await self.rooms.open("record")
        self.rooms.before_closing(self.state_closes)
        self.rooms.give({str: "the state"})
        await self.rooms.go_over_state()
        await self.rooms.open("state")
        await self.rooms.open("serving")


def test_what_opens_first_closes_last_and_the_state_lies_between() -> None:
    house = House()
    asyncio.run(house.open())
    assert house.happened == ["open log None", "log over the state", "open kept 3", "open beside 4"]
    assert house.rooms.desks == {"log": "log", "kept": "kept"}, "one that this server lacks is left out"
    house.happened.clear()
    asyncio.run(house.rooms.close())
    asyncio.run(house.rooms.close())
    assert house.happened == ["close beside", "close kept", "close state", "close log"], "and only once"


def test_a_room_that_cannot_take_a_reload_keeps_none_of_the_others_from_it() -> None:
    house = House()
    asyncio.run(house.open())
    house.happened.clear()
    with pytest.raises(InvalidSpec):
        asyncio.run(take_each(partial(work) for work in house.rooms.reloads({"word": "new"}.__getitem__)))
    assert house.happened == ["reload log new", "reload kept new", "reload beside new"]


def test_every_room_that_says_what_it_brings_is_listed_and_no_two_bring_the_same() -> None:
    files = [file for name in ("room.py", "worker.py") for file in PACKAGE.rglob(name)]
    bring = {
        str(file.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
        for file in files
        if re.search("^ROOM: Final = |import ROOM$", file.read_text(), re.MULTILINE)
    }
    assert bring == {f"{one.folder}.room" for one in LISTED} | {one.data for one in LISTED if one.data}
    names = [room.name for room in rooms()]
    metrics = [*(one.name for one in TABLE), *(one.name for room in rooms() for one in room.metrics)]
    assert len(set(names)) == len(names) and len(set(metrics)) == len(metrics)
