"""Logs, configuration and backups of the server of a home, for whoever runs it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.backup.home import BackupHome
from ashore.backup.timetable import Turn
from ashore.core import Actor, Call, Nothing, did_you_mean
from ashore.errors import NotFound, NotReady
from ashore.settings import Home

READ: Final = "server:read"
MOST_LINES: Final = 1_000
TAIL_BYTES: Final = 1 << 20
"""How far back from the end of a log its last lines are looked for."""

AsksSupervisor = Callable[[Mapping[str, object]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDesk:
    """One home, and the supervisor that serves it."""

    home: Home
    ask: AsksSupervisor
    """Raises `NotReady` where no supervisor answers."""


class LogOut(msgspec.Struct, frozen=True, kw_only=True):
    """What one process has logged so far."""

    name: str
    """Name of the process and of its log."""
    restarts: int
    """How often it ended without being told to, in the last ten minutes."""
    num_bytes: int
    written_at: int


class LogList(msgspec.Struct, frozen=True, kw_only=True):
    """Processes and their logs."""

    items: list[LogOut]


class LogIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which log, and how much of it."""

    log: Annotated[str, msgspec.Meta(max_length=128)]
    """Name of the log, as `ashore server logs` prints it."""
    lines: Annotated[int, msgspec.Meta(ge=1, le=MOST_LINES)] = 100
    """Maximum number of lines, from the end."""


class LogTail(msgspec.Struct, frozen=True, kw_only=True):
    """The last lines of a log."""

    name: str
    lines: list[str]


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """One key of ashore.toml."""

    table: str
    key: str
    value: str
    """Secrets are not shown."""
    source: Literal["default", "file", "environment"]


class ConfigIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys."""

    changed: bool = False
    """Leave out keys that have their default."""


class ConfigList(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that the server was started with."""

    items: list[KeyOut]


class TurnOut(msgspec.Struct, frozen=True, kw_only=True):
    """How one thing stands that the server does by itself."""

    name: Literal["backup", "scrub"]
    state: str
    every_s: float
    began_at: int
    good_at: int
    """When the last one that did what it should ended."""
    failures: int
    """In a row."""
    says: str


class TurnList(msgspec.Struct, frozen=True, kw_only=True):
    """Backups and scrubs that the server makes by itself."""

    items: list[TurnOut]


def list_logs(desk: ServerDesk, actor: Actor, asked: Nothing) -> LogList:
    """List the processes of the server, their logs, and how often each had to be started again."""
    try:
        restarts: Mapping[str, int] = desk.ask({"op": "status"})["restarts"]
    except NotReady:
        restarts = {}
    found = []
    for file in sorted(desk.home.logs.glob("*.log")):
        told = file.stat()
        found.append(
            LogOut(
                name=file.stem, restarts=restarts.get(file.stem, 0), num_bytes=told.st_size,
                written_at=int(told.st_mtime),
            )
        )  # fmt: skip
    return LogList(items=found)


def show_log(desk: ServerDesk, actor: Actor, asked: LogIn) -> LogTail:
    """Show the last lines of the log of one process. Logs hold no prompts and no answers."""
    files = {file.stem: file for file in desk.home.logs.glob("*.log")}
    if asked.log not in files:  # a name, and never a path
        raise NotFound(f"there is no log {asked.log!r}", hint=did_you_mean(asked.log, sorted(files)))
    with open(files[asked.log], "rb") as text:
        size = text.seek(0, os.SEEK_END)
        text.seek(max(0, size - TAIL_BYTES))
        last = deque(text.read().decode("utf-8", "replace").splitlines(), maxlen=asked.lines)
    return LogTail(name=asked.log, lines=list(last))


def show_config(desk: ServerDesk, actor: Actor, asked: ConfigIn) -> ConfigList:
    """Show every key that the server goes by, and whether it is the default, from ashore.toml or from the environment.

    Options of `ashore up` override all of these.
    """
    items = msgspec.convert(desk.ask({"op": "config"})["items"], list[KeyOut])
    return ConfigList(items=[one for one in items if not asked.changed or one.source != "default"])


def show_backups(desk: ServerDesk, actor: Actor, asked: Nothing) -> TurnList:
    """Show how the backups and scrubs stand that the server makes by itself. Restore with `ashore backup restore`."""
    table = BackupHome(desk.home.root).read_timetable()
    if table is None:
        return TurnList(items=[])
    return TurnList(items=[_turn("backup", table.run, table.every_s), _turn("scrub", table.scrub, table.scrub_every_s)])


def _turn(name: Literal["backup", "scrub"], turn: Turn, every_s: float) -> TurnOut:
    return TurnOut(
        name=name, state=turn.end, every_s=every_s, began_at=int(turn.began_s), good_at=int(turn.good_s),
        failures=turn.failures, says=turn.says,
    )  # fmt: skip


CALLS: Final = (
    Call("server", "logs", "GET", "/server/logs", READ, list_logs, on_server=True),
    Call("server", "log", "GET", "/server/logs/{log}", READ, show_log, on_server=True),
    Call("server", "config", "GET", "/server/config", READ, show_config, on_server=True),
    Call("server", "backups", "GET", "/server/backups", READ, show_backups, on_server=True),
)
