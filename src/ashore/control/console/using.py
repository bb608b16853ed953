"""Usage and budgets: who used what, over time, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import command_of
from ashore.control.console.kit import NONE, Cell, Row, Table, bar, chart, figure, number, text, when
from ashore.control.console.listing import narrowed
from ashore.control.console.model import Answer
from ashore.control.console.reader import Reader
from ashore.core.clock import SystemClock

RANGES: Final[Mapping[str, int]] = {"month": 0, "7d": 7, "30d": 30, "90d": 90, "1y": 365}
"""Days back; 0: from the first of the month."""
GROUPS: Final = ("user", "model", "tenant", "day")
MOST_BUDGETS: Final = 50
LONG: Final = ("day", "month", "total")
"""Windows of budgets that people plan with; the others limit a rate."""


async def usage_page(reader: Reader) -> Answer:
    """Return what was used in a span of days: totals, by day as charts, by person, model or tenant, and the budgets."""
    query = dict(reader.asked.query)
    wanted = [one for one in query.get("by", "").split(",") if one in GROUPS] or ["user"]
    chosen = query.get("_range", "") if query.get("_range", "") in RANGES else "month"
    today = datetime.fromtimestamp(SystemClock().now_s(), UTC).date()
    first = today - timedelta(days=RANGES[chosen] - 1) if RANGES[chosen] else today.replace(day=1)
    asks = {"first_day": first.isoformat(), "last_day": today.isoformat()}
    by = ",".join(wanted)
    found = await reader.ask("access usage", by=by, **asks)
    items = getattr(found, "items", ())
    days = await reader.ask("access usage", by="day", **asks)
    limits = await budgets(reader)
    usage = reader.acts.atlas.by_key["access usage"]
    query_of = [("by", by), *asks.items()]
    return reader.page(
        "usage.html",
        "usage",
        lead=reader.words("usage.lead", first=first.isoformat(), last=today.isoformat()),
        acts=reader.may("access budget set"),
        ranges=tuple(RANGES),
        range=chosen,
        groups=GROUPS,
        by=by,
        facts=_facts(items),
        charts=_charts(getattr(days, "items", ()), first, today) if first < today else (),
        since=first.isoformat(),
        table=narrowed(_table(reader, items, wanted), {"_sort": "-tokens_month", **query}),
        limits=narrowed(_limits(reader, limits), {}) if limits else None,
        none_set=reader.may("access budget list") and not limits,
        nouns=reader.derived("usage", "access usage", "access budget"),
        command=command_of(usage.call, query_of),
        csv=f"{usage.address}?{urlencode([*query_of, ('format', 'csv'), ('_send', '1')])}",
    )


def _facts(items: Any) -> list[tuple[str, str]]:
    """Return the totals, those that are something."""
    costs: dict[str, Decimal] = {}
    for one in items:
        if one.cost is not None:
            costs[one.currency] = costs.get(one.currency, Decimal(0)) + Decimal(one.cost)
    sums = {name: sum(getattr(one, name) for one in items) for name in
            ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "refused")}  # fmt: skip
    facts = [(name, figure(value, "n")) for name, value in sums.items() if value or name == "requests"]
    return [*facts, *(("cost", f"{value:,.2f} {currency}".strip()) for currency, value in costs.items())]


def _charts(items: Any, first: date, last: date) -> list[Any]:
    by_day = {one.day: one for one in items}
    days = [(first + timedelta(days=at)).isoformat() for at in range((last - first).days + 1)]
    values = {name: [float(getattr(by_day.get(day), name, 0)) for day in days]
              for name in ("prompt_tokens", "completion_tokens", "requests", "refused")}  # fmt: skip
    return [
        chart("used-tokens", {"written": values["completion_tokens"], "read": values["prompt_tokens"]}, "n"),
        chart("used-requests", {"answered": values["requests"], "refused": values["refused"]}, "n"),
    ]


def _table(reader: Reader, items: Any, columns: list[str]) -> Table:
    """Return usage by what it is grouped by, with the share of all tokens. The largest come first."""
    totals = [one.prompt_tokens + one.completion_tokens for one in items]
    most = sum(totals) or 1
    knows = bool(reader.may("access user show"))
    rows = []
    for one, tokens in zip(items, totals, strict=True):
        names = [text(getattr(one, name) or "–") for name in columns]
        if knows and columns[0] == "user" and one.user:
            names[0] = text(one.user, link=f"people/person?{urlencode({'account': one.user})}")
        cost = NONE if one.cost is None else Cell(kind="number", text=f"{one.cost} {one.currency}".strip())
        cells = (
            *names, number(one.requests), number(tokens, "n"),
            replace(bar(tokens, most, "share"), tone=""),
            number(one.prompt_tokens, "n"), number(one.completion_tokens, "n"), number(one.refused or None), cost,
        )  # fmt: skip
        values = {name: getattr(one, name) for name in ("requests", "prompt_tokens", "completion_tokens", "refused")}
        paid = {"cost": float(one.cost or 0), "tokens_month": tokens, "share": tokens}
        rows.append(Row(cells=cells, values={**values, **paid}))
    shown = (*columns, "requests", "tokens_month", "share", "prompt_tokens", "completion_tokens", "refused", "cost")
    minor = frozenset(("prompt_tokens", "completion_tokens"))
    return Table(name="used", columns=shown, rows=tuple(rows), total=len(rows), minor=minor)


async def budgets(reader: Reader, field: str = "") -> list[tuple[Any, Any]]:
    """Return the budgets that the reader may see, each with its running counts. `field`: only those of this selector,
    `key` or `user`.
    """
    rules = await reader.ask("access budget list", counts=True)
    seen = [one for one in getattr(rules, "items", ()) if not field or getattr(one, field)]
    return [(one, one.counts) for one in seen[:MOST_BUDGETS]]


async def spent(reader: Reader, field: str) -> dict[str, Cell]:
    """Return by key or person how much of a token budget of its own it has used."""
    bars: dict[str, Cell] = {}
    for rule, counts in await budgets(reader, field):
        if rule.kind == "tokens" and rule.window in LONG:
            for one in counts:
                bars.setdefault(getattr(one, field), bar(one.settled + one.open, rule.cap, "n"))
    return bars


def _limits(reader: Reader, limits: list[tuple[Any, Any]]) -> Table:
    """Return what is counted by budgets; a budget that nothing has counted for yet as itself."""
    rows = []
    for rule, counts in limits:
        unit = "B" if rule.kind == "stored_bytes" else "n"
        acts = (
            *reader.may("access budget show", budget=rule.id),
            *reader.may("access budget set", "usage.change", **{
                name: str(value) for name in ("kind", "cap", "window", "key", "user", "tenant", "model", "offset_min")
                if (value := getattr(rule, name)) not in ("", 0)
            }),
            *reader.may("access budget remove", budget=rule.id),
        )  # fmt: skip
        for one in counts or (None,):
            who = [getattr(one or rule, name) for name in ("tenant", "user", "key", "model")]
            used = 0 if one is None else one.settled + one.open
            ends = getattr(one, "resets_at", None)
            rows.append(
                Row(
                    cells=(
                        text(" · ".join(name for name in who if name) or reader.words("usage.everyone")),
                        text(rule.kind), text(rule.window), bar(used, rule.cap, unit),
                        when(datetime.fromisoformat(ends).timestamp()) if ends else NONE,
                    ),
                    acts=acts,
                )
            )  # fmt: skip
    columns = ("who", "kind", "window", "budget", "resets_at")
    return Table(name="limits", columns=columns, rows=tuple(rows), total=len(rows))
