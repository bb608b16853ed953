"""A state that is lost or damaged is never taken for a new home; what is named as a way out is there."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ashore.cli.bootstrap import begin_anew, open_state
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, Conflict, EnvironmentFault, StateLost
from ashore.data.authority import keep_first_key, make_first_key
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Home, Settings
from ashore.kit.state import has_state, open_database


@pytest.fixture
def used(tmp_path: Path) -> Settings:
    """A home in which a server ran."""
    settings = Settings(home=Home(root=tmp_path / "home"))
    settings.home.create()
    state = open_state(settings)
    with state.write() as connection:
        keep_first_key(connection, make_first_key(settings.home.first_key), machine="", created_s=1)
    state.close()
    chain = settings.home.audit / "chains" / "api-0"
    chain.mkdir(parents=True)
    (chain / "00000001.log").write_text("{}\n" * 1000)
    return settings


def lose(home: Home) -> None:
    for name in ("state.db-wal", "state.db-shm", "state.db"):
        home.state_db.with_name(name).unlink(missing_ok=True)


def empty(home: Home) -> None:
    lose(home)
    home.state_db.touch()


def replace_with_a_strangers(home: Home) -> None:
    lose(home)
    with closing(sqlite3.connect(home.state_db)) as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")
        connection.commit()


@pytest.mark.parametrize("harm", [lose, empty, replace_with_a_strangers])
def test_a_lost_state_is_no_new_home(used: Settings, harm: Callable[[Home], None]) -> None:
    home = used.home
    harm(home)
    with pytest.raises(StateLost, match="audit records of api-0, first-key") as caught:
        open_state(used)
    assert "snapshot" not in caught.value.hint and "ashore backup" not in caught.value.hint
    assert "ashore up --new-state" in caught.value.hint
    home.snapshots.mkdir()
    (home.snapshots / "state-v3-10.db").write_bytes(b"x")
    home.backup.mkdir()
    with pytest.raises(StateLost) as caught:
        open_state(used)
    assert str(home.snapshots / "state-v3-10.db") in caught.value.hint and "backup restore" in caught.value.hint
    assert not has_state(home.state_db)


def test_one_begins_anew_by_saying_so_and_it_is_recorded(used: Settings) -> None:
    recorder = MemoryRecorder()
    with pytest.raises(Conflict, match="not lost"):
        begin_anew(used, recorder, actor="os:test")
    old_key = used.home.first_key.read_text()
    lose(used.home)
    begin_anew(used, recorder, actor="os:test")
    open_state(used).close()
    assert [act.action for act in recorder.acts] == ["state:begin-anew"]
    assert make_first_key(used.home.first_key) != old_key.strip()


def test_a_home_without_a_state_yet_gets_one(tmp_path: Path) -> None:
    """Commands record what they do, and models are pulled, before any server ran."""
    settings = Settings(home=Home(root=tmp_path / "home"))
    settings.home.create()
    chain = settings.home.audit / "chains" / "cli"
    chain.mkdir(parents=True)
    (chain / "00000001.log").write_text("{}\n")
    settings.home.state_db.touch()
    open_state(settings).close()
    assert settings.home.state_db.stat().st_size


def test_a_state_elsewhere_is_not_looked_for_in_the_home(used: Settings, tmp_path: Path) -> None:
    lose(used.home)
    open_state(Settings(home=used.home, state_url=f"sqlite:///{tmp_path}/other.db")).close()


def test_a_part_of_a_running_server_makes_no_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for _ in range(2):
        with pytest.raises(StateLost, match="when this server started"):
            open_database(path, snapshots=tmp_path, clock=ManualClock(), create=False)
        path.touch()
    assert not path.stat().st_size


def read_all(path: Path, snapshots: Path) -> None:
    from sqlalchemy import text

    state = open_database(path, snapshots=snapshots, clock=ManualClock())
    try:
        with state.read() as connection:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
            for name in names:
                connection.execute(text(f'SELECT * FROM "{name}"')).all()
    finally:
        state.close()


def test_a_damaged_state_ends_in_one_error_that_names_no_snapshot_that_is_not_there(
    used: Settings, tmp_path: Path
) -> None:
    home, copy = used.home, tmp_path / "copy" / "state.db"
    copy.parent.mkdir()
    state = open_state(used)
    with state.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (note TEXT)")
        connection.exec_driver_sql("INSERT INTO filler VALUES " + ", ".join(["('äöü grüße')"] * 2000))
    state.close()
    whole = home.state_db.read_bytes()
    refused = 0
    for seed in range(120):
        rng, data = random.Random(seed), bytearray(whole)
        match seed % 4:
            case 0:
                data[: rng.randint(1, 100)] = rng.randbytes(rng.randint(1, 100))
            case 1:
                del data[rng.randrange(len(data)) :]
            case _:
                for _ in range(2000):
                    data[rng.randrange(100 * (seed % 3), len(data))] ^= 1 << rng.randrange(8)
        lose(Home(root=copy.parent))
        copy.write_bytes(data)
        try:
            read_all(copy, tmp_path / "none")
        except AshoreError as error:
            refused += 1
            assert isinstance(error, EnvironmentFault), error
            assert error.message.isprintable() and len(error.message) < 500
            assert "snapshot" not in error.hint and "none" not in error.hint
    assert refused > 60
    home.snapshots.mkdir()
    (home.snapshots / "state-v3-10.db").write_bytes(whole)
    lose(home)
    home.state_db.write_bytes(b"not a database" * 100)
    with pytest.raises(EnvironmentFault, match="damaged") as caught:
        open_state(used)
    assert str(home.snapshots / "state-v3-10.db") in caught.value.hint
