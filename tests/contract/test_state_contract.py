"""One contract for every database that holds the state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import fresh_database

from ashore.core.clock import ManualClock
from ashore.core.errors import EnvironmentFault, HomeTooNew, Overloaded, StateUnavailable
from ashore.kit.state import (
    Database,
    EpochWatch,
    TuningRow,
    bump,
    execute,
    insert,
    load_tuning,
    open_postgres,
    open_state,
    postgres,
    read_epochs,
    row_lock,
    save_tuning,
    upsert,
)
from ashore.kit.state.schema import migrations

Opener = Callable[[], Database]

ROW = TuningRow(model="k1", goal="latency", choice="1", report="[]", measured_at_s=7)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same database again and again, as several processes do."""
    url = ""
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres_url"), "state_contract")
    made: list[Database] = []

    def once() -> Database:
        made.append(
            open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
        )
        return made[-1]

    yield once
    for database in made:
        database.close()


def test_rows_are_inserted_once_or_changed_but_for_what_stays(opened: Opener) -> None:
    state = opened()
    first, second = ({"model": name, "goal": "g", "choice": "1", "report": "r", "measured_at_s": 1} for name in "ab")
    changed = {**first, "choice": "2", "report": "s"}
    with state.write() as connection:
        assert insert(connection, "tuning") == 0
        assert insert(connection, "tuning", first, second) == 2
        assert insert(connection, "tuning", changed, once=True) == 0
        upsert(connection, "tuning", key="model, goal")
        upsert(connection, "tuning", changed, {**second, "model": "c"}, key="model, goal", keep=("report",))
        rows = execute(connection, "SELECT model, choice, report FROM tuning ORDER BY model").all()
    assert [tuple(row) for row in rows] == [("a", "2", "r"), ("b", "1", "r"), ("c", "1", "r")]
    with pytest.raises(Exception, match=r"(?i)unique"), state.write() as connection:
        insert(connection, "tuning", first)


def test_rows_survive_a_reopening_and_are_replaced_by_key(opened: Opener) -> None:
    state = opened()
    with state.write() as connection:
        save_tuning(connection, ROW)
        save_tuning(connection, ROW)
        save_tuning(connection, TuningRow(model="m", goal="latency", choice="1", report="[]", measured_at_s=0))
        save_tuning(connection, TuningRow(model="m", goal="latency", choice="2", report="[]", measured_at_s=2**40))
    state.close()
    with opened().read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") == ROW
        row = load_tuning(connection, model="m", goal="latency")
    assert row is not None and (row.choice, row.measured_at_s) == ("2", 2**40)


def test_a_transaction_that_raises_leaves_nothing(opened: Opener) -> None:
    state = opened()
    with pytest.raises(RuntimeError), state.write() as connection:
        save_tuning(connection, ROW)
        raise RuntimeError("stop")
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") is None


def test_a_reader_sees_one_moment(opened: Opener) -> None:
    state, other = opened(), opened()
    with state.read() as connection:
        assert read_epochs(connection) == {}
        with other.write() as writing:
            bump(writing, "keys")
        assert read_epochs(connection) == {}
    with state.read() as connection:
        assert read_epochs(connection) == {"keys": 1}


def test_what_a_reader_writes_is_refused_or_rolled_back(opened: Opener) -> None:
    state = opened()
    with pytest.raises((EnvironmentFault, RuntimeError)), state.read() as connection:
        save_tuning(connection, ROW)
        raise RuntimeError("SQLite's reader is told nothing, so the test ends the transaction")
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") is None


def test_writers_of_one_row_go_one_after_the_other(opened: Opener) -> None:
    state = opened()
    with state.write() as connection:
        bump(connection, "keys")

    def add() -> None:
        mine = opened()
        for _ in range(20):
            with mine.write() as connection:
                bump(connection, "keys")
        mine.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.read() as connection:
        assert read_epochs(connection) == {"keys": 81}


def test_a_watch_hears_of_commits_of_others(opened: Opener) -> None:
    watch, heard = EpochWatch(opened()), threading.Event()
    watch.on_change(lambda kind, value: heard.set())
    watch.start()
    try:
        with opened().write() as connection:
            bump(connection, "keys")
        assert heard.wait(10)
        assert watch.get("keys") == 1
    finally:
        watch.close()


