"""Calls about the server as a whole: figures over time, logs, configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

import msgspec

from ashore.control.server.events import EventOut, Feed
from ashore.control.server.stored import CALLS as STORED
from ashore.control.server.stored import StoreDesk
from ashore.core.errors import NotFound, NotReady
from ashore.core.nearest import did_you_mean
from ashore.data.server.history import rows_of
from ashore.data.server.series import KEPT_S, LONG_S, READINGS, TICK_S, gathered, read
from ashore.kit.call import EVENT_STREAM, Actor, Call, Download, Nothing
from ashore.kit.recorder import Recorder
from ashore.kit.rights import METRICS_READ

if TYPE_CHECKING:
    from ashore.kit.state import Database

MOST_BYTES: Final = 1 << 20
"""Read of one log at once."""
READ: Final = "server:read"
MOST_POINTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log."""

    name: str
    num_bytes: int
    changed_s: int


def list_logs(folder: Path) -> tuple[Log, ...]:
    """Return the logs of a home by name."""
    found = []
    for file in sorted(folder.glob("*.log")):
        facts = file.stat()
        found.append(Log(name=file.stem, num_bytes=facts.st_size, changed_s=int(facts.st_mtime)))
    return tuple(found)


def tail_of(folder: Path, name: str, lines: int) -> list[str]:
    """Return the last lines of a log.

    Raises:
        NotFound: there is no such log. Names are looked up in the list and never joined to a path.
    """
    names = [one.name for one in list_logs(folder)]
    if name not in names:
        raise NotFound(f"there is no log {name[:100]!r}", hint=did_you_mean(name[:100], names) or "list them first")
    with open(folder / f"{name}.log", "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - MOST_BYTES))
        found = file.read(MOST_BYTES).decode(errors="replace").splitlines()
    if size > MOST_BYTES:
        found = found[1:]  # its beginning may be missing
    return found[-lines:]


class AsksConfig(Protocol):
    """Reaches the supervisor, which knows what is in force and why."""

    def __call__(self) -> Sequence[Mapping[str, Any]]:
        """Return every key with table, value and source. May block for a moment; not for an event loop.

        Raises:
            NotReady: it is not there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDesk(StoreDesk):
    """What a look at the server needs."""

    database: Database | None
    recorder: Recorder
    now_s: Any
    logs: Path | None = None
    config: AsksConfig | None = None
    feed: Feed | None = None


class HistoryIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which figures, and of which time."""

    series: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """Names of the series, separated by commas: requests,ttft_p95. Default: all."""
    since_s: Annotated[int, msgspec.Meta(ge=10, le=30 * 86_400, extra={"flag": "since", "span": True})] = 3_600
    """How far back: 15m, 8h, 30d. Up to 8 hours in steps of 10 s, beyond in steps of 5 minutes."""
    points: Annotated[int, msgspec.Meta(ge=1, le=MOST_POINTS)] = 360
    """Most points of a series; more are merged."""


class SeriesOut(msgspec.Struct, frozen=True, kw_only=True):
    """One series."""

    name: str
    unit: str
    help: str
    values: list[float | None]
    """Null: the server did not run then, or nothing was measured."""


class HistoryOut(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over time, of all workers and machines of this state together."""

    start_at: int
    """Time of the first point, in Unix seconds."""
    step_s: int
    """Length of a point."""
    series: list[SeriesOut]


class LogOut(msgspec.Struct, frozen=True, kw_only=True):
    """One log of a process."""

    name: str
    num_bytes: int
    changed_at: int


class TailIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which log, and how much of it."""

    log: Annotated[str, msgspec.Meta(max_length=200)]
    """Name of the log: api-0, jobs, host-chat-1."""
    lines: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    """Most lines, from its end."""


class TailOut(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a log."""

    log: str
    lines: list[str]


Changed = Annotated[bool, msgspec.Meta(description="Leave out keys that have their default.")]


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """One key of ashore.toml, as it is in force."""

    table: str
    key: str
    value: str
    """In words. Passwords and keys are not shown."""
    source: Literal["default", "file", "environment", "option", "earlier file"]
    """Where the value comes from. option: of `ashore up`; earlier file: the file says something else now, and was not
    reloaded, or the key is one that a running server keeps."""


class FollowIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    """Number of the last event that was read; default: only new ones."""


class EventsIn(FollowIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    """Only events behind this number; default: the newest."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    """Maximum number of events."""


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """Events, the oldest first."""

    items: list[EventOut]
    reached: int
    """Number to go on behind."""


def show_history(desk: ServerDesk, actor: Actor, asked: HistoryIn) -> HistoryOut:
    """Show requests, tokens, waits and load of the last hours or days, from the ring that the state keeps.

    No monitoring system is needed: 8 hours in steps of 10 s, and 30 days in steps of 5 minutes.
    """
    names = [one.name for one in READINGS]
    wanted = [name.strip() for name in asked.series.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            raise NotFound(f"there is no series {name!r}", hint=did_you_mean(name, names), param="series")
    if desk.database is None:
        raise NotReady("this server has no state to keep figures in", hint="start the server with `ashore up`")
    step_s = TICK_S if asked.since_s <= KEPT_S[TICK_S] else LONG_S
    now_s = int(desk.now_s())
    ticks = max(1, asked.since_s // step_s)
    span = -(-ticks // min(asked.points, ticks))
    points = -(-ticks // span)
    end_s = now_s - now_s % step_s
    start_s = end_s - points * span * step_s
    with desk.database.read() as connection:
        rows = rows_of(connection, step_s, start_s, end_s - step_s)
    found = gathered(rows, start_s=start_s, step_s=step_s, num_points=points, ticks_a_point=span)
    shown = [one for one in READINGS if not wanted or one.name in wanted]
    return HistoryOut(
        start_at=start_s,
        step_s=step_s * span,
        series=[
            SeriesOut(
                name=one.name,
                unit=one.series.unit,
                help=one.help,
                values=[read(one, tick, length_s=step_s * span) for tick in found],
            )
            for one in shown
        ],
    )


def show_logs(desk: ServerDesk, actor: Actor, asked: Nothing) -> list[LogOut]:
    """List the logs of the server's processes."""
    found = list_logs(_logs(desk))
    return [LogOut(name=one.name, num_bytes=one.num_bytes, changed_at=one.changed_s) for one in found]


def show_tail(desk: ServerDesk, actor: Actor, asked: TailIn) -> TailOut:
    """Show the last lines of the log of one process. The look is recorded."""
    lines = tail_of(_logs(desk), asked.log, asked.lines)
    actor.record(desk.recorder, READ, f"log/{asked.log}", detail={"lines": len(lines)})
    return TailOut(log=asked.log, lines=lines)


def show_config(desk: ServerDesk, actor: Actor, changed: Changed = False) -> list[KeyOut]:
    """Show every key of ashore.toml as it is in force, and where its value comes from. Secrets are not shown."""
    if desk.config is None:
        raise NotReady("this server has no supervisor to ask", hint="start the server with `ashore up`")
    items = msgspec.convert(desk.config(), list[KeyOut])
    return [one for one in items if not changed or one.source != "default"]


async def list_events(desk: ServerDesk, actor: Actor, asked: EventsIn) -> EventList:
    """List what happened to jobs and releases, the oldest first, as far as the caller may read of it."""
    feed = _feed(desk)
    begins = asked.after if asked.after is not None else await feed.last(before=asked.limit)
    found, reached = await feed.after(actor.principal, begins, limit=asked.limit)
    return EventList(items=found, reached=reached)


async def follow_events(desk: ServerDesk, actor: Actor, asked: FollowIn) -> Download:
    """Follow what happens to jobs and releases, as server-sent events, as far as the caller may read of it.

    It goes on behind `after` or `Last-Event-ID`. Whoever was away for longer than 10,000 events gets one of the kind
    `missed` first.
    """
    content = await _feed(desk).follow(actor.principal, asked.after)
    return Download(content=content, content_type=EVENT_STREAM, file_name="events")


CALLS: Final[tuple[Call, ...]] = (
    Call("server", "history", "GET", "/server/history", METRICS_READ, show_history, on_server=True),
    Call("server", "logs", "GET", "/server/logs", READ, show_logs, on_server=True),
    Call("server", "tail", "GET", "/server/logs/{log}", READ, show_tail, on_server=True),
    Call("server", "config", "GET", "/server/config", READ, show_config, on_server=True),
    Call("events", "list", "GET", "/events/kept", "", list_events),
    Call("events", "follow", "GET", "/events", "", follow_events, content_type=EVENT_STREAM),
    *STORED,
)


def _feed(desk: ServerDesk) -> Feed:
    if desk.feed is None:
        raise NotReady("this server has no state to keep events in", hint="start the server with `ashore up`")
    return desk.feed


def _logs(desk: ServerDesk) -> Path:
    if desk.logs is None:
        raise NotReady("this server has no home with logs", hint="start the server with `ashore up`")
    return desk.logs
