"""Budgets and questions over HTTP and the command line: what two security officers do, and what others may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access_house import seat
from admin_app import AdminApp, run_command

from ashore.cli.privacy import app as privacy
from ashore.control.ledger import Ledger
from ashore.control.ledger.calls import LedgerDesk
from ashore.control.ledger.section import DatasetSection
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError
from ashore.core.ids import TenantId
from ashore.data.authority import Principal
from ashore.data.authority.consents import SqlConsents
from ashore.kit.state import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with_clock = open_database(tmp_path / "state.db", snapshots=tmp_path / "old", clock=ManualClock())
    yield with_clock
    with_clock.close()


def app_of(database: Database, folder: Path, name: str, role: str = "security-officer") -> AdminApp:
    """Return the application as it is for one person; all of them share the state."""
    app, clock = AdminApp(role, principal=Principal(id=name, tenant=TenantId("default"))), ManualClock()
    (folder / "calls.csv").write_text("user,minutes\n" + "".join(f"u{n},{n % 60}\n" for n in range(600)))
    app.desks["privacy budget"] = LedgerDesk(
        ledger=Ledger(database, clock=clock, recorder=app.recorder, remembers=app.recorder),
        database=database,
        rights=app.authority,
        recorder=app.recorder,
        datasets=(DatasetSection(name="calls", file=str(folder / "calls.csv"), unit="user"),),
        consents=SqlConsents(database, clock),
        alone_up_to=2.0,
    )
    return app


def test_a_large_budget_takes_two_officers_and_is_asked_by_command(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    olga, otto = (app_of(database, tmp_path, name) for name in ("olga", "otto"))
    seat(database, "olga", "otto")
    asked = {"dataset": "calls", "epsilon": 4.0, "questions": 1.0}
    refused = olga.ask("POST", "/admin/v1/privacy/budgets", asked)
    assert refused["status"] == 409 and "no second security officer" in refused["message"]
    assert "ashore privacy budget consent calls --epsilon 4" in refused["message"], "every message ends with its hint"
    assert otto.ask("POST", "/admin/v1/privacy/budgets/calls/consent", {"epsilon": 4.0})["holds_for_s"] == 86_400
    granted = olga.ask("POST", "/admin/v1/privacy/budgets", asked)
    assert (granted["epsilon"], granted["granted_by"], granted["runs"]) == (4.0, "olga", 0)
    assert [act.action for act in otto.recorder.acts] == ["privacy-budget:consent"]
    assert olga.recorder.acts[-1].detail["consent_of"] == "otto"

    olga.answer_commands(monkeypatch)
    words = ("query", "calls", "--what", "quantile", "--column", "minutes", "--high", "60", "--quantiles", "0.25,0.75")
    run_command(privacy, *words, "--epsilon", "1")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["quantile", "value", "rows", "off,", "at", "most"]
    assert [line.split()[0] for line in printed[1:3]] == ["0.25", "0.75"] and "left" in printed[3]
    with pytest.raises(AshoreError, match="left for questions"):
        run_command(privacy, "query", "calls", "--epsilon", "9")


def test_others_neither_grant_nor_consent(database: Database, tmp_path: Path) -> None:
    owner = app_of(database, tmp_path, "mia", "model-owner")
    for path, body in (("", {"dataset": "calls", "epsilon": 1.0}), ("/calls/consent", {"epsilon": 4.0})):
        refused: Any = owner.ask("POST", f"/admin/v1/privacy/budgets{path}", body)
        assert refused["status"] == 403, path
