"""A process that is killed in the middle of an act: what is in force is recorded, and what is recorded is in force."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Literal

import pytest
from audit_notes import a_log, an_act, records
from postgres_server import fresh_database

from ashore.core.clock import SystemClock
from ashore.data.audit import Outbox
from ashore.kit.state import Database, after_commit, execute, open_state

Moment = Literal["before the commit", "behind the commit"]


def opened(root: Path, url: str) -> Database:
    return open_state(url, default=root / "state.db", snapshots=root, clock=SystemClock())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def act_and_die(root: Path, url: str, moment: Moment) -> None:
    log = a_log(root / "audit")
    with opened(root, url).write() as connection:
        execute(connection, "INSERT INTO meta VALUES ('changed', '1')")
        after_commit(connection, die)
        log.record(an_act(), on=connection)
        if moment == "before the commit":
            die()


@pytest.mark.parametrize("moment", ["before the commit", "behind the commit"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_change_is_in_force_if_and_only_if_it_is_recorded(
    tmp_path: Path, kind: str, moment: Moment, request: pytest.FixtureRequest
) -> None:
    url = "" if kind == "sqlite" else fresh_database(request.getfixturevalue("postgres_url"), "audit_killed")
    opened(tmp_path, url).close()
    process = multiprocessing.get_context("forkserver").Process(target=act_and_die, args=(tmp_path, url, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    state, log = opened(tmp_path, url), a_log(tmp_path / "audit")
    outbox = Outbox(tmp_path / "audit", state, log)
    in_force = int(moment == "behind the commit")
    assert outbox.drain(older_than_s=0) == in_force and outbox.drain(older_than_s=0) == 0
    with state.read() as connection:
        rows = execute(connection, "SELECT 1 FROM meta WHERE key = 'changed'").all()
    assert len(rows) == in_force == sum(one.action == an_act().action for one in records(tmp_path / "audit"))
    log.close()
    state.close()
