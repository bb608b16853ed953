"""Administrative calls for budgets and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.names import Names
from ashore.core.timespan import written_moment
from ashore.data.authority.budgets.model import NOW_KINDS, BudgetRule, Count, Kind, WindowName, check_names, check_rule
from ashore.data.authority.budgets.sql import SqlAuthority
from ashore.data.authority.budgets.usage import COLUMNS, Price, UsageSum, as_csv, columns_of, sum_by
from ashore.data.authority.keys import key_id_in
from ashore.data.authority.ports import Authority
from ashore.kit.call import Actor, Call, Download
from ashore.kit.recorder import Recorder
from ashore.kit.rights import SERVER, check_on, check_tenant, may_on, sees_tenant

if TYPE_CHECKING:
    from sqlalchemy import Connection


READ: Final = "budget:read"
WRITE: Final = "budget:write"
USAGE: Final = "usage:read"
LONGEST_REPORT_DAYS: Final = 366
MOST_COUNTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOffice:
    """Budgets and usage, who may touch them, and the audit log of who did."""

    authority: SqlAuthority
    rights: Authority
    recorder: Recorder
    clock: Clock
    prices: Mapping[str, Price]
    names: Names


def minutes_of(offset: str) -> int:
    """Return an offset from UTC, `+08:00`, in minutes.

    Raises:
        InvalidRequest: it is not an offset.
    """
    sign, hours, colon, minutes = offset[:1], offset[1:3], offset[3:4], offset[4:]
    if sign not in ("+", "-") or colon != ":" or not (hours + minutes).isdecimal() or len(minutes) != 2:
        raise InvalidRequest(f"{offset!r} is not an offset from UTC", hint="write it as +08:00")
    return (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)


class BudgetIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget to set. An empty selector matches everything; `*` counts each value separately."""

    kind: Annotated[Kind, msgspec.Meta(extra={"positional": True})]
    """tokens (prompt and answer), requests, or concurrency (requests that run or wait at one time). For a tenant
    also queued_jobs (jobs that have not ended) and stored_bytes (of everything that it stores)."""
    cap: Annotated[int, msgspec.Meta(extra={"positional": True})]
    """The limit."""
    window: Annotated[WindowName | None, msgspec.Meta(extra={"flag": "per"})] = None
    """Window after which the count of tokens or requests resets. Default: total, which never resets; now for
    the other kinds."""
    key: Annotated[str, msgspec.Meta(extra={"flag": "of-key"})] = ""
    """Name of an API key, ash_0a1b2c3d."""
    user: str = ""
    """Name of a user or service account."""
    tenant: str = ""
    """Name of a tenant."""
    model: str = ""
    """Alias of a model."""
    offset_min: Annotated[int, msgspec.Meta(extra={"flag": "utc-offset", "reads": minutes_of})] = 0
    """UTC offset at which hours, days and months begin: +08:00 for China. In JSON, minutes ahead of UTC."""

    def __post_init__(self) -> None:
        """Keep the id alone of a whole key, so that no answer and no record repeats a secret."""
        msgspec.structs.force_setattr(self, "key", key_id_in(self.key))

    def rule(self) -> BudgetRule:
        """Return the rule that is asked for.

        Raises:
            InvalidRequest: it is inconsistent.
        """
        window = self.window or ("now" if self.kind in NOW_KINDS else "total")
        return check_rule(BudgetRule(**{**msgspec.structs.asdict(self), "window": window}))


BudgetNamed = Annotated[str, msgspec.Meta(description="Name of the budget, as `ashore access budget list` prints it.")]


class UsageIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which usage to report."""

    by: str = ",".join(COLUMNS)
    """Columns to group by."""
    first_day: Annotated[str, msgspec.Meta(extra={"flag": "since"})] = ""
    """First day, 2026-11-01. Default: the first of this month."""
    last_day: Annotated[str, msgspec.Meta(extra={"flag": "until"})] = ""
    """Last day. Default: today (UTC)."""
    tenant: str = ""
    """Only usage of this tenant."""
    user: str = ""
    """Only usage of this user or service account."""
    format: Annotated[Literal["json", "csv"], msgspec.Meta(extra={"switch": "csv"})] = "json"
    """Print CSV that is safe to open in a spreadsheet."""


class BudgetsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which budgets to list."""

    counts: bool = False
    """Return what is used and left of each, too."""


class CountOut(msgspec.Struct, frozen=True, kw_only=True):
    """One running count of a budget, at most a quarter of a second old."""

    key: str
    user: str
    tenant: str
    model: str
    settled: int
    open: int
    left: int
    starts_at: str | None
    resets_at: str | None


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
    counts: list[CountOut] = []
    """What is used and left, if it was asked for, at most 1,000 of each budget."""


