"""A directory on loopback, and a state to sync it with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_directory import FakeDirectory, Trust

from ashore.core.clock import ManualClock
from ashore.kit.state import Database, open_database


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def fake() -> FakeDirectory:
    """Two people in a team, which is in a department."""
    fake = FakeDirectory()
    team = fake.group("team", fake.person("alice", password="wonder"), fake.person("bob"))
    fake.group("department", team)
    fake.person("carol")
    fake.put("ou=people,dc=corp,dc=example", {"objectClass": "organizationalUnit"})
    fake.put("ou=groups,dc=corp,dc=example", {"objectClass": "organizationalUnit"})
    return fake


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()
