"""Progress of store work: a bar on a terminal, a line now and then where there is none, and a pipe for a job worker."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ashore.core.errors import AshoreError

QUIET_S = 5.0
"""Between two lines in a log."""
TOO_SMALL_BYTES = 1 << 20
"""Files that a log says nothing of: they are done before it is read."""

PIPE: Final = "ASHORE_CHILD_PROGRESS"
"""Variable with the descriptor of the pipe on which a job worker hears how far an operation is."""
TELL_EVERY_S = 0.2
"""Between two lines of one stage on the pipe."""


def tell(**said: str | int) -> None:
    """Write one line on the pipe of the job worker; nothing where there is none."""
    descriptor = os.environ.get(PIPE, "")
    if descriptor:
        with suppress(OSError, ValueError):  # it is gone, and so is soon this process
            os.write(int(descriptor), msgspec.json.encode(said) + b"\n")


def tell_error(fault: AshoreError) -> None:
    """Tell the job worker what an operation failed by."""
    tell(code=fault.code, message=fault.message, hint=fault.hint)


class TerminalProgress:
    """A `store.Progress` that draws on stderr. Use it in a `with` block."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create it; `clock` returns monotonic seconds."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._live = sys.stderr.isatty()
        self._piped = bool(os.environ.get(PIPE))
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._clock = clock
        self._told: dict[str, float] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        """By stage, when its steps were first heard of, and how many were done then."""
        self._ended: set[str] = set()

    @property
    def in_job(self) -> bool:
        """See `bootstrap.operations.Work`."""
        return self._piped

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if self._piped:
            return self._tell(stage, done_bytes, total_bytes, "bytes", "")
        if not self._live and 0 < total_bytes < TOO_SMALL_BYTES:
            return None
        of = f" of {human_bytes(total_bytes)}" if total_bytes else ""
        return self._show(stage, done_bytes, total_bytes, f"{human_bytes(done_bytes)}{of}" if done_bytes or of else "")

    def share(self, stage: str, done: float) -> None:
        """Say that `stage` of a work begins, of which the part `done` (0 to 1) is behind it."""
        if self._piped:
            return self._tell(stage, int(done * 100), 100, "", f"{done:.0%}")
        return self._show("prepare", int(done * 100), 100, stage)

    def steps(self, stage: str, done: int, total: int, amount: str = "") -> None:
        """Say that `done` of the `total` steps of a stage are behind it, and what else is to be said in `amount`."""
        amount = amount or f"{done:,} of {total:,}"
        if self._piped:
            return self._tell(stage, done, total, "steps", amount)
        left = "" if self._live else self._left(stage, done, total)
        return self._show(stage, done, total, amount + left)

    def say(self, line: str) -> None:
        """Print a note on stderr."""
        print(line, file=sys.stderr, flush=True)

    def _tell(self, stage: str, done: int, total: int, unit: str, says: str) -> None:
        now_s = self._clock()
        if 0 < total <= done or now_s - self._told.get(stage, -TELL_EVERY_S) >= TELL_EVERY_S:
            self._told[stage] = now_s
            tell(stage=stage, done=done, total=total, unit=unit, says=says)

    def _left(self, stage: str, done: int, total: int) -> str:
        """Return the time left at the current pace; empty before there is one, and for the last step."""
        began_s, first = self._begun.setdefault(stage, (self._clock(), done))
        if not first < done < total:
            return ""
        return f", about {human_seconds((self._clock() - began_s) / (done - first) * (total - done))} left"

    def _show(self, stage: str, done: int, total: int, amount: str) -> None:
        if not self._live:
            self._line(stage, amount, ended=0 < total <= done)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None, amount=amount)
        self._bars.update(self._tasks[stage], completed=done, total=total or None, amount=amount)

    def _line(self, stage: str, amount: str, *, ended: bool) -> None:
        now_s = self._clock()
        if not ended and now_s - self._told.get(stage, -QUIET_S) < QUIET_S:
            return
        if stage not in self._ended:
            self._told[stage] = now_s
            print(f"{stage}: {amount}" if amount else stage, file=sys.stderr, flush=True)
        if ended:
            self._ended.add(stage)