class BudgetShow(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and its running counts."""

    budget: BudgetOut
    items: list[CountOut]


class BudgetRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that was removed."""

    id: str
    removed: bool = True


class UsageOut(msgspec.Struct, frozen=True, kw_only=True):
    """Usage totals. Columns that were not requested are empty."""

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
    cost: Annotated[str | None, msgspec.Meta(extra={"absent": "no price"})]
    """Exact decimal; null if a model has no price."""
    currency: str


def list_budgets(office: BudgetOffice, actor: Actor, asked: BudgetsIn) -> list[BudgetOut]:
    """List budgets."""
    rules = office.authority.rules()
    seen = [rule for rule in rules if may_on(office.rights, actor.principal, READ, f"budget/{rule.rule_id}")]
    return [_out(rule, _counts(office, rule)[:MOST_COUNTS] if asked.counts else ()) for rule in seen]


def set_budget(office: BudgetOffice, actor: Actor, asked: BudgetIn) -> BudgetOut:
    """Set a budget, or change its cap. Takes effect on this machine at once, on others within 200 ms.

    With only a cap the budget applies to everyone together. A name limits that one; `*` limits each one separately:
    `--tenant acme --user '*'` gives every user of acme the same cap. A request must fit every budget that applies.
    """
    rule = asked.rule()
    check_on(office.rights, actor.principal, WRITE, f"budget/{rule.rule_id}")
    check_names(rule, office.names)

    def record(connection: Connection, new: bool) -> None:
        detail = {"kind": rule.kind, "window": rule.window, "limit": rule.cap, "about": rule.about()}
        reason = "set" if new else "changed"
        actor.record(office.recorder, WRITE, f"budget/{rule.rule_id}", reason=reason, detail=detail, on=connection)

    office.authority.put_rule(rule, record)
    return _out(rule)


def remove_budget(office: BudgetOffice, actor: Actor, budget: BudgetNamed) -> BudgetRemoved:
    """Remove a budget. Takes effect on this machine at once, on others within 200 ms."""
    check_on(office.rights, actor.principal, WRITE, f"budget/{budget}")
    record = partial(actor.record, office.recorder, WRITE, f"budget/{budget}", reason="removed")
    if not office.authority.remove_rule(budget, lambda connection: record(on=connection)):
        raise _no_rule(budget)
    return BudgetRemoved(id=budget)


def show_budget(office: BudgetOffice, actor: Actor, budget: BudgetNamed) -> BudgetShow:
    """Show a budget and what is left of each of its counts."""
    check_on(office.rights, actor.principal, READ, f"budget/{budget}")
    rule = next((rule for rule in office.authority.rules() if rule.rule_id == budget), None)
    if rule is None:
        raise _no_rule(budget)
    return BudgetShow(budget=_out(rule), items=_counts(office, rule))


def show_usage(office: BudgetOffice, actor: Actor, asked: UsageIn) -> list[UsageOut] | Download:
    """Show usage by tenant, user, model and day, with cost where prices are set. Everyone may see their own."""
    columns, me = columns_of(asked.by), actor.principal
    reads = office.rights.holds(me, USAGE) or office.rights.decide(me, USAGE, SERVER).allowed
    if not reads and asked.tenant not in ("", me.tenant):
        office.rights.require(me, USAGE, f"tenant/{asked.tenant}")
    if reads:
        check_tenant(office.rights, me, USAGE, asked.tenant)
    today = datetime.fromtimestamp(office.clock.now_s(), UTC).date()
    first = _day(asked.first_day, "first_day") if asked.first_day else today.replace(day=1)
    last = _day(asked.last_day, "last_day") if asked.last_day else today
    days = (last - first).days + 1
    if not 1 <= days <= LONGEST_REPORT_DAYS:
        raise InvalidRequest(
            f"the range {first} to {last} has {days} days; expected 1 to {LONGEST_REPORT_DAYS}",
            hint="request a shorter range",
            param="last_day",
        )
    by_user = "user" in columns or not (reads and sees_tenant(office.rights, me, USAGE, me.tenant))
    found = office.authority.usage(
        first_day=first.isoformat(),
        last_day=last.isoformat(),
        tenant=asked.tenant,
        user=asked.user,
        by=(*columns, "tenant", "model", *(("user",) if by_user else ())),  # each has its rights or its price
    )
    seen = [
        one
        for one in found
        if (one.tenant, one.user) == (me.tenant, me.id) or (reads and sees_tenant(office.rights, me, USAGE, one.tenant))
    ]
    sums = sum_by(seen, columns, office.prices)
    if asked.format == "csv":
        return Download(
            content=as_csv(sums, columns).encode(), content_type="text/csv; charset=utf-8", file_name="usage.csv"
        )
    return [_usage(one) for one in sums]


CALLS: Final = (
    Call("access budget", "list", "GET", "/budgets", READ, list_budgets),
    Call("access budget", "set", "PUT", "/budgets", WRITE, set_budget),
    Call("access budget", "show", "GET", "/budgets/{budget}", READ, show_budget),
    Call("access budget", "remove", "DELETE", "/budgets/{budget}", WRITE, remove_budget),
    Call("access", "usage", "GET", "/usage", "", show_usage),
)


def _out(rule: BudgetRule, counts: Sequence[CountOut] = ()) -> BudgetOut:
    return BudgetOut(id=rule.rule_id, about=rule.about(), counts=[*counts], **asdict(rule))


def _counts(office: BudgetOffice, rule: BudgetRule) -> list[CountOut]:
    now_ms = int(office.clock.now_s() * 1000)
    return [_count(rule, one) for one in office.authority.counts(rule.rule_id, now_ms)]


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


def _usage(one: UsageSum) -> UsageOut:
    cost = None if one.cost is None else f"{one.cost:f}"
    return UsageOut(cost=cost, currency=one.currency, **asdict(one.usage))


def _moment(ms: int) -> str | None:
    return written_moment(ms / 1000) if ms else None


def _day(text: str, param: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as fault:
        raise InvalidRequest(f"{text[:40]!r} is not a date", hint="write it as 2026-11-24", param=param) from fault


def _no_rule(rule_id: str) -> NotFound:
    return NotFound(f"there is no budget {rule_id[:64]!r}", hint="list the budgets with `ashore access budget list`")
