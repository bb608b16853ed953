"""Ports of tuning."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ashore.data.engines.tuning.model import Candidate, Round


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one visit to a candidate."""

    engine: str
    """Library and version, as the engine says."""
    start_s: float
    """From the start of the host until it greeted."""
    took_s: float
    """From its greeting to the end of the last round, warming up included."""
    rounds: tuple[Round, ...]
    """At least one; fewer than asked for where the time ran out."""


class Bench(Protocol):
    """Runs one candidate in a host process of its own and measures it."""

    def visit(self, candidate: Candidate, *, rounds: int, limit_s: float) -> Trial:
        """Start the host, warm it up, measure `rounds` times, stop it. Returns when the host is gone, in every case.

        Args:
            candidate: What to run.
            rounds: Number of rounds.
            limit_s: Seconds after which it returns with the rounds it has.

        Raises:
            AshoreError: the model could not be prepared, loaded or run so, or not one round fitted into `limit_s`.
            KeyboardInterrupt: the user pressed Ctrl-C; the host is gone in that case, too.
        """
        ...


class Watcher(Protocol):
    """Receives the progress of a tuning, for a progress bar."""

    def visiting(self, candidate: Candidate, *, spent_s: float, ends_s: float, seen: int, known: int) -> None:
        """A visit begins: `spent_s` seconds into a tuning that ends at most `ends_s` seconds after its start; `seen`
        of `known` candidates have figures."""
        ...

    def visited(self, candidate: Candidate, outcome: Trial | str) -> None:
        """A visit ended, with figures or with the reason for none."""
        ...
