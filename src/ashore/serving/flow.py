"""The short way of an answer's pieces: from the frame that brought a token to its client, past the tasks in between.

A piece of an answer is heard by whoever counts, records or compares it, and goes out. To wake a task for that, which
resumes one generator after the other, costs more than the work. So who streams an answer may offer a flow. Who must
hear every piece listens to it; who must change pieces, or wait before one goes on, bars it. While it is open, pieces
are told in the turn of the loop in which their tokens came. All else goes the long way, through the generators: the
first piece, the end, every error, and what comes while the client does not keep up. No piece goes both.
"""

from __future__ import annotations

from collections.abc import Callable

from ashore.serving.model import Delta


class Flow:
    """Of one answer. Used on one event loop."""

    __slots__ = ("_hearers", "_is_barred", "_tell", "is_open")

    def __init__(self, tell: Callable[[Delta], bool]) -> None:
        """Make it, closed. `tell` sends a piece to the client without waiting; whether the next one may follow so."""
        self._tell = tell
        self._hearers: tuple[Callable[[Delta], None], ...] = ()
        self._is_barred = False
        self.is_open = False
        """Whether a piece that comes now may be told."""

    def listen(self, *hearers: Callable[[Delta], None]) -> None:
        """Have these called with every piece before it is sent, and nobody who was to be called before: another release
        makes the answer now."""
        self._hearers, self._is_barred = hearers, False

    def listen_too(self, hear: Callable[[Delta], None]) -> None:
        """Have this called as well, after those that listen already."""
        self._hearers += (hear,)

    def bar(self) -> None:
        """Keep it closed until somebody listens anew: pieces are changed on their way, or waited for."""
        self._is_barred, self.is_open = True, False

    def open(self) -> None:
        """Let pieces flow, unless it is barred. For who streams, when all that came so far is sent."""
        self.is_open = not self._is_barred

    def tell(self, delta: Delta) -> None:
        """Send the next piece. Only while it is open; closes it where the client does not keep up."""
        for hear in self._hearers:
            hear(delta)
        self.is_open = self._tell(delta)
