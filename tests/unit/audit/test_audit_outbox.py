"""Acts that stand in the transaction of their change: a change in force has its record, and a record its change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from audit_notes import a_log, an_act, records

from ashore.core.errors import AuditUnavailable
from ashore.data.audit import Checkpoints, Outbox
from ashore.data.audit.checkpoints import read_home
from ashore.data.audit.outbox import keep_act
from ashore.kit.recorder import Act
from ashore.kit.reserve import Reserve
from ashore.kit.state import Database, execute, open_scratch


@pytest.fixture
def state() -> Database:
    return open_scratch()


def recorded(root: Path) -> list[Act]:
    found = [one for one in records(root) if one.kind == "act"]
    return [replace(an_act(), resource=one.resource, detail=dict(one.detail)) for one in found]


def waiting(state: Database) -> int:
    with state.read() as connection:
        return int(execute(connection, "SELECT count(*) FROM audit_act").scalar_one())


def test_what_commits_is_recorded_and_what_is_rolled_back_is_not(tmp_path: Path, state: Database) -> None:
    log = a_log(tmp_path)
    with pytest.raises(ZeroDivisionError), state.write() as connection:
        log.record(an_act(1), on=connection)
        raise ZeroDivisionError
    with state.write() as connection:
        log.record(an_act(2), on=connection)
        log.settle(5)
        assert recorded(tmp_path) == [], "nothing is recorded that could still be rolled back"
    log.settle(5)
    assert recorded(tmp_path) == [an_act(2)]
    assert waiting(state) == 1
    assert Outbox(tmp_path, state, log).drain(older_than_s=0) == 0, "the chain has it"
    assert waiting(state) == 0
    log.close()


def test_what_a_process_did_before_it_died_is_recorded_once(tmp_path: Path, state: Database) -> None:
    Checkpoints(tmp_path, tmp_path / "keys").make(1)
    with state.write() as connection:
        keep_act(connection, tmp_path, 1_700_000_000_000_000, an_act(3))
    log = a_log(tmp_path)
    outbox = Outbox(tmp_path, state, log)
    assert outbox.drain(older_than_s=10**10) == 0, "its process may still write the record"
    assert outbox.drain() == 1
    late = replace(an_act(3), detail={**an_act(3).detail, "acted": "2023-11-14T22:13:20.000Z"})
    assert recorded(tmp_path) == [late] and waiting(state) == 0
    with state.write() as connection:  # the supervisor died before it forgot it
        keep_act(connection, tmp_path, 1_700_000_000_000_000, an_act(3))
    assert outbox.drain() == 0
    assert recorded(tmp_path) == [late] and waiting(state) == 0
    log.close()


@pytest.mark.parametrize(
    "forged",
    ["UPDATE audit_act SET act = replace(act, 'sysadmin', 'sec') WHERE at_us = 1",
     "UPDATE audit_act SET act = '{\"action\": 1}' WHERE at_us = 1",
     "UPDATE audit_act SET home = :home WHERE home = '' AND at_us = 1",
     "INSERT INTO audit_act SELECT 'f1', home, 1, act FROM audit_act WHERE at_us = 2"],
    ids=["another actor", "nothing that can be read", "of another home", "a copy at another time"],
)  # fmt: skip
def test_what_others_write_into_the_state_is_recorded_as_unproven_and_holds_up_no_act(
    tmp_path: Path, state: Database, forged: str
) -> None:
    Checkpoints(tmp_path, tmp_path / "keys").make(1)
    (tmp_path / "elsewhere").mkdir()
    with state.write() as connection:
        if ":home" in forged or "INSERT" in forged:
            keep_act(connection, tmp_path / "elsewhere", 1, an_act(9))
        else:
            keep_act(connection, tmp_path, 1, an_act(1))
        keep_act(connection, tmp_path, 2, an_act(2))
        execute(connection, forged, **({"home": read_home(tmp_path)} if ":home" in forged else {}))
    log = a_log(tmp_path)
    assert Outbox(tmp_path, state, log).drain() == 1
    log.close()
    acts = [one for one in records(tmp_path) if one.kind == "act"]
    assert [(one.action, one.actor, one.resource) for one in acts] == [
        ("key:create", "sysadmin", an_act(2).resource), ("audit:unproven", "system", "audit/outbox")
    ]  # fmt: skip
    assert acts[1].outcome == "failed" and acts[1].detail["num"] == 1
    assert waiting(state) == ("INSERT" in forged), "what another home wrote is left to it"


def test_a_row_of_a_home_without_a_name_yet_is_left_to_who_wrote_it(tmp_path: Path, state: Database) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with state.write() as connection:
        keep_act(connection, tmp_path / "one", 1, an_act(1))
    for name, is_ours in (("two", False), ("one", True)):
        log = a_log(tmp_path / name)
        assert Outbox(tmp_path / name, state, log).drain() == is_ours
        log.close()


def test_a_failure_in_the_same_millisecond_does_not_stand_for_an_act(tmp_path: Path, state: Database) -> None:
    Checkpoints(tmp_path, tmp_path / "keys").make(1)
    log = a_log(tmp_path, clock_us=1_700_000_000_000_001)
    log.record(an_act(1))
    log.record(an_act(2, outcome="failed"))
    log.settle(5)
    with state.write() as connection:
        keep_act(connection, tmp_path, 1_700_000_000_000_002, an_act(1))
        keep_act(connection, tmp_path, 1_700_000_000_000_001, an_act(2))
    assert Outbox(tmp_path, state, log).drain() == 2
    log.close()


def test_acts_of_another_machine_are_left_to_it(tmp_path: Path, state: Database) -> None:
    for name in ("one", "two"):
        Checkpoints(tmp_path / name, tmp_path / f"keys-{name}").make(1)
    with state.write() as connection:
        keep_act(connection, tmp_path / "one", 1, an_act(4))
    log = a_log(tmp_path / "two")
    assert Outbox(tmp_path / "two", state, log).drain() == 0 and waiting(state) == 1
    log.close()


def test_nothing_is_administered_while_nothing_can_be_recorded(tmp_path: Path, state: Database) -> None:
    log = a_log(tmp_path)
    log.close()
    with pytest.raises(AuditUnavailable), state.write() as connection:
        execute(connection, "INSERT INTO meta VALUES ('changed', '1')")
        log.record(an_act(5), on=connection)
    with state.read() as connection:
        assert execute(connection, "SELECT 1 FROM meta WHERE key = 'changed'").first() is None


def test_the_supervisor_ends_with_an_empty_outbox(tmp_path: Path, state: Database) -> None:
    log = a_log(tmp_path)
    outbox = Outbox(tmp_path, state, log).start()
    with state.write() as connection:
        keep_act(connection, tmp_path, 1, an_act(6))
        log.record(an_act(7), on=connection)
    outbox.close()
    assert {one.resource for one in recorded(tmp_path)} == {an_act(6).resource, an_act(7).resource}
    assert waiting(state) == 0
    log.close()


def test_a_reserve_gives_its_room_once_and_takes_it_again(tmp_path: Path) -> None:
    reserve, file = Reserve(tmp_path, num_bytes=1 << 16), tmp_path / "reserve"
    assert not reserve.is_spent and not reserve.release(), "there is none yet"
    reserve.take()
    assert not file.exists()
    reserve.make()
    assert file.stat().st_blocks * 512 >= 1 << 16 and not reserve.is_spent
    assert reserve.release() and reserve.is_spent and not reserve.release()
    reserve.take()
    assert not reserve.is_spent
    Reserve(tmp_path, num_bytes=1 << 60).take()
    assert file.stat().st_size == 1 << 16, "there is no room for that"
