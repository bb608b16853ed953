"""Releases on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_workshop import MemoryWorkshop
from postgres_server import fresh_state
from release_house import GIB, House

from ashore.core.clock import ManualClock
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_state


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    clock = ManualClock(now_s=1_000_000.0)
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    database = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)
    try:
        yield House(
            database, clock, MemoryRecorder(), MemoryWorkshop(needed={"big": 4 * GIB, "bad": 0, "good": 0, "new": 0})
        )
    finally:
        database.close()
