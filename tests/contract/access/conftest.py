"""The access room on every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from access_house import House
from postgres_server import fresh_state

from ashore.core.clock import ManualClock
from ashore.data.authority import keep_first_key, new_key
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    made: list[Database] = []

    def once() -> Database:
        made.append(
            open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
        )
        return made[-1]

    yield once
    for database in made:
        database.close()


@pytest.fixture
def house(opened: Callable[[], Database]) -> House:
    database, key = opened(), new_key()
    with database.write() as connection:
        assert keep_first_key(connection, key, created_s=1)
    return House(database, ManualClock(), MemoryRecorder(), key)
