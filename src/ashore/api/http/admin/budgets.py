"""`/admin/v1/budgets` and `/admin/v1/usage`: what anybody may use, and what was used."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.access import Principal, sees_tenant
from ashore.access.budgets import (
    COLUMNS,
    BudgetOffice,
    BudgetRule,
    Column,
    Count,
    Kind,
    UsageSum,
    WindowName,
    as_csv,
    check_rule,
    columns_of,
)
from ashore.api.adminguard import check_on, may_on
from ashore.api.decode import decode
from ashore.api.http.exchange import Exchange
from ashore.api.http.streaming import JSON
from ashore.errors import InvalidRequest, NotReady

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

BUDGET_READ: Final = "budget:read"
BUDGET_WRITE: Final = "budget:write"
USAGE_READ: Final = "usage:read"

_encode = msgspec.json.Encoder().encode


class BudgetIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget to set. A selector that is empty does not matter, `*` counts each value apart."""

    kind: Kind
    cap: int
    window: WindowName = "total"
    key: str = ""
    user: str = ""
    tenant: str = ""
    model: str = ""
    offset_min: int = 0


class BudgetOut(msgspec.Struct, frozen=True, kw_only=True):
    """A budget."""

    id: str
    kind: Kind
    window: WindowName
    cap: int
    key: str
    user: str
    tenant: str
    model: str
    offset_min: int
    about: str


class BudgetList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/budgets`."""

    items: list[BudgetOut]


class CountOut(msgspec.Struct, frozen=True, kw_only=True):
    """What one count of a budget stands at, as reported within the last quarter of a second."""

    key: str
    user: str
    tenant: str
    model: str
    settled: int
    open: int
    left: int
    starts_at: str | None
    resets_at: str | None


class BudgetShow(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/budgets/{budget}`: the budget, and its running counts."""

    budget: BudgetOut
    items: list[CountOut]


class BudgetRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `DELETE /admin/v1/budgets/{budget}`."""

    id: str
    removed: bool = True


class UsageOut(msgspec.Struct, frozen=True, kw_only=True):
    """Usage added up; columns that were not asked for are empty."""

    day: str
    tenant: str
    user: str
    model: str
    requests: int
    hits: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    refused: int
    cost: str | None
    """Exact decimal; null where a model has no price."""
    currency: str


class UsageList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/usage`."""

    items: list[UsageOut]


_decoder = msgspec.json.Decoder(BudgetIn)


async def list_budgets(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/budgets`."""
    rules = [
        rule
        for rule in await asyncio.to_thread(_office(app).rules)
        if may_on(app.authority, principal, BUDGET_READ, f"budget/{rule.rule_id}")
    ]
    await exchange.respond(200, [JSON], _encode(BudgetList([_out(rule) for rule in rules])))


async def put_budget(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PUT /admin/v1/budgets`. The same budget with another cap takes the place of the old one."""
    given = decode(await exchange.body(app.limits), _decoder)
    rule = check_rule(BudgetRule(**msgspec.structs.asdict(given)))
    check_on(app.authority, principal, BUDGET_WRITE, f"budget/{rule.rule_id}")
    office = _office(app)
    await asyncio.to_thread(
        office.put, rule, actor=principal.id, tenant=principal.tenant, request_id=exchange.request_id
    )
    await exchange.respond(200, [JSON], _encode(_out(rule)))


async def show_budget(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/budgets/{budget}`."""
    check_on(app.authority, principal, BUDGET_READ, f"budget/{exchange.argument}")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    rule, counts = await asyncio.to_thread(_office(app).show, exchange.argument, now_ms)
    items = [_count(rule, count) for count in counts]
    await exchange.respond(200, [JSON], _encode(BudgetShow(budget=_out(rule), items=items)))


async def remove_budget(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /admin/v1/budgets/{budget}`."""
    check_on(app.authority, principal, BUDGET_WRITE, f"budget/{exchange.argument}")
    office = _office(app)
    await asyncio.to_thread(
        office.remove, exchange.argument, actor=principal.id, tenant=principal.tenant, request_id=exchange.request_id
    )
    await exchange.respond(200, [JSON], _encode(BudgetRemoved(id=exchange.argument)))


async def usage(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/usage?by=tenant,day&first_day=2026-11-01&last_day=2026-11-30&tenant=acme&format=csv`."""
    given = exchange.query()
    for name in given:
        if name not in ("by", "first_day", "last_day", "tenant", "format"):
            raise InvalidRequest(
                f"usage has no parameter {name[:40]!r}", hint="by, first_day, last_day, tenant or format", param=name
            )
    today = datetime.now(UTC).date()
    columns = columns_of(given.get("by", ",".join(COLUMNS)))
    form = given.get("format", "json")
    if form not in ("json", "csv"):
        raise InvalidRequest(f"format is {form[:40]!r}", hint="json or csv", param="format")
    tenant = given.get("tenant", "")
    if tenant and not sees_tenant(app.authority, principal, USAGE_READ, tenant):
        app.authority.require(principal, USAGE_READ, f"tenant/{tenant}")
    office = _office(app)
    sums = await asyncio.to_thread(
        office.usage,
        first_day=given.get("first_day", today.replace(day=1).isoformat()),
        last_day=given.get("last_day", today.isoformat()),
        by=columns,
        tenant=tenant,
        sees=lambda name: sees_tenant(app.authority, principal, USAGE_READ, name),
    )
    if form == "csv":
        headers = [
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", b'attachment; filename="usage.csv"'),
        ]
        await exchange.respond(200, headers, as_csv(sums, columns).encode())
        return
    await exchange.respond(200, [JSON], _encode(UsageList([_usage(one, columns) for one in sums])))


def _office(app: HttpApp) -> BudgetOffice:
    if app.budget_office is None:
        raise NotReady("this server keeps no budgets: it has no state", hint="start it with `ashore up`")
    return app.budget_office


def _out(rule: BudgetRule) -> BudgetOut:
    return BudgetOut(
        id=rule.rule_id,
        kind=rule.kind,
        window=rule.window,
        cap=rule.cap,
        key=rule.key,
        user=rule.user,
        tenant=rule.tenant,
        model=rule.model,
        offset_min=rule.offset_min,
        about=rule.about(),
    )


def _count(rule: BudgetRule, count: Count) -> CountOut:
    key, user, tenant, model = count.subject
    return CountOut(
        key=key,
        user=user,
        tenant=tenant,
        model=model,
        settled=count.settled,
        open=count.open,
        left=max(0, rule.cap - count.settled - count.open),
        starts_at=_moment(count.starts_ms),
        resets_at=_moment(count.ends_ms),
    )


def _moment(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if ms else None


def _usage(one: UsageSum, columns: tuple[Column, ...]) -> UsageOut:
    usage = one.usage
    return UsageOut(
        day=usage.day,
        tenant=usage.tenant,
        user=usage.user,
        model=usage.model,
        requests=usage.requests,
        hits=usage.hits,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        refused=usage.refused,
        cost=None if one.cost is None else f"{one.cost:f}",
        currency=one.currency,
    )
