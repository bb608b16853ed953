"""Alerts: what is wrong now, the worst first, and who is on it; who hears of it, and what is silenced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ashore.control.console.kit import NONE, Act, Cell, Row, Table, code, state, text, when
from ashore.control.console.listing import Part, list_page, several
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page


async def alerts_page(reader: Reader) -> Answer:
    """Return the open alerts, and below them routes, channels and silences."""
    found = await reader.ask("alert list")
    if found is None:
        return await tab_page(reader, BY_NAME["alerts"])
    routes, channels, silences = [
        getattr(await reader.ask(f"alert {name}"), "items", ()) for name in ("routes", "channels", "silences")
    ]
    count = sum(one.severity != "advice" and one.state != "over" for one in found.items)
    advice = sum(one.severity == "advice" for one in found.items)
    return await list_page(
        reader, "alerts", "alerts", lambda: _table(reader, found.items, routes), lambda one: _acts(reader, one),
        icon="bell", lead=reader.words("alerts.lead", count=count, advice=advice),
        command="ashore alert list", nouns=("alert",),
        hint=reader.words("alerts.none" if channels else "alerts.unwatched"),
        below=(
            *(Part(name=name, table=table) for name, table in (
                ("routes", _routes(routes)), ("channels", _channels(reader, channels))) if table.rows),
            Part(name="silences", table=_silences(reader, silences), acts=reader.may("alert silence", "alerts.new")),
        ),
    )  # fmt: skip


def _acts(reader: Reader, one: Any) -> tuple[Act, ...]:
    acks = reader.may("alert ack", alert=one.alert) if not one.acked_by else ()
    return acks + reader.may("alert silence", "alerts.silence", matches=one.rule)


def _table(reader: Reader, items: Iterable[Any], routes: Iterable[Any]) -> Table:
    heard = {severity for one in routes for severity in one.severity}
    rows = tuple(
        Row(
            cells=(
                text(reader.words.sentence(one.what), note=reader.words.sentence(one.remedy)),
                state(one.severity),
                state(one.state) if one.channels or one.severity in heard else NONE,
                when(one.since_at),
                text(one.channels) if one.severity in heard else Cell(kind="absent", text="no route"),
                text(one.acked_by),
                code(one.rule),
            ),
            values={"item": one, "since_at": one.since_at},
        )
        for one in items
    )
    columns = ("what", "severity", "state", "since_at", "sent_to", "acked_by", "rule")
    return Table(columns=columns, rows=rows, total=len(rows), minor=frozenset(("rule",)))


def _routes(items: Iterable[Any]) -> Table:
    rows = tuple(
        Row(cells=(
            several(one.severity), several(one.rules, "all"), several(one.to), several(one.then),
            text(one.quiet),
        ))
        for one in items
    )  # fmt: skip
    return Table(name="routes", columns=("severity", "rules", "sent_to", "then", "quiet"), rows=rows).trimmed()


def _channels(reader: Reader, items: Iterable[Any]) -> Table:
    rows = tuple(
        Row(
            cells=(text(one.channel, note=one.error), state(one.state), text(one.kind), when(one.good_at)),
            acts=reader.may("alert test", channel=one.channel),
        )
        for one in items
    )
    return Table(name="channels", columns=("channel", "state", "kind", "good_at"), rows=rows)


def _silences(reader: Reader, items: Iterable[Any]) -> Table:
    rows = tuple(
        Row(
            cells=(text(one.matches, note=one.why), when(one.until_at), text(one.by)),
            acts=reader.may("alert unsilence", silence=one.silence),
        )
        for one in items
    )
    return Table(name="silences", columns=("matches", "until_at", "set_by"), rows=rows)
