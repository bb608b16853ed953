"""The admin routes of budgets and usage, and the commands that call them."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from ashore.access import PolicyAuthority, Principal
from ashore.access.budgets import BudgetOffice, BudgetRule, CountRow, MemoryAuthority, MemoryNames, Price, Usage
from ashore.api.http import ROUTES, HttpApp
from ashore.cli import budget as commands
from ashore.core import MemoryRecorder, SystemClock, TenantId
from ashore.errors import InvalidRequest, PermissionDenied
from ashore.metrics import Metrics
from ashore.serving import BytesText, Limits, MemoryReplica, ServingService, Topology

CHAT = Price(per_million_prompt_tokens=Decimal(1), per_million_completion_tokens=Decimal(2), currency="CNY")


class Desk:
    """The admin API in front of an authority in memory."""

    def __init__(self, *roles: str) -> None:
        clock = SystemClock()
        self.principal = Principal(id="sam", tenant=TenantId("ops"), roles=frozenset(roles))
        self.authority, self.recorder = MemoryAuthority(), MemoryRecorder()
        serving = ServingService(
            Topology(),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=Metrics(),
        )
        self.app = HttpApp(
            serving,
            self,
            Metrics(),
            ROUTES,
            limits=Limits(),
            authority=PolicyAuthority(),
            budget_office=BudgetOffice(
                authority=self.authority,
                recorder=self.recorder,
                prices={"chat": CHAT},
                names=MemoryNames({"tenant": ["acme"], "user": ["alice"], "key": ["ash_0a1b2c3d"], "model": ["chat"]}),
            ),
        )

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return self.principal

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
        """Send one request and return status, headers and body."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "client": ("10.0.0.9", 1),
            "headers": [(b"content-length", str(len(body)).encode())],
        }  # fmt: skip
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])

    def json(self, method: str, path: str, body: object = None) -> Any:
        status, _, answer = self.ask(method, path, b"" if body is None else json.dumps(body).encode())
        assert status == 200, answer
        return json.loads(answer)


ADMIN = "system-administrator"
IN = {"kind": "tokens", "cap": 100, "window": "day", "tenant": "acme", "user": "*"}


