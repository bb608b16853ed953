"""Cancellation of work on threads. Long work checks between its pieces, and stops once nobody waits for it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final


class Want:
    """Cancellation state of one piece of work. Set from another thread than the working one."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False

    def give_up(self) -> None:
        """Cancel the work. May be called twice."""
        self.is_over = True


class NoLongerWanted(Exception):
    """Ends cancelled work. Only the code that cancelled it sees it."""


WANT: Final[ContextVar[Want | None]] = ContextVar("want", default=None)
"""Set around the work by the code that runs it; None: it is wanted to its end."""


def check_wanted() -> None:
    """Check that the surrounding work is not cancelled. Cheap compared with a piece of work.

    Raises:
        NoLongerWanted: it is cancelled.
    """
    want = WANT.get()
    if want is not None and want.is_over:
        raise NoLongerWanted
