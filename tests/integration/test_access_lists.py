"""Lists hold what one may look at one by one, under any policy: nothing more, and nothing less."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from direct import Direct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_replica import MemoryReplica
from memory_workshop import MemoryWorkshop
from scratch import FewNames

from ashore.control.access import AccountWish, Keyring, KeyWish, People, PolicyBook
from ashore.control.faces.table import ROUTES
from ashore.control.releases import ReleaseOffice
from ashore.core.clock import ManualClock
from ashore.core.errors import PermissionDenied
from ashore.core.ids import TenantId
from ashore.data.authority import (
    SYSTEM,
    Account,
    Actor,
    Acts,
    Binding,
    Compiled,
    Policy,
    PolicyAuthority,
    Principal,
    Role,
    parse_rule,
)
from ashore.data.authority import sql as access_sql
from ashore.data.authority.budgets import BudgetRule, SqlAuthority, Usage
from ashore.data.authority.budgets.calls import BudgetOffice
from ashore.data.engines import EngineOptions, Inventory, ModelPlan, Plan
from ashore.data.http import HttpApp
from ashore.data.path import BytesText, Limits, ServingService, Topology
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.rooms import Rooms
from ashore.kit.state import Database, open_database

READER = Actor(principal=Principal(id="reader", tenant=TenantId("bank-a")))
TENANTS = ("default", "bank-a", "bank-b")
ALIASES = ("chat", "embed")
BUDGETS = tuple(BudgetRule(kind="tokens", cap=9, window="day", tenant=name) for name in TENANTS)
RESOURCES = (
    "*", "server", "tenant/*", "tenant/bank-a", "tenant/bank-a/*", "tenant/bank-b*", "tenant/bank-b/*",
    "tenant/bank-b/user/u-bank-b", "tenant/default/key/*", "group/*", "group/ops", "role/*", "role/mine", "policy",
    "release/*", "release/chat*", "release/embed-1", "alias/*", "alias/chat",
    "budget/*", *(f"budget/{rule.rule_id}" for rule in BUDGETS),
)  # fmt: skip
ACTIONS = ("*", "access:read", "access:*", "policy:read", "release:read", "budget:read", "usage:read")
rules = st.builds(
    lambda deny, action, resource: parse_rule(f"{'deny ' if deny else ''}{action} on {resource}"),
    st.booleans(), st.sampled_from(ACTIONS), st.sampled_from(RESOURCES),
)  # fmt: skip
wide = st.sampled_from(((), (parse_rule("* on *"),), (parse_rule("access:read on tenant/*"),)))
policies = st.tuples(wide, st.lists(rules, min_size=1, max_size=6)).map(
    lambda found: Role(name="mine", rules=(*found[0], *found[1]))
)


@dataclass
class House:
    """Something of every kind, in one state."""

    database: Database

    def __post_init__(self) -> None:
        self.acts = Acts(self.database, MemoryRecorder(), ManualClock())
        self.people, self.keyring, self.book = People(self.acts), Keyring(self.acts), PolicyBook(self.acts)
        self.office = ReleaseOffice(self.acts, MemoryWorkshop(needed={}))
        self.people.create_group(SYSTEM, "ops")
        self.people.create_group(SYSTEM, "dev")
        for name in TENANTS:
            if name != "default":
                self.people.create_tenant(SYSTEM, name)
            for kind, who in (("user", "u"), ("service", "s")):
                wish = AccountWish(id=f"{who}-{name}", kind=kind, tenant=name, groups=("ops",), key=KeyWish())  # type: ignore[arg-type]
                self.people.create_account(SYSTEM, wish)
        keeper = ReleaseKeeper(self.acts, MemoryWorkshop(needed={}))
        keeper.adopt(keeper.propose(plan()))
        self.budgets = SqlAuthority(self.database)
        for rule in BUDGETS:
            self.budgets.put_rule(rule)
        used = [Usage(day="2026-11-01", tenant=name, user=f"u-{name}", model="chat", requests=1) for name in TENANTS]
        self.budgets.report("w", [], used)

    def take(self, role: Role) -> Compiled:
        """Put a policy in force in which the reader has one role, and return it."""
        with self.database.write() as connection:
            version = access_sql.policy_mark(connection)[0] + 1
            policy = Policy(roles=(role,), bindings=(Binding("user/reader", "mine"),), version=version)
            access_sql.save_policy(connection, policy, author="x", comment="", now_s=1)
        return Compiled(policy)


def plan() -> Plan:
    models = tuple(
        ModelPlan(
            alias=alias, release="", name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
            embedder=False, in_store=True,
        )
        for alias in ALIASES
    )  # fmt: skip
    return Plan(models=models, inventory=Inventory(cores=2, memory_bytes=0))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("lists")
    database = open_database(home / "state.db", snapshots=home / "snapshots", clock=ManualClock())
    yield House(database)
    database.close()


def seen(look: Callable[[], Any]) -> bool:
    """Return whether a look is allowed."""
    try:
        look()
    except PermissionDenied:
        return False
    return True


def listed(look: Callable[[], Any]) -> list[Any] | None:
    """Return what a list holds, None where it is refused as a whole."""
    try:
        return list(look())
    except PermissionDenied:
        return None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(role=policies)
def test_a_list_holds_what_one_may_look_at_one_by_one(house: House, role: Role) -> None:
    compiled = house.take(role)

    def may(action: str, resource: str) -> bool:
        return compiled.decide(READER.principal, action, resource).allowed

    everything = {"user": [f"u-{name}" for name in TENANTS], "service": [f"s-{name}" for name in TENANTS]}
    shown: dict[str, set[str]] = {}
    for kind, ids in everything.items():
        shown[kind] = {one for one in ids if seen(lambda: house.people.account(READER, kind, one))}  # type: ignore[arg-type] # noqa: B023
        rows: list[tuple[Account, tuple[str, ...]]] | None = listed(lambda: house.people.accounts(READER, kind))  # type: ignore[arg-type] # noqa: B023
        assert rows is None or {row.id for row, _ in rows} == shown[kind]
        for name in TENANTS:
            rows = listed(lambda: house.people.accounts(READER, kind, tenant=name))  # type: ignore[arg-type] # noqa: B023
            assert rows is None or {row.id for row, _ in rows} <= shown[kind]
    tenants = listed(lambda: house.people.tenants(READER))
    assert tenants is None or {one.name for one in tenants} == {n for n in TENANTS if may("access:read", f"tenant/{n}")}
    keys = listed(lambda: house.keyring.keys(READER))
    assert keys is None or all(may("access:read", f"tenant/{key.tenant}/key/{key.owner}") for key in keys)
    groups = listed(lambda: house.people.groups(READER))
    for group, members in groups or ():
        assert may("access:read", f"group/{group.name}")
        assert all(may("access:read", f"tenant/{one[2:]}/{'user' if one[0] == 'u' else 'service'}/{one}")
                   or may("access:write", f"tenant/{one[2:]}/{'user' if one[0] == 'u' else 'service'}/{one}")
                   for one in members)  # fmt: skip
    for row in listed(lambda: house.book.roles(READER)) or ():
        assert may("policy:read", f"role/{row.name}")
    for binding in listed(lambda: house.book.bindings(READER)) or ():
        assert may("policy:read", f"role/{binding.role}")
    releases = listed(lambda: house.office.standings(READER))
    single = {f"{alias}-1" for alias in ALIASES if seen(lambda: house.office.standing(READER, f"{alias}-1"))}  # noqa: B023
    assert releases is None or {one.release.name for one in releases} == single
    aliases = listed(lambda: house.office.aliases(READER))
    assert {one.name for one in aliases or ()} == {a for a in ALIASES if seen(lambda: house.office.alias(READER, a))}  # noqa: B023
    for event in listed(lambda: house.office.history(READER)) or ():
        assert seen(lambda: house.office.alias(READER, event.alias))  # noqa: B023


class Desk:
    """The admin API of budgets and usage in front of a policy."""

    def __init__(self, house: House) -> None:
        serving = ServingService(
            Topology(),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=ManualClock(),
            metrics=Metrics(),
        )
        self.authority = PolicyAuthority()
        office = BudgetOffice(
            authority=house.budgets, rights=self.authority, recorder=MemoryRecorder(), clock=ManualClock(), prices={},
            names=FewNames({}),
        )  # fmt: skip
        rooms = Rooms()
        rooms.desks["budgets"] = office
        self.app = HttpApp(serving, self, Metrics(), ROUTES, limits=Limits(), authority=self.authority, rooms=rooms)

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return READER.principal

    def get(self, path: str) -> tuple[int, Any]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "client": ("10.0.0.9", 1),
            "headers": [],
        }  # fmt: skip
        asyncio.run(self.app({**scope, "ashore.direct": Direct(send)}, receive, send))
        return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture(scope="module")
def desk(house: House) -> Desk:
    return Desk(house)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(role=policies)
def test_budgets_and_usage_too(desk: Desk, role: Role) -> None:
    desk.authority.take(Policy(roles=(role,), bindings=(Binding("user/reader", "mine"),)))
    status, budgets = desk.get("/admin/v1/budgets")
    single = {one.rule_id for one in BUDGETS if desk.get(f"/admin/v1/budgets/{one.rule_id}")[0] == 200}
    assert status == 403 or {one["id"] for one in budgets["items"]} == single
    days = "first_day=2026-11-01&last_day=2026-11-02"
    status, by_tenant = desk.get(f"/admin/v1/usage?{days}&by=tenant")
    asked = {name: desk.get(f"/admin/v1/usage?{days}&by=user&tenant={name}") for name in TENANTS}
    one_by_one = {name for name, (found, answer) in asked.items() if found == 200 and answer["items"]}
    assert status == 200 and {one["tenant"] for one in by_tenant["items"]} == one_by_one
    _, users = desk.get(f"/admin/v1/usage?{days}&by=user")
    assert {one["user"] for one in users["items"]} == {f"u-{name}" for name in one_by_one}


@pytest.mark.parametrize(
    ("role", "tenants"),
    [
        ("viewer", {"bank-a"}),
        ("model-owner", {"bank-a"}),
        ("security-officer", {*TENANTS}),
        ("system-administrator", {*TENANTS}),
        ("auditor", {*TENANTS}),
    ],
)
def test_whose_usage_the_built_in_roles_see(desk: Desk, role: str, tenants: set[str]) -> None:
    desk.authority.take(Policy(bindings=(Binding("user/reader", role),)))
    _, found = desk.get("/admin/v1/usage?first_day=2026-11-01&last_day=2026-11-02&by=tenant,user,model")
    assert {one["tenant"] for one in found["items"]} == tenants
    assert desk.get("/admin/v1/usage?first_day=2026-11-01&last_day=2026-11-02&tenant=bank-b")[0] == (
        200 if "bank-b" in tenants else 403
    )
