"""Server: its figures over time, and the logs of its processes as lines that one can read."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from ashore.control.console.home import CHARTS, RANGES, ChartOf, charts_of
from ashore.control.console.kit import Row, Table, number, text, when
from ashore.control.console.listing import Choice, narrowed
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page
from ashore.core.errors import NotFound
from ashore.kit.processes.loglines import LEVELS, Entry, Level, entries_of, is_at_least

EVERY: Final[tuple[ChartOf, ...]] = (
    *CHARTS,
    ("sequences", "n", {"running": "running", "waiting": "waiting"}),
    ("turned-away", "/s", {"refused": "refused", "cancelled": "cancelled"}),
    ("queue", "s", {"p50": "queue_p50", "p95": "queue_p95"}),
    ("per-token", "s", {"p50": "per_token_p50", "p95": "per_token_p95"}),
    ("cache", "/s", {"lookups": "cache_lookups", "hits": "cache_hits"}),
    ("loop", "share", {"busy": "loop_busy"}),
)
LINES: Final = 1_000


async def server_page(reader: Reader) -> Answer:
    """Return the figures that the server keeps as charts, and its logs."""
    wanted = dict(reader.asked.query).get("_range", "")
    chosen = wanted if wanted in RANGES else "1h"
    charts = await charts_of(reader, RANGES[chosen], EVERY)
    if not charts:
        return await tab_page(reader, BY_NAME["server"])
    logs = await reader.ask("server logs")
    rows = tuple(
        Row(
            cells=(
                text(one.name, link=f"server/log?{urlencode({'log': one.name})}"),
                number(one.num_bytes, "B"), when(one.changed_at),
            ),
            values={"num_bytes": one.num_bytes, "changed_at": one.changed_at},
        )
        for one in getattr(logs, "items", ())
    )  # fmt: skip
    table = Table(name="logs", columns=("name", "num_bytes", "changed_at"), rows=rows, total=len(rows))
    return reader.page(
        "server.html", "server", tabs=reader.tabs("server"), charts=charts, ranges=tuple(RANGES), range=chosen,
        since=RANGES[chosen], logs=narrowed(table, {"_sort": "-changed_at", **dict(reader.asked.query)}),
        acts=reader.may("server config"),
        command=f"ashore server history --since {chosen}",
    )  # fmt: skip


async def log_page(reader: Reader) -> Answer:
    """Return the end of a log, the newest line last: lines of at least a level that contain a text.

    Raises:
        NotFound: there is no such log, or the reader may not read logs.
    """
    query = dict(reader.asked.query)
    name, match = query.get("log", "")[:200], query.get("_match", "")[:200]
    found = await reader.ask("server tail", log=name, lines=LINES)
    if found is None:
        raise NotFound(f"you may read no log {name!r}", hint="ask a system administrator")
    entries = list(entries_of(found.lines))
    level: Level = next((one for one in LEVELS if one == query.get("_show")), "info")
    shown = [one for one in entries if is_at_least(one, level) and match.casefold() in one.message.casefold()]
    parts = {one: sum(is_at_least(entry, one) for entry in entries) for one in LEVELS[1:]}
    return reader.page(
        "log.html", "server", name=name, entries=[(one, _tone(one)) for one in shown], match=match, level=level,
        choices=[Choice(name=one, count=count, on=one == level) for one, count in parts.items()],
        command=f"ashore server tail {name}",
    )  # fmt: skip


def _tone(entry: Entry) -> str:
    return {"error": "bad", "warning": "warn"}.get(entry.level, "")
