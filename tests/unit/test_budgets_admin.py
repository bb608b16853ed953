"""The admin routes of budgets and usage, and the commands that call them."""

from __future__ import annotations

import asyncio
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from admin_app import AdminApp, run_command
from scratch import FewNames, a_ledger

from ashore.cli.access import app as access
from ashore.core.clock import ManualClock, SystemClock
from ashore.core.errors import BudgetExceeded, InvalidRequest
from ashore.core.ids import TenantId
from ashore.data.authority import Principal
from ashore.data.authority.budgets import KINDS, BudgetRule, CountRow, LedgerBudgets, SqlAuthority, Usage, check_rule
from ashore.data.authority.budgets.calls import BudgetOffice
from ashore.data.authority.budgets.model import NOW_KINDS, QUOTA_KINDS
from ashore.data.authority.budgets.opening import open_budgets
from ashore.data.authority.budgets.usage import Price
from ashore.data.jobs import JobQueue, NewJob, SqlFiles, SqlJobs, StoredFile
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_scratch, open_state

CHAT = Price(per_million_prompt_tokens=Decimal(1), per_million_completion_tokens=Decimal(2), currency="CNY")


class Desk(AdminApp):
    """The admin API in front of budgets in memory."""

    def __init__(self, *roles: str) -> None:
        sam = Principal(id="sam", tenant=TenantId("ops"), roles=frozenset(roles))
        super().__init__(principal=sam, settle=self.settled)
        self.budgets = SqlAuthority(open_scratch())
        self.desks["budgets"] = BudgetOffice(
            authority=self.budgets,
            rights=self.authority,
            recorder=self.recorder,
            clock=SystemClock(),
            prices={"chat": CHAT},
            names=FewNames({"tenant": ["acme"], "user": ["alice"], "key": ["ash_0a1b2c3d"], "model": ["chat"]}),
        )
        self.in_force: list[int] = []
        """How many rules there were when every process was to go by a change."""

    async def settled(self) -> None:
        self.in_force.append(len(self.budgets.rules()))


ADMIN = "system-administrator"
IN = {"kind": "tokens", "cap": 100, "window": "day", "tenant": "acme", "user": "*"}


def test_a_budget_is_set_changed_shown_and_removed() -> None:
    desk = Desk(ADMIN)
    made = desk.ask("PUT", "/admin/v1/budgets", IN)
    assert made["about"] == "tenant acme, each user"
    assert desk.ask("PUT", "/admin/v1/budgets", IN | {"cap": 50})["id"] == made["id"]
    assert [one["cap"] for one in desk.ask("GET", "/admin/v1/budgets")["items"]] == [50]
    row = CountRow(rule_id=made["id"], subject=("", "al", "acme", ""), starts_ms=0, ends_ms=0, settled=30, open=5)
    desk.budgets.report("one", [row], [])
    shown = desk.ask("GET", f"/admin/v1/budgets/{made['id']}")
    assert [(one["user"], one["settled"], one["open"], one["left"]) for one in shown["items"]] == [("al", 30, 5, 15)]
    assert desk.ask("DELETE", f"/admin/v1/budgets/{made['id']}") == {"id": made["id"], "removed": True}
    assert desk.send("DELETE", f"/admin/v1/budgets/{made['id']}")[0] == 404
    assert desk.send("GET", "/admin/v1/budgets/b-none")[0] == 404
    assert [(act.action, act.actor, act.origin, act.reason) for act in desk.recorder.acts] == [
        ("budget:write", "sam", "10.0.0.9", "set"),
        ("budget:write", "sam", "10.0.0.9", "changed"),
        ("budget:write", "sam", "10.0.0.9", "removed"),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"kind": "tokens"}', "cap"),
        (b'{"kind": "money", "cap": 1}', "kind"),
        (b'{"kind": "tokens", "cap": 1, "windw": "day"}', "windw"),
        (b'{"kind": "tokens", "cap": -1}', "cap"),
        (b'{"kind": "concurrency", "cap": 1, "window": "day"}', "window"),
        (b'{"kind": "tokens", "cap": 1, "tenant": "a\\nb"}', "tenant"),
        (b"[]", "object"),
        (b"", "kind"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_name(body: bytes, words: str) -> None:
    status, answer = Desk(ADMIN).send("PUT", "/admin/v1/budgets", body)
    assert status == 400 and words in answer.decode()


@pytest.mark.parametrize(
    ("about", "hint"),
    [
        ({"tenant": "acne"}, "did you mean 'acme'?"),
        ({"tenant": "acme", "user": "alcie"}, "did you mean 'alice'?"),
        ({"key": "ash_0a1b2c3e"}, "did you mean 'ash_0a1b2c3d'?"),
        ({"model": "xyz", "user": "*"}, "known: chat"),
    ],
)
def test_a_budget_for_who_is_not_there_is_refused_with_a_near_name(about: dict[str, str], hint: str) -> None:
    desk = Desk(ADMIN)
    body = json.dumps({"kind": "tokens", "cap": 5} | about).encode()
    status, answer = desk.send("PUT", "/admin/v1/budgets", body)
    error = json.loads(answer)["error"]
    assert (status, error["code"]) == (404, "not_found")
    assert error["param"] in about and error["hint"].startswith(hint)
    assert not desk.budgets.rules() and not desk.recorder.acts


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("system-administrator", True, True),
        ("security-officer", True, False),
        ("auditor", True, False),
        ("developer", False, False),
        ("viewer", False, False),
    ],
)
def test_who_may_do_what(role: str, reads: bool, writes: bool) -> None:
    desk = Desk(role)
    assert (desk.send("GET", "/admin/v1/budgets")[0] == 200) == reads
    assert (desk.send("PUT", "/admin/v1/budgets", json.dumps(IN).encode())[0] == 200) == writes
    assert (desk.send("DELETE", "/admin/v1/budgets/b-x")[0] == 404) == writes