def test_a_budget_is_set_changed_shown_and_removed() -> None:
    desk = Desk(ADMIN)
    made = desk.json("PUT", "/admin/v1/budgets", IN)
    assert made["about"] == "tenant acme, each user"
    assert desk.json("PUT", "/admin/v1/budgets", IN | {"cap": 50})["id"] == made["id"]
    assert [one["cap"] for one in desk.json("GET", "/admin/v1/budgets")["items"]] == [50]
    row = CountRow(rule_id=made["id"], subject=("", "al", "acme", ""), starts_ms=0, ends_ms=0, settled=30, open=5)
    desk.authority.report("one", [row], [])
    shown = desk.json("GET", f"/admin/v1/budgets/{made['id']}")
    assert [(one["user"], one["settled"], one["open"], one["left"]) for one in shown["items"]] == [("al", 30, 5, 15)]
    assert desk.json("DELETE", f"/admin/v1/budgets/{made['id']}") == {"id": made["id"], "removed": True}
    assert desk.ask("DELETE", f"/admin/v1/budgets/{made['id']}")[0] == 404
    assert desk.ask("GET", "/admin/v1/budgets/b-none")[0] == 404
    assert [(act.action, act.actor, act.reason) for act in desk.recorder.acts] == [
        ("budget:write", "sam", "set"),
        ("budget:write", "sam", "changed"),
        ("budget:write", "sam", "removed"),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"kind": "tokens"}', "cap"),
        (b'{"kind": "money", "cap": 1}', "kind"),
        (b'{"kind": "tokens", "cap": 1, "windw": "day"}', "windw"),
        (b'{"kind": "tokens", "cap": -1}', "cap"),
        (b'{"kind": "concurrency", "cap": 1}', "window"),
        (b'{"kind": "tokens", "cap": 1, "tenant": "a\\nb"}', "tenant"),
        (b"[]", "object"),
        (b"", "empty"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_name(body: bytes, words: str) -> None:
    status, _, answer = Desk(ADMIN).ask("PUT", "/admin/v1/budgets", body)
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
    status, _, answer = desk.ask("PUT", "/admin/v1/budgets", body)
    error = json.loads(answer)["error"]
    assert (status, error["code"]) == (404, "not_found")
    assert error["param"] in about and error["hint"] == hint
    assert not desk.authority.rules() and not desk.recorder.acts


@pytest.mark.parametrize(
    ("role", "reads", "writes", "sees_usage"),
    [
        ("system-administrator", True, True, True),
        ("security-officer", True, False, True),
        ("auditor", True, False, True),
        ("developer", False, False, False),
        ("viewer", False, False, True),
    ],
)
def test_who_may_do_what(role: str, reads: bool, writes: bool, sees_usage: bool) -> None:
    desk = Desk(role)
    assert (desk.ask("GET", "/admin/v1/budgets")[0] == 200) == reads
    assert (desk.ask("PUT", "/admin/v1/budgets", json.dumps(IN).encode())[0] == 200) == writes
    assert (desk.ask("DELETE", "/admin/v1/budgets/b-x")[0] == 404) == writes
    assert (desk.ask("GET", "/admin/v1/usage")[0] == 200) == sees_usage


def test_usage_is_added_up_priced_and_given_as_a_table() -> None:
    desk = Desk(ADMIN)
    rows = [
        Usage(day="2026-11-24", tenant="=acme", user="al", model="chat", requests=2, prompt_tokens=10),
        Usage(day="2026-11-25", tenant="=acme", user="bo", model="chat", requests=1, completion_tokens=20),
        Usage(day="2026-11-25", tenant="bank", user="cy", model="free", requests=1),
    ]
    desk.authority.report("one", [], rows)
    days = "first_day=2026-11-01&last_day=2026-11-30"
    items = desk.json("GET", f"/admin/v1/usage?by=tenant&{days}")["items"]
    assert [(one["tenant"], one["requests"], one["cost"], one["user"]) for one in items] == [
        ("=acme", 3, "0.00005", ""),
        ("bank", 1, None, ""),
    ]
    one_tenant = desk.json("GET", f"/admin/v1/usage?by=user&tenant=bank&{days}")["items"]
    assert [one["user"] for one in one_tenant] == ["cy"]
    status, headers, table = desk.ask("GET", f"/admin/v1/usage?by=tenant&format=csv&{days}")
    assert (status, headers[b"content-type"]) == (200, b"text/csv; charset=utf-8")
    assert table.split(b"\r\n")[1] == b"'=acme,3,0,10,20,0,0,0.00005,CNY"


@pytest.mark.parametrize(
    "query",
    ["by=colour", "first_day=yesterday", "first_day=2026-11-02&last_day=2026-11-01", "first_day=2020-01-01",
     "format=xml", "tenent=acme"],
)  # fmt: skip
def test_usage_that_cannot_be_asked_for(query: str) -> None:
    assert Desk(ADMIN).ask("GET", f"/admin/v1/usage?{query}")[0] == 400


def test_the_commands_say_what_the_routes_say(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    desk = Desk(ADMIN)

    def ask(method: str, path: str, url: str | None, key: str | None, body: bytes | None = None) -> bytes:
        status, _, answer = desk.ask(method, path, body or b"")
        if status != 200:
            raise PermissionDenied(answer.decode())
        return answer

    monkeypatch.setattr(commands, "_ask", ask)
    commands.set_("tokens", 1000, per="day", tenant="acme", user="*", utc_offset="+08:00")
    commands.set_("concurrency", 4, model="chat")
    commands.list_()
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("1,000 tokens per day for tenant acme, each user") and said[0] in said[2:]
    name = said[0].split()[0]
    assert desk.authority.rules()[0].offset_min in (0, 480)
    row = CountRow(rule_id=name, subject=("", "al", "acme", ""), starts_ms=0, ends_ms=0, settled=30, open=5)
    desk.authority.report("one", [row], [Usage(day="2026-11-24", tenant="acme", user="al", model="chat", requests=1)])
    commands.show_(name)
    assert "acme al: 30 used, 5 set aside, 965 left" in capsys.readouterr().out
    commands.usage(by="tenant", since="2026-11-24", until="2026-11-24")
    assert capsys.readouterr().out == "acme: 1 requests (0 from the cache), 0 + 0 tokens, 0 CNY\n"
    commands.remove_(name)
    assert [rule.kind for rule in desk.authority.rules()] == ["concurrency"]


def test_offsets() -> None:
    assert (commands.minutes_of("+08:00"), commands.minutes_of("-03:30")) == (480, -210)
    for wrong in ("8", "+8:00", "08:00", "+0800", "+aa:00", ""):
        with pytest.raises(InvalidRequest):
            commands.minutes_of(wrong)


def test_the_description_names_every_field() -> None:
    described = json.loads(Desk("viewer").ask("GET", "/openapi.json")[2])
    assert {"/admin/v1/budgets", "/admin/v1/budgets/{budget}", "/admin/v1/usage"} <= set(described["paths"])
    assert set(described["components"]["schemas"]["BudgetIn"]["properties"]) == set(BudgetRule.__dataclass_fields__)
