"""SIGHUP as "read again": blocked for a child until it listens, because until then it would end it.

A child needs a second or more for its imports, on a busy machine several. The kernel keeps one pending blocked signal,
and the mask survives exec. So no signal is lost, and the sender need not know when the child is up.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hangups_held(held: bool = True) -> Iterator[None]:
    """Start children inside the block with SIGHUP blocked until they take it or wait for it.

    With `held` false: not blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP} if held else set())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_hangups() -> None:
    """Unblock SIGHUP, including a pending one. For a child that has installed its handler; may be called twice."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