def test_everyone_sees_their_own_usage_and_no_more() -> None:
    desk = Desk("developer")
    days = ("2026-11-24", "2026-11-25")
    whose = (("ops", "sam"), ("ops", "al"), ("bank", "sam"))
    rows = [
        Usage(day=day, tenant=tenant, user=user, model="chat", requests=1) for day in days for tenant, user in whose
    ]
    desk.budgets.report("one", [], rows)
    query = "first_day=2026-11-01&last_day=2026-11-30&by=tenant,user"
    for asked in (query, f"{query}&tenant=ops"):
        items = desk.ask("GET", f"/admin/v1/usage?{asked}")["items"]
        assert [(one["tenant"], one["user"], one["requests"]) for one in items] == [("ops", "sam", 2)]
    assert desk.send("GET", f"/admin/v1/usage?{query}&tenant=bank")[0] == 403


def test_usage_is_added_up_priced_and_given_as_a_table() -> None:
    desk = Desk(ADMIN)
    rows = [
        Usage(day="2026-11-24", tenant="=acme", user="al", model="chat", requests=2, prompt_tokens=10),
        Usage(day="2026-11-25", tenant="=acme", user="bo", model="chat", requests=1, completion_tokens=20),
        Usage(day="2026-11-25", tenant="bank", user="cy", model="free", requests=1),
    ]
    desk.budgets.report("one", [], rows)
    days = "first_day=2026-11-01&last_day=2026-11-30"
    items = desk.ask("GET", f"/admin/v1/usage?by=tenant&{days}")["items"]
    assert [(one["tenant"], one["requests"], one["cost"], one["user"]) for one in items] == [
        ("=acme", 3, "0.00005", ""),
        ("bank", 1, None, ""),
    ]
    one_tenant = desk.ask("GET", f"/admin/v1/usage?by=user&tenant=bank&{days}")["items"]
    assert [one["user"] for one in one_tenant] == ["cy"]
    status, table = desk.send("GET", f"/admin/v1/usage?by=tenant&format=csv&{days}")
    assert (status, desk.headers[b"content-type"]) == (200, b"text/csv; charset=utf-8")
    assert table.split(b"\r\n")[1] == b"'=acme,3,0,10,20,0,0,0.00005,CNY"


@pytest.mark.parametrize(
    "query",
    ["by=colour", "first_day=yesterday", "first_day=2026-11-02&last_day=2026-11-01", "first_day=2020-01-01",
     "format=xml", "tenent=acme"],
)  # fmt: skip
def test_usage_that_cannot_be_asked_for(query: str) -> None:
    assert Desk(ADMIN).send("GET", f"/admin/v1/usage?{query}")[0] == 400


