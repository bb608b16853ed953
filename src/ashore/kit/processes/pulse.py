"""The pulse of a child, by which its supervisor detects that it hangs.

A beat is one byte in a pipe: a promise to beat again within so many seconds. The child sets the time, because it knows
its work: loading may be silent for minutes, serving may not. A process that is stopped, deadlocked, or has a stuck loop
breaks the promise. A program that never beats (Envoy, Valkey) promises nothing.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from ashore.core.clock import Clock, SystemClock

PULSE_VARIABLE: Final = "ASHORE_CHILD_PULSE_FD"
"""Names the descriptor of the pipe in the environment of a child."""
BEAT_S: Final = 1.0
"""Between two beats, and between two looks of the supervisor."""
SILENCE_S: Final = 10
"""Of a process with an event loop. Nothing holds its interpreter for longer: reading a body of millions of tiny values,
which nothing interrupts, takes a second, and several on a machine with too much to do."""
MOST_PATIENCE_S: Final = 255
"""The longest promise that fits in a byte."""
IDLE_FACTOR: Final = 10
"""A process that works with what the others leave may be kept from beating, so it promises less."""


class Pulse:
    """The child's end. Callable from any thread."""

    def __init__(self, descriptor: int | None) -> None:
        """Create it; with None no supervisor listens, and nothing is sent."""
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    @property
    def is_heard(self) -> bool:
        """Whether a supervisor listens."""
        return self._descriptor is not None

    def beat(self, patience_s: int) -> None:
        """Promise to beat again within `patience_s`. Returns at once, also if the supervisor is gone."""
        if self._descriptor is not None:
            patience_s *= IDLE_FACTOR if _is_idle() else 1
            with suppress(OSError):  # the pipe is full: a supervisor that does not read has enough beats to read
                os.write(self._descriptor, bytes([min(patience_s, MOST_PATIENCE_S)]))


def take_pulse() -> Pulse:
    """Return the pulse of this process. Call it once at the start: descendants must not beat for it."""
    descriptor = os.environ.pop(PULSE_VARIABLE, "")
    return Pulse(int(descriptor) if descriptor else None)


class LoopLife:
    """The promise of a process with an event loop."""

    def __init__(self, patience_s: int, clock: Clock) -> None:
        """Create it, for a loop that counts as hung after `patience_s` without a turn."""
        self._longest_turn_s = patience_s - SILENCE_S
        self._clock = clock
        self.turned()

    def turned(self) -> None:
        """Record a turn of the loop."""
        self._turned_s = self._clock.monotonic_s()

    def promise_s(self) -> int | None:
        """Return the seconds until the next promised beat; None: the loop hangs. Thread-safe."""
        return SILENCE_S if self._clock.monotonic_s() - self._turned_s <= self._longest_turn_s else None


async def keep_beating(pulse: Pulse, patience_s: int) -> NoReturn:
    """Beat while the event loop turns at least every `patience_s`.

    A thread sends the beats, so a busy loop does not matter. A process in which no thread runs was stopped or is stuck;
    it is replaced after `SILENCE_S`, and its requests fail then.
    """
    life = LoopLife(patience_s, SystemClock())
    if pulse.is_heard:
        beat_in_thread(pulse, life.promise_s)
    while True:
        life.turned()
        await asyncio.sleep(BEAT_S)


def beat_in_thread(pulse: Pulse, patience_s: Callable[[], int | None]) -> None:
    """Beat from a separate thread until the process ends, also while other threads compute.

    Args:
        pulse: Of this process.
        patience_s: Called before each beat; None: the process is unwell, and no beat is sent.
    """

    def run() -> None:
        wait = threading.Event()
        while True:
            promised_s = patience_s()
            if promised_s is not None:
                pulse.beat(promised_s)
            wait.wait(BEAT_S)

    threading.Thread(target=run, name="pulse", daemon=True).start()


def _is_idle() -> bool:
    """Whether this thread runs under SCHED_IDLE, as a supervisor may set at any time."""
    return hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE
