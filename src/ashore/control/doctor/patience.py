"""Readings that are taken beside each other, each for as long as there is time: what is late is left, and named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST_QUEUED_S: Final = 30.0
"""Nobody is waited for longer because they had no processor."""
_POLL_S: Final = 0.05


def queued_s(thread: int | None = None) -> float:
    """Return for how long a thread has been ready to run and had no processor; 0 where the kernel does not tell.

    Args:
        thread: Its number in the kernel; None: this one.

    Source: proc(5), schedstat, second field, in nanoseconds.
    """
    path = Path("/proc/thread-self" if thread is None else f"/proc/self/task/{thread}") / "schedstat"
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    return int(words[1]) / 1e9 if len(words) > 1 else 0.0


class Watch:
    """Measures what something takes, without the time in which this thread was ready to go on and had no processor.

    So a machine that is busy does not make a disk, a cache or a state look slow. For one thread.
    """

    def __init__(self) -> None:
        """Begin."""
        self._begun_s, self._queued_s = time.monotonic(), queued_s()

    @property
    def took_s(self) -> float:
        """Seconds since the beginning."""
        return max(0.0, time.monotonic() - self._begun_s - (queued_s() - self._queued_s))

    @property
    def took_ms(self) -> float:
        return 1e3 * self.took_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that takes a reading."""

    names: tuple[str, ...]
    """Of `Readings`, that it gives: `state`, `disk.fsync_ms`."""
    work: Callable[[], None]


class Lanes:
    """Steps that run beside the caller and beside each other; those of one lane one after the other."""

    def __init__(self, *lanes: Sequence[Step]) -> None:
        """Start them all. No thread of theirs holds up the end of the process."""
        self._left = {id(step): step for lane in lanes for step in lane}
        self._fault: Exception | None = None
        self._threads = [threading.Thread(target=self._run, args=(tuple(lane),), daemon=True) for lane in lanes]
        for one in self._threads:
            one.start()

    def end(self, until_s: float) -> tuple[str, ...]:
        """Wait for them, until a moment of the monotonic clock at most; return the names of what is not read by then.

        Time in which they had no processor is added, since the others wait for their modules then: what is late has
        waited for somebody else.

        Raises:
            Exception: what a step raised.
        """
        for one in self._threads:
            while one.is_alive() and time.monotonic() < until_s + self._queued_s():
                one.join(_POLL_S)
        if self._fault is not None:
            raise self._fault
        return tuple(name for step in list(self._left.values()) for name in step.names)

    def _queued_s(self) -> float:
        return min(LONGEST_QUEUED_S, sum(queued_s(one.native_id) for one in self._threads))

    def _run(self, lane: Sequence[Step]) -> None:
        try:
            for step in lane:
                step.work()
                self._left.pop(id(step))
        except Exception as fault:  # noqa: BLE001 - raised where the steps are waited for
            self._fault = fault
