"""Days on which a ledger must not give anything back: kills, restored states, clocks that go back, two at once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ashore.control.audit import AuditService
from ashore.control.ledger import Ledger
from ashore.control.ledger.model import MICRO
from ashore.core.clock import ManualClock, SystemClock
from ashore.core.errors import PrivacyBudgetSpent, StateLost
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.audit import AuditLink, open_command_log
from ashore.kit.call import Actor
from ashore.kit.recorder import Act, MemoryRecorder
from ashore.kit.state import Database, after_commit, open_database

OFFICER = Actor(principal=Principal(id="olga", tenant=TenantId("default")))
RUN = Ledger.training_cost(0.3, 1e-8)
PHASES = ("nothing was reserved", "reserved", "recorded", "noise was drawn", "spent")


@contextmanager
def opened(home: Path) -> Iterator[tuple[Ledger, Database]]:
    """Give the ledger as a command has it: with an audit log on disk."""
    log = open_command_log(AuditLink(path=str(home / "audit"), keys=str(home / "keys")))
    database = open_database(home / "state.db", snapshots=home / "old", clock=SystemClock())
    with closing(log), closing(database):
        yield (
            Ledger(
                database,
                clock=SystemClock(),
                recorder=log,
                remembers=AuditService(home / "audit", home / "keys", log),
            ),
            database,
        )


def spend(ledger: Ledger, what: str = "a run") -> None:
    with ledger.reserved(OFFICER, "default", "letters", "training", RUN, what=what):
        pass


def grant(ledger: Ledger, epsilon: float = 1.0) -> None:
    ledger.grant(OFFICER, "default", "letters", epsilon=epsilon, delta=1e-6, questions=0.0)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A recorder that kills its process before or behind a record."""

    def __init__(self, inner: Any, phase: str) -> None:
        self._inner, self._phase = inner, phase

    def record(self, act: Act, *, on: Any = None) -> None:
        if self._phase == "reserved":
            after_commit(on, die)
        self._inner.record(act, on=on)

    def settle(self, timeout_s: float) -> None:
        self._inner.settle(timeout_s)
        if self._phase == "recorded":
            die()


def die_in(home: Path, phase: str) -> None:
    """Reserve, draw noise and end, and be killed as soon as something is so."""
    with opened(home) as (ledger, database):
        ledger = Ledger(
            database,
            clock=SystemClock(),
            recorder=Deadly(ledger._recorder, phase),
            remembers=ledger._remembers,
        )
        if phase == "nothing was reserved":
            die()
        with ledger.reserved(OFFICER, "default", "letters", "training", RUN, what=phase):
            (home / "drawn").write_text(phase)
            if phase == "noise was drawn":
                die()
        die()


def test_a_run_that_is_killed_in_any_phase_is_spent_once_and_never_shows_what_is_not_spent(tmp_path: Path) -> None:
    with opened(tmp_path) as (ledger, _):
        grant(ledger, 2.0)
    seen = {}
    for phase in PHASES:
        with opened(tmp_path) as (ledger, _):
            before = ledger.standing("default", "letters").training_epsilon
        (tmp_path / "drawn").unlink(missing_ok=True)
        process = multiprocessing.get_context("forkserver").Process(target=die_in, args=(tmp_path, phase))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, phase
        with opened(tmp_path) as (ledger, _):
            after = ledger.standing("default", "letters")
            seen[phase] = (round((after.training_epsilon - before) / (0.3 * MICRO), 6), (tmp_path / "drawn").exists())
    assert seen == {
        "nothing was reserved": (0, False),
        "reserved": (1, False),
        "recorded": (1, False),
        "noise was drawn": (1, True),
        "spent": (1, True),
    }
    with opened(tmp_path) as (ledger, _):
        states = [one.state for one in ledger.history("default", "letters", 10)]
        assert sorted(states) == ["reserved", "reserved", "reserved", "spent"]
        spend(ledger, "the next one"), spend(ledger, "and the next")
        with pytest.raises(PrivacyBudgetSpent):
            spend(ledger)


def test_a_restored_backup_that_knows_less_than_the_audit_log_may_not_spend(tmp_path: Path) -> None:
    state, backup = tmp_path / "state.db", tmp_path / "backup.db"
    with opened(tmp_path) as (ledger, _):
        grant(ledger)
        spend(ledger, "before the backup")
        with closing(sqlite3.connect(state)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
        spend(ledger, "after the backup")
    for part in tmp_path.glob("state.db*"):
        part.unlink()
    shutil.copy(backup, state)
    with opened(tmp_path) as (ledger, _):
        assert ledger.standing("default", "letters").training_epsilon == 0.3 * MICRO, "the state forgot one"
        with pytest.raises(StateLost, match="the audit log has 1 spends on letters that the state does not have"):
            spend(ledger)
        assert ledger.standing("default", "letters").runs == 1
        grant(ledger)  # by an officer; what was lost counts as spent
        assert ledger.standing("default", "letters").budget.carried_epsilon == 0.6 * MICRO
        spend(ledger, "within what is left")
        with pytest.raises(PrivacyBudgetSpent):
            spend(ledger)


class Site:
    """A ledger in one process."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.recorder = ManualClock(), MemoryRecorder()
        self.database = open_database(folder / "state.db", snapshots=folder / "old", clock=self.clock)
        self.ledger = Ledger(self.database, clock=self.clock, recorder=self.recorder, remembers=self.recorder)
        grant(self.ledger)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    yield one
    one.database.close()


def test_a_state_that_is_set_back_beneath_a_running_process_is_found(site: Site) -> None:
    spend(site.ledger)
    spend(site.ledger)
    with site.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM dp_spend WHERE id = (SELECT MAX(id) FROM dp_spend)")
    with pytest.raises(StateLost, match="1 spends on letters"):
        spend(site.ledger)


@pytest.mark.parametrize("back_s", [60.0, 400 * 86_400.0])
def test_a_clock_that_is_set_back_gives_nothing_back(site: Site, back_s: float) -> None:
    spend(site.ledger, "before")
    site.clock.advance(-back_s)
    spend(site.ledger, "after")
    site.clock.advance(-back_s)
    grant(site.ledger)
    assert site.ledger.standing("default", "letters").spent_epsilon == 0.6 * MICRO
    again = Ledger(site.database, clock=site.clock, recorder=site.recorder, remembers=site.recorder)
    spend(again, "another process, later")
    with pytest.raises(PrivacyBudgetSpent):
        spend(again)
    assert len(again.history("default", "letters", 10)) == 3


def test_two_runs_at_once_are_two_spends_and_what_does_not_fit_beside_the_other_is_refused(site: Site) -> None:
    def begin(epsilon: float) -> Any:
        return site.ledger.reserved(
            OFFICER, "default", "letters", "training", Ledger.training_cost(epsilon, 1e-8), what=f"{epsilon}"
        )

    with begin(0.5):
        with pytest.raises(PrivacyBudgetSpent), begin(0.6):
            pass
        with begin(0.4) as second:
            assert site.ledger.standing("default", "letters").training_epsilon == 0.9 * MICRO
            second.release()
        with begin(0.5):
            pass
    assert site.ledger.standing("default", "letters").training_epsilon == MICRO


def test_a_budget_that_is_replaced_during_a_run_carries_the_run(site: Site) -> None:
    with site.ledger.reserved(OFFICER, "default", "letters", "training", RUN, what="under the old budget") as held:
        grant(site.ledger, 2.0)
        held.release()  # given back under the old one; the new one counted it, and keeps it
    assert site.ledger.standing("default", "letters").spent_epsilon == 0.3 * MICRO
