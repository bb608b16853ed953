"""`ashore logs`: logs of this home's processes."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Final

from cyclopts import App, Parameter

from ashore.cli.sure import OwnJson
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.core.visible import on_a_screen
from ashore.kit.processes.loglines import Entry, Level, entries_of, is_at_least, shown_time
from ashore.kit.settings import read_settings

app = App(name="logs", help="Show what the processes of this home log.")

LOOK_S: Final = 0.25
_COLOURS: Final = {"error": "\033[31m", "warning": "\033[33m", "info": "", "debug": "\033[2m"}


@dataclass(slots=True)
class Source:
    """One log that is read on."""

    file: Path
    text: IO[str]
    level: Level
    last: Entry | None = None

    @property
    def process(self) -> str:
        return self.file.stem

    def new(self) -> list[tuple[str, Entry]]:
        """Return the entries that came since the last look; a log that was emptied is read from its beginning."""
        if self.file.stat().st_size < self.text.tell():
            self.text.seek(0)
        return self._those_of(self.text)

    def newest(self, most: int) -> list[tuple[str, Entry]]:
        """Return the last entries."""
        return list(deque(self._those_of(self.text), maxlen=most))

    def _those_of(self, lines: Iterable[str]) -> list[tuple[str, Entry]]:
        found = []
        for entry in entries_of(lines, self.last):
            self.last = entry
            if is_at_least(entry, self.level):
                found.append((self.process, entry))
        return found


@app.default
def logs(
    *names: str,
    lines: Annotated[int, Parameter(name=("--lines", "-n"))] = 20,
    level: Level = "debug",
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
    as_json: OwnJson = False,
) -> None:
    """Print the last lines of the logs in the order of time: time, process, level, message. Needs no running server.

    Args:
        names: Which logs, by the names of their files without .log: api, jobs, edge. Default: all.
        lines: Most lines of each log.
        level: Print lines of this level and above. A request that the server refused is a warning, one that failed an
            error.
        follow: Go on with what is written from now on, until Ctrl-C.
        as_json: Print one JSON object a line, with every field that is logged of a request.
    """
    if lines < 0:
        raise InvalidRequest(f"--lines is {lines}", hint="give 0 or more")
    with ExitStack() as stack:
        opened = [
            Source(file, stack.enter_context(open(file, encoding="utf-8", errors="replace")), level)
            for file in _files(read_settings().home.logs, names)
        ]
        width = max(len(one.process) for one in opened)
        found = [each for one in opened for each in one.newest(lines)]
        while True:
            for process, entry in sorted(found, key=lambda each: each[1].at_s):
                print(_as_json(process, entry) if as_json else _as_line(process.ljust(width), entry))
            if not follow:
                return
            sys.stdout.flush()
            time.sleep(LOOK_S)
            found = [each for one in opened for each in one.new()]


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    found = {file.stem: file for file in sorted(folder.glob("*.log"))}
    for name in names:
        if name not in found:
            raise NotFound(f"there is no log {name[:100]!r} in {folder}", hint=did_you_mean(name[:100], found))
    if not found:
        raise NotFound(f"there are no logs in {folder}", hint="`ashore up` writes them")
    return [found[name] for name in names] if names else list(found.values())


def _as_line(process: str, entry: Entry) -> str:
    colour, plain = (_COLOURS[entry.level], "\033[0m") if sys.stdout.isatty() else ("", "")
    return f"{shown_time(entry.at_s)}  {process}  {colour}{entry.level:<7}{plain}  {on_a_screen(entry.message)}"


def _as_json(process: str, entry: Entry) -> str:
    told: dict[str, object] = {"at_s": entry.at_s, "process": process, "level": entry.level, "message": entry.message}
    return json.dumps({**told, "request": dict(entry.request)} if entry.request else told, ensure_ascii=False)
