"""What tests of one room's HTTP side share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ashore.core.clock import SystemClock
from ashore.kit.state import Database, open_database


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    """State of a worker that has `state_link(tmp_path)`."""
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=SystemClock())
    yield database
    database.close()
