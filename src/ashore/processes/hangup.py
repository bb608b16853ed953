"""SIGHUP as "read again": held back from a child until it listens, since until then it would end it.

A child needs a second or more for its imports, on a busy machine several. The kernel keeps one signal that a process
holds back, and a held-back signal stays so over exec; so nothing is lost, and nobody has to know when the child is up.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangups_held(held: bool = True) -> Iterator[None]:
    """Start children inside the block that hold SIGHUP back until they take it or wait for it.

    With `held` false: as any others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP} if held else set())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_hangups() -> None:
    """Let SIGHUP in from now on, one that came before too. For a child that has its handler; may be called twice."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def hold_hangups() -> None:
    """Hold SIGHUP back for `wait_for_hangup`, however this process was started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def wait_for_hangup(seconds: float) -> bool:
    """Return whether SIGHUP came, at most so many seconds later; one that came since the last call counts.

    For a child that does one thing after another. It stays held back meanwhile, and no handler runs in the middle of
    what this process does.
    """
    return signal.sigtimedwait({signal.SIGHUP}, max(0.0, seconds)) is not None
