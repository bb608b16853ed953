"""Progress of store work on the terminal: a bar where there is one, a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ashore.core import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.progress import TaskID

QUIET_S = 5.0
"""Between two lines in a log."""
TOO_SMALL_BYTES = 1 << 20
"""Files that a log says nothing of: they are done before it is read."""


class TerminalProgress:
    """A `store.Progress` that draws on stderr. Use it in a `with` block."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Make it; `clock` gives seconds that never run back."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._live = sys.stderr.isatty()
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

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if not self._live and 0 < total_bytes < TOO_SMALL_BYTES:
            return
        of = f" of {human_bytes(total_bytes)}" if total_bytes else ""
        self._show(stage, done_bytes, total_bytes, f"{human_bytes(done_bytes)}{of}" if done_bytes or of else "")

    def share(self, stage: str, done: float) -> None:
        """Say that `stage` of a work begins, of which the part `done` (0 to 1) is behind it."""
        self._show("prepare", int(done * 100), 100, stage)

    def steps(self, stage: str, done: int, total: int, amount: str) -> None:
        """Say that `done` of the `total` steps of a stage are behind it, and what else is to be said in `amount`."""
        left = "" if self._live else self._left(stage, done, total)
        self._show(stage, done, total, amount + left)

    def _left(self, stage: str, done: int, total: int) -> str:
        """Return how long the rest takes at the pace so far; nothing before there is one, and of the last step."""
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