def test_a_watch_whose_listener_hears_nothing_any_more_looks_by_itself(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a router that dropped the idle connection: neither side is told."""
    state, other, changed = opened(), opened(), threading.Event()
    monkeypatch.setattr(state, "changes", Deaf)
    watch = EpochWatch(state)
    watch.on_change(lambda kind, value: changed.set())
    watch.start()
    with other.write() as connection:
        bump(connection, "keys")
    assert changed.wait(20) and watch.get("keys") == 1
    watch.close()


class Deaf:
    """Changes of which nothing is heard."""

    def wait(self, timeout_s: float) -> bool:
        time.sleep(timeout_s)
        return False

    def close(self) -> None:
        return None


def test_a_listener_hears_of_what_is_announced_once_and_of_no_other_commit(opened: Opener) -> None:
    state, changes = opened(), opened().changes()
    try:
        with state.write() as connection:
            save_tuning(connection, ROW)
        assert not changes.wait(0.25)
        with pytest.raises(RuntimeError), state.write() as connection:
            bump(connection, "keys")
            raise RuntimeError("rolled back")
        assert not changes.wait(0.05)
        with state.write() as connection:
            bump(connection, "keys")
        assert changes.wait(10)
        assert not changes.wait(0.05)
    finally:
        changes.close()


def test_errors_of_the_server_are_ours(opened: Opener) -> None:
    state = opened()
    with pytest.raises(EnvironmentFault), state.read() as connection:
        execute(connection, "SELECT * FROM no_such_table")
    assert "@" not in state.place or "ashore@" in state.place


def test_two_that_open_a_new_database_at_once_make_it_once(opened: Opener) -> None:
    faults: list[Exception] = []

    def open_it() -> None:
        try:
            opened()
        except Exception as fault:  # noqa: BLE001 - told by the main thread
            faults.append(fault)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with opened().read() as connection:
        version = execute(connection, "SELECT value FROM meta WHERE key = 'schema_version'").scalar_one()
    assert version == str(len(migrations()))


def test_postgres_says_what_it_migrated_and_refuses_a_newer_one(postgres_url: str) -> None:
    url = fresh_database(postgres_url, "migrations")
    said: list[str] = []
    open_postgres(url, migrations=migrations()[:1]).close()
    open_postgres(url, say=said.append).close()
    assert len(said) == 1 and f"from schema version 1 to {len(migrations())}" in said[0]
    with pytest.raises(HomeTooNew):
        open_postgres(url, migrations=migrations()[:1])
    with pytest.raises(EnvironmentFault, match="syntax error"):
        open_postgres(url, migrations=(*migrations(), ("CREATE TABLE extra (a INTEGER)", "THIS IS NOT SQL")))
    state = open_postgres(url)
    with pytest.raises(EnvironmentFault, match="extra"), state.read() as connection:
        execute(connection, "SELECT * FROM extra")
    state.close()


def test_postgres_tells_who_waits_too_long_for_a_row(postgres_url: str) -> None:
    url = fresh_database(postgres_url, "locks")
    state = open_postgres(url)
    with state.write() as connection:
        bump(connection, "keys")
    with state.write() as holder:
        execute(holder, "SELECT * FROM epoch" + row_lock(holder))
        with pytest.raises(Overloaded, match="busy"), state.write() as second:
            execute(second, "SET LOCAL lock_timeout = '50ms'")
            bump(second, "keys")
    state.close()


def test_a_server_that_hangs_holds_nobody_for_ever(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = open_postgres(fresh_database(postgres_url, "hangs"))
    with monkeypatch.context() as shorter:
        shorter.setattr(postgres, "ANSWER_S", 1.0)
        with pytest.raises(StateUnavailable, match="no answer"), state.read() as connection:
            execute(connection, "SELECT pg_sleep(50)")
    with state.read() as connection:
        assert execute(connection, "SELECT 1").scalar() == 1, "the next one has a connection of its own"
    state.close()


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(EnvironmentFault, match="cannot be reached") as caught:
        open_postgres("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)
