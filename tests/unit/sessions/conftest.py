"""A house with the three administrators and a developer, on a state in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from access_house import House
from console_house import ConsoleHouse

from ashore.core.clock import ManualClock
from ashore.data.authority import keep_first_key, new_key
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


@pytest.fixture
def fresh(database: Database) -> ConsoleHouse:
    """A state with the first key alone."""
    clock, key = ManualClock(), new_key()
    with database.write() as connection:
        keep_first_key(connection, key, created_s=int(clock.now_s()))
    return ConsoleHouse(House(database, clock, MemoryRecorder(), key))


@pytest.fixture
def rig(fresh: ConsoleHouse) -> ConsoleHouse:
    """A state with sam (system), sec (security) and ann (audit), who have keys, and dev, who develops."""
    house = fresh.house
    sam, sec, ann = house.three()
    fresh.keys = {"sam": sam, "sec": sec, "ann": ann}  # type: ignore[attr-defined]
    fresh.keys["dev"] = house.make(house.actor(sec), "dev", "developer")  # type: ignore[attr-defined]
    fresh.reread()
    return fresh
