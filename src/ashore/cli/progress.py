"""Progress of store work on the terminal: a bar where there is one, a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ashore.core import human_bytes

if TYPE_CHECKING:
    from rich.progress import TaskID

QUIET_S = 5.0
"""Between two lines in a log."""


class TerminalProgress:
    """A `store.Progress` that draws on stderr. Use it in a `with` block."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._live = sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        if not self._live:
            self._line(stage, done_bytes, total_bytes)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total_bytes or None)
        self._bars.update(self._tasks[stage], completed=done_bytes, total=total_bytes or None)

    def _line(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        now_s = time.monotonic()
        ended = 0 < total_bytes <= done_bytes
        if not ended and now_s - self._last.get(stage, -QUIET_S) < QUIET_S:
            return
        if ended and stage in self._tasks:
            return
        self._last[stage] = now_s
        of = f" of {human_bytes(total_bytes)}" if total_bytes else ""
        print(f"{stage}: {human_bytes(done_bytes)}{of}", file=sys.stderr, flush=True)
        if ended:
            self._tasks[stage] = -1  # type: ignore[assignment]
