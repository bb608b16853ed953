"""The kit: every part of a page once, for those who write views."""

from __future__ import annotations

from ashore.control.console.kit import Act, Cell, Row, Table, bar, chart, code, number, state, text, when
from ashore.control.console.model import Answer
from ashore.control.console.reader import Reader
from ashore.core.clock import SystemClock

WAVE = tuple(41.8 + (at * 7919 % 23) - at % 9 for at in range(60))


async def kit_page(reader: Reader) -> Answer:
    """Return every part once, with made-up values."""
    now_s = SystemClock().now_s()
    acts = (*reader.may("access key create"), *reader.may("access key list"), *reader.may("access key revoke", key="x"))
    names = ("claims-bot", "mes-line-4", "li.wei")
    states = ("ready", "behind", "failed", "loading", "asleep")
    rows = tuple(
        Row(
            cells=(
                text(name, link="kit", note="claims department"),
                state(states[at]),
                bar((92, 7, 0)[at], 100, "share"),
                number((36_800_000, 700_000, None)[at]),
                when(now_s - (240, 90_000, 0)[at]) if at < 2 else Cell(kind="none"),
                code("sha256:c41d9e02a7c41d9e02a7"),
            ),
            acts=(Act(address="kit", word="page.connect"), *acts),
        )
        for at, name in enumerate(names)
    )
    columns = ("name", "state", "budget", "tokens", "last_used_at", "digest")
    table = Table(columns=columns, rows=rows, total=48, minor=frozenset({"digest"}))
    slow = tuple(one / 100 for one in WAVE)
    charts = (
        chart("requests", {"answered": WAVE, "errors": tuple(float(at == 30) * 9 for at in range(60))}, "/s"),
        chart("first-token", {"p50": slow, "p95": tuple(one * 1.8 for one in slow)}, "s"),
    )
    return reader.page("kit.html", "", table=table, charts=charts, states=[state(one) for one in states], acts=acts)
