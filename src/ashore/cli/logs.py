"""`ashore logs`: what the processes of this home have written to their logs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Final

from cyclopts import App, Parameter

from ashore.core import did_you_mean
from ashore.errors import InvalidRequest, NotFound
from ashore.settings import read_settings

app = App(name="logs", help="Show what the processes of this home log.")

LOOK_S: Final = 0.25


@app.default
def logs(
    *names: str,
    lines: Annotated[int, Parameter(name=("--lines", "-n"))] = 20,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
) -> None:
    """Print the last lines of the logs. Works without a server too: they stay when it ends.

    Args:
        names: Which logs, by the names of their files without .log: api, jobs, edge. Default: all.
        lines: Most lines of each log.
        follow: Go on with what is written from now on, until Ctrl-C.
    """
    if lines < 0:
        raise InvalidRequest(f"--lines is {lines}", hint="give 0 or more")
    files = _files(read_settings().home.logs, names)
    last, several = "", len(files) > 1
    with ExitStack() as stack:
        opened = [(file, stack.enter_context(open(file, encoding="utf-8", errors="replace"))) for file in files]
        for file, text in opened:
            last = _tell(file, deque(text, maxlen=lines), last, several=several)
        while follow:
            time.sleep(LOOK_S)
            for file, text in opened:
                last = _tell(file, _new(file, text), last, several=several)
            sys.stdout.flush()


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    found = {file.stem: file for file in sorted(folder.glob("*.log"))}
    for name in names:
        if name not in found:
            raise NotFound(f"there is no log {name[:100]!r} in {folder}", hint=did_you_mean(name[:100], found))
    if not found:
        raise NotFound(f"there are no logs in {folder}", hint="`ashore up` writes them")
    return [found[name] for name in names] if names else list(found.values())


def _new(file: Path, text: IO[str]) -> list[str]:
    """Return the lines that came since the last look; a log that was emptied since is read from its beginning."""
    if file.stat().st_size < text.tell():
        text.seek(0)
    return text.readlines()


def _tell(file: Path, found: Iterable[str], last: str, *, several: bool) -> str:
    """Print lines under the name of their log, where there are several; return whose came last."""
    for line in found:
        if several and file.stem != last:
            print(f"==> {file.stem}")
        last = file.stem
        print(line.rstrip("\n"))
    return last
