"""Alerts: what is wrong now, the worst first, whom it was sent to, and who is on it."""

from __future__ import annotations

from typing import Any

from ashore.control.console.kit import Act, Row, Table, state, text, when
from ashore.control.console.listing import list_page
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page


async def alerts_page(reader: Reader) -> Answer:
    """Return the open alerts."""
    found = await reader.ask("alert list")
    if found is None:
        return await tab_page(reader, BY_NAME["alerts"])
    count = sum(one.severity != "advice" for one in found.items)
    return await list_page(
        reader, "alerts", "alerts", lambda: _table(reader, found.items), lambda one: _acts(reader, one), icon="bell",
        lead=reader.words("alerts.lead", count=count, advice=len(found.items) - count),
        acts=reader.may("alert channels") + reader.may("alert silences") + reader.may("alert silence"),
        command="ashore alert list", nouns=("alert",), hint=reader.words("alerts.none"),
    )  # fmt: skip


def _acts(reader: Reader, one: Any) -> tuple[Act, ...]:
    acks = reader.may("alert ack", alert=one.alert) if not one.acked_by else ()
    return acks + reader.may("alert silence", matches=one.rule)


def _table(reader: Reader, items: Any) -> Table:
    rows = tuple(
        Row(
            cells=(
                text((what := reader.words.value(one.what))[:1].upper() + what[1:], note=one.rule),
                state(one.severity),
                state(one.state),
                when(one.since_at),
                text(one.channels),
                text(one.acked_by),
            ),
            values={"item": one, "since_at": one.since_at},
        )
        for one in items
    )
    return Table(columns=("what", "severity", "state", "since_at", "channels", "acked_by"), rows=rows, total=len(rows))
