"""Which of several compilations of one model computes the next step: rules over what was seen, no clock, no model.

A ladder has rungs, the most exact first. All of them read and write the same blocks of keys and values, so a sequence
may go on with another one in any step. The whole batch changes: sequences that went on at the upper rung beside others
at the lower one would have each step read the weights of both.

What is asked is how long answers take against an objective: a step against the time for a token, and the wait of a
newcomer against the time to the first one. Down at once when either comes near; up only after a while, and only when
the same two would be well within the objective with what the upper rung costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DOWN: Final = 0.8
"""Share of the objective from which a lower rung computes."""
UP: Final = 0.5
"""Share that the upper rung must be expected to stay below."""
HOLD_S: Final = 8.0
"""Shortest time on a rung before a higher one. These three were chosen by `tests/support/ladder_sim.py`: with 0.6, 0.54
and 5, as first thought, answers in calm times were wholly at the top to 86 % instead of 94, at as few misses."""
SMOOTHING: Final = 0.03
"""Of the time of steps: an answer is as quick as the mean of some dozens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How quick answers are to be."""

    ttft_s: float = 1.0
    """To the first token, from when the order came."""
    tpot_s: float = 0.06
    """For each further token."""


@dataclass(slots=True)
class Ladder:
    """The rung of the whole batch. Times are seconds of one clock."""

    objective: Objective
    costs: tuple[float, ...]
    """Relative time of the same step on each rung, the top first."""
    rung: int = 0
    switches: int = 0
    _since_s: float = 0.0
    _step_s: float = 0.0
    """Of steps in which sequences generate, smoothed."""

    @property
    def lowest(self) -> int:
        return len(self.costs) - 1

    def note(self, *, seconds: float, decoding: int) -> None:
        """Learn from a step that took so long, and in which so many sequences generated."""
        if decoding:
            self._step_s += SMOOTHING * (seconds - self._step_s) if self._step_s else seconds

    def decide(self, now_s: float, *, decoding: int, pending_s: float, oldest_wait_s: float) -> int:
        """Return the rung of the next step.

        Args:
            now_s: The time.
            decoding: Sequences that generate now.
            pending_s: How long this rung takes for the prompts that have not been read, of all that wait or have begun.
            oldest_wait_s: How long the first of those that have no token yet has waited; 0: there is none.
        """
        step_s = self._step_s if decoding else 0.0
        need = max(step_s / self.objective.tpot_s, (pending_s + oldest_wait_s) / self.objective.ttft_s)
        if need > DOWN and self.rung < self.lowest:
            self._change(self.rung + 1, now_s)
        elif need > UP:
            self._since_s = now_s
        elif self.rung and now_s - self._since_s >= HOLD_S:
            dearer = self.costs[self.rung - 1] / self.costs[self.rung]
            if need * dearer < UP:
                self._change(self.rung - 1, now_s)
        return self.rung

    def _change(self, rung: int, now_s: float) -> None:
        self._step_s *= self.costs[rung] / self.costs[self.rung]  # it was seen on the other rung
        self.rung, self._since_s = rung, now_s
        self.switches += 1
