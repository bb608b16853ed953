"""Deadlines: how long a request may wait, and how long its answer may go on."""

from __future__ import annotations

from typing import Final, NamedTuple

from ashore.data.path.model import ChoiceEnded, CutBy, Delta, ServingEvent, Started, Usage
from ashore.data.path.section import AdmissionSection

ASIDE_S: Final = 60.0
"""How long a text that is not a prompt may wait for its turn and be read."""


class Deadline(NamedTuple):
    """Deadline of one request, in monotonic seconds.

    The server's own bounds each wait: for room, for a host, for the first token, and for the next one. The client's own
    bounds the whole request.
    """

    begin_by: float
    """When the first token must be there."""
    end_by: float | None
    """When the answer ends, whole or not; None: it goes on while tokens come."""
    silence_s: float
    """Limit of a pause within an answer that has begun, approximately."""


def deadline_of(limits: AdmissionSection, asked_s: float | None, arrived_at: float) -> Deadline:
    """Return the deadline of a request with this client time-out in seconds; None: it has none."""
    allowed_s = min(limits.max_deadline_s, asked_s or limits.default_deadline_s)
    by = arrived_at + allowed_s
    return Deadline(
        begin_by=by, end_by=None if asked_s is None else by, silence_s=min(allowed_s, limits.default_deadline_s)
    )


class Heard:
    """What a reader has received of a shared generation; enough to end it there."""

    def __init__(self, num_choices: int) -> None:
        self._started: Started | None = None
        self._open = dict.fromkeys(range(num_choices))
        self.pieces = 0
        """Pieces of all choices."""

    def hear(self, event: ServingEvent) -> None:
        """Process the next event."""
        if isinstance(event, Delta):
            self.pieces += 1
        elif isinstance(event, ChoiceEnded):
            self._open.pop(event.choice, None)
        elif isinstance(event, Started):
            self._started = event

    def cut(self, cut_by: CutBy) -> list[ChoiceEnded]:
        """Return the end of every choice that is open."""
        return [ChoiceEnded(choice=at, reason="length", cut_by=cut_by) for at in self._open]

    @property
    def usage(self) -> Usage:
        """Usage so far: a piece counts as a token, which is all that a reader knows."""
        assert self._started is not None
        return Usage(prompt_tokens=self._started.prompt_tokens, cached_tokens=0, completion_tokens=self.pieces)