def test_the_commands_say_what_the_routes_say(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    desk = Desk(ADMIN)
    desk.answer_commands(monkeypatch)
    set_ = "set", "tokens", "1000", "--per", "day", "--tenant", "acme", "--user", "*", "--utc-offset"
    run_command(access, "budget", *set_, "+08:00")
    run_command(access, "budget", "set", "concurrency", "4", "--model", "chat")
    run_command(access, "budget", "list")
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("1,000 tokens per day for tenant acme, each user") and said[0] in said[2:]
    name = said[0].split()[0]
    assert {rule.kind: (rule.window, rule.offset_min) for rule in desk.budgets.rules()} == {
        "tokens": ("day", 480),
        "concurrency": ("now", 0),
    }
    row = CountRow(rule_id=name, subject=("", "al", "acme", ""), starts_ms=0, ends_ms=0, settled=30, open=5)
    desk.budgets.report("one", [row], [Usage(day="2026-11-24", tenant="acme", user="al", model="chat", requests=1)])
    run_command(access, "budget", "show", name)
    assert "acme al: 30 used, 5 reserved, 965 left" in capsys.readouterr().out
    asked = "--by", "tenant", "--since", "2026-11-24", "--until", "2026-11-24"
    run_command(access, "usage", *asked)
    assert capsys.readouterr().out == "acme: 1 request (0 from the cache), 0 + 0 tokens, 0 CNY\n"
    run_command(access, "usage", *asked, "--csv")
    assert capsys.readouterr().out.splitlines()[1] == "acme,1,0,0,0,0,0,0,CNY"
    run_command(access, "budget", "remove", name)
    assert [rule.kind for rule in desk.budgets.rules()] == ["concurrency"]
    for wrong in ("8", "+8:00", "08:00", "+0800", "+aa:00", ""):
        with pytest.raises(InvalidRequest, match="is not an offset"):
            run_command(access, "budget", *set_, wrong)


def test_a_cap_for_everyone_together_is_asked_about(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    desk = Desk(ADMIN)
    desk.answer_commands(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(InvalidRequest, match="limit tokens to 100 for everyone together"):
        run_command(access, "budget", "set", "tokens", "100")
    run_command(access, "budget", "set", "tokens", "100", "--dry-run")
    run_command(access, "budget", "set", "tokens", "100", "--tenant", "acme", "--dry-run")
    assert capsys.readouterr().out.splitlines()[1] == "dry run: would limit tokens to 100 for tenant acme"
    assert not desk.budgets.rules()
    run_command(access, "budget", "set", "tokens", "100", "--yes")
    assert [rule.cap for rule in desk.budgets.rules()] == [100]


def test_the_description_names_every_field() -> None:
    described = Desk("viewer").ask("GET", "/openapi.json")
    assert {"/admin/v1/budgets", "/admin/v1/budgets/{budget}", "/admin/v1/usage"} <= set(described["paths"])
    assert set(described["components"]["schemas"]["BudgetIn"]["properties"]) == set(BudgetRule.__dataclass_fields__)


def test_every_kind_of_budget_is_enforced() -> None:
    for kind in KINDS:
        tenant = "acme" if kind in QUOTA_KINDS else ""
        rule = check_rule(BudgetRule(kind=kind, window="now" if kind in NOW_KINDS else "day", cap=0, tenant=tenant))
        budgets = LedgerBudgets(a_ledger(ManualClock()), MemoryRecorder(), rules=[rule])
        queue = JobQueue(SqlJobs(open_scratch()), ManualClock(), quotas=budgets)
        files = SqlFiles(open_scratch())
        stored = StoredFile(
            file_id="f", tenant="acme", filename="f", purpose="batch", num_bytes=1, created_ms=1, expires_ms=None,
            complete=False, account="al",
        )  # fmt: skip
        files.create(stored)
        job = NewJob(job_id="job_1", kind="call", tenant="acme", principal="al", payload=b"")
        principal = Principal(id="al", tenant=TenantId("acme"))
        ways = {
            "a request": lambda: asyncio.run(budgets.reserve(principal, "chat", 1)),  # noqa: B023
            "a job": lambda: queue.submit(job),  # noqa: B023
            "a file": lambda: files.complete(stored, most_bytes=budgets.most("stored_bytes", "acme")),  # noqa: B023
        }
        refused = []
        for name, way in ways.items():
            try:
                way()
            except BudgetExceeded:
                refused.append(name)
        assert len(refused) == 1, f"{kind} is enforced on {refused or 'nothing'}"


def test_the_answer_comes_when_the_budget_is_in_force() -> None:
    desk = Desk(ADMIN)
    made = desk.ask("PUT", "/admin/v1/budgets", IN)
    assert desk.in_force == [1], "waited for after it was written, and before the answer"
    desk.ask("GET", "/admin/v1/budgets")
    assert desk.in_force == [1], "who only looks waits for nothing"
    desk.ask("DELETE", f"/admin/v1/budgets/{made['id']}")
    assert desk.in_force == [1, 0]


def test_a_worker_goes_by_the_rules_of_the_state_as_soon_as_it_is_told_to(tmp_path: Path) -> None:
    state = open_state("", default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=SystemClock())
    opened = open_budgets(tmp_path, state, None, SystemClock(), MemoryRecorder(), charge_hits=False)
    try:
        opened.authority.put_rule(BudgetRule(kind="tokens", window="day", cap=5))
        opened.reread()
        with pytest.raises(BudgetExceeded):
            asyncio.run(opened.budgets.reserve(Principal(id="al", tenant=TenantId("t")), "chat", 6))
    finally:
        opened.close()
        state.close()
