"""The state: transactions, versions, migrations and the way back."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from psycopg.types.string import StrDumper

from ashore.core.clock import ManualClock
from ashore.core.errors import EnvironmentFault, HomeTooNew, InvalidRequest, InvalidSpec, Overloaded
from ashore.kit.state import (
    Database,
    TuningRow,
    load_tuning,
    open_database,
    path_of_url,
    save_tuning,
    sqlite,
)
from ashore.kit.state.postgres import _translated
from ashore.kit.state.schema import migrations

ROW = TuningRow(model="k1", goal="latency", choice="1", report="[]", measured_at_s=7)


def opened(folder: Path, **options: object) -> Database:
    return open_database(folder / "state.db", snapshots=folder / "snapshots", clock=ManualClock(), **options)  # type: ignore[arg-type]


def test_a_fresh_database_has_the_newest_version_and_no_snapshot(tmp_path: Path) -> None:
    said: list[str] = []
    opened(tmp_path, say=said.append).close()
    with sqlite3.connect(tmp_path / "state.db") as raw:
        assert raw.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == (
            str(len(migrations())),
        )
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    assert said == [] and not (tmp_path / "snapshots").exists()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_rows_survive_a_reopening(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state.write() as connection:
        save_tuning(connection, ROW)
    state.close()
    state = opened(tmp_path)
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") == ROW
    state.close()


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with pytest.raises(RuntimeError, match="stop"), state.write() as connection:
        save_tuning(connection, ROW)
        raise RuntimeError("stop")
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") is None
    state.close()


def test_tuning_is_kept_for_each_goal(tmp_path: Path) -> None:
    state = opened(tmp_path)
    row = TuningRow(model="smollm2", goal="latency", choice="{}", report="[]", measured_at_s=1)
    with state.write() as connection:
        save_tuning(connection, TuningRow(model="smollm2", goal="latency", choice="{1}", report="[]", measured_at_s=0))
        save_tuning(connection, row)
    with state.read() as connection:
        assert load_tuning(connection, model="smollm2", goal="latency") == row
        assert load_tuning(connection, model="smollm2", goal="throughput") is None
    state.close()


def test_a_writer_that_waits_too_long_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    state = opened(tmp_path)
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with state.write():
            holding.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holding.wait(10)
        with pytest.raises(Overloaded, match="locked"), state.write():
            pass
        with state.read() as connection:
            assert load_tuning(connection, model="k1", goal="latency") is None
    finally:
        release.set()
        holder.join()
        state.close()


def test_what_was_overwritten_is_in_no_file_once_nobody_reads_there_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    state = opened(tmp_path)

    def kept(choice: str) -> bool:
        return any(choice.encode() in file.read_bytes() for file in tmp_path.glob("state.db*"))

    with state.write() as connection:
        save_tuning(connection, TuningRow(model="k1", goal="latency", choice="4" * 40, report="[]", measured_at_s=7))
    with state.read() as reader:
        assert load_tuning(reader, model="k1", goal="latency") is not None
        with state.write() as connection:
            save_tuning(connection, ROW)
        with pytest.raises(Overloaded, match="another process reads"):
            state.scrub()
        assert kept("4" * 40)
    state.scrub(), state.scrub()
    assert not kept("4" * 40)
    state.close()


def test_an_older_home_is_migrated_after_a_snapshot_and_can_go_back(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state.write() as connection:
        save_tuning(connection, ROW)
    state.close()
    newer = (*migrations(), ("ALTER TABLE access_key ADD COLUMN note TEXT",))
    said: list[str] = []
    opened(tmp_path, say=said.append, migrations=newer).close()
    snapshot = next((tmp_path / "snapshots").iterdir())
    assert str(snapshot) in said[0] and said[1].startswith("to go back")

    with pytest.raises(HomeTooNew, match=f"version {len(newer)}"):
        opened(tmp_path)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"state.db{suffix}").unlink(missing_ok=True)
    shutil.copy(snapshot, tmp_path / "state.db")
    state = opened(tmp_path)
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") == ROW
    state.close()


def test_a_hand_made_version_zero_is_snapshotted_and_keeps_its_rows(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as raw:
        raw.execute("CREATE TABLE note (line TEXT)")
        raw.execute("INSERT INTO note VALUES ('kept')")
    raw.close()
    opened(tmp_path).close()
    for file in (tmp_path / "state.db", next((tmp_path / "snapshots").iterdir())):
        raw = sqlite3.connect(file)
        assert raw.execute("SELECT line FROM note").fetchone() == ("kept",)
        raw.close()


def test_a_migration_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    opened(tmp_path).close()
    broken = (*migrations(), ("CREATE TABLE extra (a)", "THIS IS NOT SQL"))
    with pytest.raises(EnvironmentFault, match="syntax error"):
        opened(tmp_path, migrations=broken)
    state = opened(tmp_path)
    with state.read() as connection:
        assert load_tuning(connection, model="k1", goal="latency") is None
    state.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is not a database at all, but it is long enough to be read as one")
    with pytest.raises(EnvironmentFault, match=r"state\.db is damaged"):
        opened(tmp_path)


def test_only_sqlite_urls_are_taken(tmp_path: Path) -> None:
    assert path_of_url("", default=tmp_path) == tmp_path
    assert path_of_url("sqlite:////srv/state.db", default=tmp_path) == Path("/srv/state.db")
    with pytest.raises(InvalidSpec, match="'postgresql'"):
        path_of_url("postgresql://db/ashore", default=tmp_path)


def test_a_text_that_postgres_cannot_keep_is_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest, match="U\\+0000"), _translated("the state"):
        StrDumper(str).dump("chatcmpl-\0")
