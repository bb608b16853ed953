"""Epochs: numbers that tell every process that something changed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ashore.core.clock import ManualClock
from ashore.core.errors import Overloaded
from ashore.kit.state import Database, EpochWatch, announce, bump, open_database, read_epochs


def opened(folder: Path) -> Database:
    return open_database(folder / "state.db", snapshots=folder / "snapshots", clock=ManualClock())


def test_a_bump_counts_up_each_kind_alone_and_only_when_it_commits(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state.write() as connection:
        assert [bump(connection, "keys"), bump(connection, "keys"), bump(connection, "purges")] == [1, 2, 1]
    with pytest.raises(RuntimeError), state.write() as connection:
        bump(connection, "keys")
        raise RuntimeError("rolled back")
    with state.read() as connection:
        assert read_epochs(connection) == {"keys": 2, "purges": 1}
    state.close()


def test_a_watch_sees_the_commit_of_another_connection_and_says_so_once(tmp_path: Path) -> None:
    mine, other = opened(tmp_path), opened(tmp_path)
    told: list[tuple[str, int]] = []
    heard = threading.Event()
    watch = EpochWatch(mine)

    def hear(kind: str, value: int) -> None:
        told.append((kind, value))
        heard.set()

    watch.on_change(hear)
    watch.start()
    try:
        assert watch.get("keys") == 0
        began = time.monotonic()
        with other.write() as connection:
            bump(connection, "keys")
        assert heard.wait(10)
        assert time.monotonic() - began < 5  # the bound of 200 ms is for an idle machine; this one may be busy
        assert watch.get("keys") == 1 and told == [("keys", 1)]
    finally:
        watch.close()
        mine.close()
        other.close()


def test_a_look_returns_when_every_callback_has_what_was_committed_before(tmp_path: Path) -> None:
    mine, other = opened(tmp_path), opened(tmp_path)
    told: list[tuple[str, int]] = []
    watch = EpochWatch(mine, look_every_s=60.0)
    watch.on_change(lambda kind, value: told.append((kind, value)))
    watch.start()
    try:
        for value in (1, 2):
            with other.write() as connection:
                bump(connection, "keys")
            watch.look()
            assert told[-1] == ("keys", value)
        watch.look()
        assert len(told) == 2, "what was taken is not told again"
    finally:
        watch.close()
        mine.close()
        other.close()


def test_a_watch_starts_from_what_is_there_and_keeps_it_after_its_end(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state.write() as connection:
        bump(connection, "aliases")
    told: list[str] = []
    watch = EpochWatch(state)
    watch.on_change(lambda kind, value: told.append(kind))
    watch.start()
    watch.close()
    watch.close()
    assert watch.get("aliases") == 1 and told == []
    state.close()


@pytest.mark.parametrize(
    "fault", [Overloaded("the state was locked by another process for 5 s"), ZeroDivisionError("a bug")]
)
def test_what_somebody_cannot_take_yet_he_is_told_again_and_the_others_at_once(
    tmp_path: Path, fault: Exception
) -> None:
    state = opened(tmp_path)
    told: list[str] = []
    taken = threading.Event()
    watch = EpochWatch(state, look_every_s=0.01)

    def busy(kind: str, value: int) -> None:
        told.append("busy")
        if told.count("busy") == 1:
            raise fault
        taken.set()

    watch.on_change(busy)
    watch.on_change(lambda kind, value: told.append("other"))
    watch.start()
    try:
        with state.write() as connection:
            bump(connection, "keys")
        assert taken.wait(10)
        assert told == ["busy", "other", "busy"]
    finally:
        watch.close()
        state.close()


def test_a_database_that_cannot_be_read_keeps_the_last_epochs_and_recovers(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state.write() as connection:
        bump(connection, "keys")
    heard = threading.Event()
    watch = EpochWatch(state, look_every_s=0.01)
    watch.on_change(lambda kind, value: heard.set())
    watch.start()
    try:
        with state.write() as connection:
            announce(connection)
            connection.exec_driver_sql("ALTER TABLE epoch RENAME TO gone")
        time.sleep(0.05)
        assert watch.get("keys") == 1
        with state.write() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO epoch")
            bump(connection, "keys")
        assert heard.wait(10)
        assert watch.get("keys") == 2
    finally:
        watch.close()
        state.close()
