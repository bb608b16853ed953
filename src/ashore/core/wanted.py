"""Whether work on a thread is still wanted. What takes long asks between its pieces, and ends where nobody waits."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final


class Want:
    """Of one piece of work. Given up from another thread than the one that works."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False

    def give_up(self) -> None:
        """Say that nobody waits for it any more. May be called twice."""
        self.is_over = True


class NoLongerWanted(Exception):
    """Ends work that nobody waits for. Only the code that gave it up sees it."""


WANT: Final[ContextVar[Want | None]] = ContextVar("want", default=None)
"""Set around the work by the code that runs it; None: it is wanted to its end."""


def check_wanted() -> None:
    """Return while somebody waits for the work around this call. Costs nothing beside a piece of it.

    Raises:
        NoLongerWanted: nobody does.
    """
    want = WANT.get()
    if want is not None and want.is_over:
        raise NoLongerWanted
