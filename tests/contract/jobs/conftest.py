"""Stores of jobs and files on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_queues import queue_over
from postgres_server import fresh_state

from ashore.core.clock import ManualClock
from ashore.data.jobs import JobQueue, SqlFiles, SqlJobs
from ashore.kit.state import Database, open_state


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = ""
    if request.param == "postgres":
        url = fresh_state(request.getfixturevalue("postgres_url"))
    database = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path, clock=ManualClock())
    yield database
    database.close()


@pytest.fixture
def stores(database: Database) -> tuple[SqlJobs, SqlFiles]:
    return SqlJobs(database), SqlFiles(database)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(stores: tuple[SqlJobs, SqlFiles], clock: ManualClock) -> JobQueue:
    return queue_over(stores[0], clock)
