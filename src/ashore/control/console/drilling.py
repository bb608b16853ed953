"""Drills: what can be rehearsed, how it went last, and when it is due; below, the last reports."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ashore.control.console.kit import Act, Cell, Row, Table, state, text, when
from ashore.control.console.listing import chosen, list_page
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page
from ashore.core.clock import SystemClock


async def drills_page(reader: Reader) -> Answer:
    """Return the drills, those that failed or are late first."""
    found = await reader.ask("drill list")
    if found is None:
        return await tab_page(reader, BY_NAME["drills"])
    now_s = SystemClock().now_s()
    tests = {
        "all": lambda one: True,
        "wrong": lambda one: one.last not in (None, "pass"),
        "late": lambda one: one.due_in_s is not None and one.due_in_s < 0,
    }
    shown, choices = chosen(found.items, tests, dict(reader.asked.query).get("_show", ""))
    late = sum(map(tests["late"], found.items))
    return await list_page(
        reader, "drills", "drills", lambda: _table(shown, now_s),
        lambda one: _acts(reader, one), choices=choices, icon="drill",
        lead=reader.words("drills.lead", count=len(found.items), late=late),
        acts=reader.may("drill reports"), command="ashore drill list", nouns=("drill",),
    )  # fmt: skip


def _acts(reader: Reader, one: Any) -> tuple[Act, ...]:
    report = reader.may("drill report", "drills.report", report=one.drill) if one.last else ()
    return report + (reader.may("drill consent", drill=one.drill) if one.runs_on != "twin" else ())


def _table(items: Any, now_s: float) -> Table:
    rows = tuple(
        Row(
            cells=(
                text(one.title, link=f"call/drill/show?{urlencode({'drill': one.drill})}", note=one.drill),
                state(one.last) if one.last else Cell(kind="absent", text="never"),
                when(one.last_at_s),
                when(now_s + one.due_in_s) if one.due_in_s is not None else Cell(kind="absent", text="no schedule"),
                text(one.runs_on),
            ),
            values={"item": one, "last_at_s": one.last_at_s, "due": one.due_in_s},
        )
        for one in items
    )
    return Table(columns=("name", "last", "last_at_s", "due", "runs_on"), rows=rows, total=len(rows))
