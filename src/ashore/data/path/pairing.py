"""Pairs canary and live answers by start time, not by end time.

Pairing an answer with the one that ended last selects by duration. Of two equal releases on one machine, where each
slows the other down, one was the slower of such a pair in 41 to 54 of 100 (simulated, two to sixteen clients that ask
again when they have their answer); paired by start time, in 49.3 to 50.3.
"""

from __future__ import annotations

from typing import Final

from ashore.data.path.answer_listener import Trial

NEAR_S: Final = 30.0
"""Requests that began further apart are no neighbours."""


class Neighbours:
    """Pairs requests of a candidate with live requests. In half of the pairs the candidate's began first."""

    def __init__(self) -> None:
        self._last: tuple[Trial, bool] | None = None
        """The one that began last, and whether it is the candidate's."""
        self._ahead = 0
        """Pairs in which the candidate's began first, less those in which the live one's did."""

    def begin(self, trial: Trial, *, candidate: bool) -> None:
        """Add a request that begins, and pair it with the previous one if that is free and of the other release."""
        last, self._last = self._last, (trial, candidate)
        if last is None:
            return
        before, of_candidate = last
        if of_candidate is candidate or before.partner is not None or before.began_s < trial.began_s - NEAR_S:
            return
        if (self._ahead <= 0) if of_candidate else (self._ahead >= 0):
            self._ahead += 1 if of_candidate else -1
            trial.partner, before.partner = before, trial
