"""Chooses which of several compilations of one model computes the next step: rules over observations, no clock, no
model.

A ladder has rungs, the most exact first. All of them read and write the same blocks of keys and values, so a sequence
may switch in any step. The whole batch switches: a batch with sequences on both rungs would read the weights of both in
each step.

Latency is compared with an objective: a step with the time per token, and the wait of a new sequence with the time to
the first token. Down at once when either comes near; up only after a while, and only if both would be well within the
objective at the cost of the upper rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DOWN: Final = 0.9
"""Share of the objective from which a lower rung computes."""
UP: Final = 0.5
"""Share that the upper rung must be expected to stay below."""
HOLD_S: Final = 2.0
"""Shortest time on a rung before a higher one. These three were chosen by `tests/support/ladder_sim.py`: with 0.8, 0.5
and 8 as many answers were in time, and of those in calm times 55 % instead of 84 were wholly in single precision."""
SMOOTHING: Final = 0.03
"""Smoothing of step times: the latency of an answer is the mean of some dozens of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Latency objective of answers."""

    ttft_s: float = 1.0
    """To the first token, from when the order came."""
    tpot_s: float = 0.06
    """For each further token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a rung relative to another: generation is bound by reading weights, prompts by products."""

    step: float
    """Time of a step in which sequences generate."""
    prompt: float
    """Time of a prompt token."""


@dataclass(slots=True)
class Ladder:
    """The rung of the whole batch. Times are seconds of one clock."""

    objective: Objective
    costs: tuple[Cost, ...]
    """Cost of each rung, the top first."""
    rung: int = 0
    switches: int = 0
    _since_s: float = 0.0
    _step_s: float = 0.0
    """Time of steps in which sequences generate, smoothed."""

    @property
    def lowest(self) -> int:
        return len(self.costs) - 1

    def note(self, *, seconds: float, decoding: int) -> None:
        """Learn from the duration of a step, and the number of generating sequences in it."""
        if decoding:
            self._step_s += SMOOTHING * (seconds - self._step_s) if self._step_s else seconds

    def decide(self, now_s: float, *, decoding: int, pending_s: float, oldest_wait_s: float) -> int:
        """Return the rung of the next step.

        Args:
            now_s: The time.
            decoding: Sequences that generate now.
            pending_s: Time that this rung needs for all prompts that are not computed yet.
            oldest_wait_s: Wait of the oldest sequence without a token; 0: there is none.
        """
        need = self._need(self.rung, decoding, pending_s, oldest_wait_s)
        if need > DOWN and self.rung < self.lowest:
            self._change(self.rung + 1, now_s)
        elif need > UP:
            self._since_s = now_s
        elif (
            self.rung
            and now_s - self._since_s >= HOLD_S
            and self._need(self.rung - 1, decoding, pending_s, oldest_wait_s) < UP
        ):
            self._change(self.rung - 1, now_s)
        return self.rung

    def _need(self, rung: int, decoding: int, pending_s: float, oldest_wait_s: float) -> float:
        """Return the greater share of the objective that a rung would need, estimated from this one."""
        here, there = self.costs[self.rung], self.costs[rung]
        step_s = self._step_s * there.step / here.step if decoding else 0.0
        first_s = pending_s * there.prompt / here.prompt + oldest_wait_s
        return max(step_s / self.objective.tpot_s, first_s / self.objective.ttft_s)

    def _change(self, rung: int, now_s: float) -> None:
        self._step_s *= self.costs[rung].step / self.costs[self.rung].step  # it was measured on the other rung
        self.rung, self._since_s = rung, now_s
        self.switches += 1
