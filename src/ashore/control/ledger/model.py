"""Records of the ledger. Privacy loss is counted in whole micro-nats and delta in whole 1e-15, always rounded up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

MICRO: Final = 1_000_000
FEMTO: Final = 10**15

Kind = Literal["question", "training"]
State = Literal["reserved", "spent", "released"]
"""reserved: somebody draws noise under it. spent: it counts for ever. released: nothing of it was shown to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one dataset may lose."""

    id: str
    tenant: str
    dataset: str
    epsilon: int
    """Micro-nats, of everything together."""
    delta: int
    """1e-15, of everything together."""
    questions_epsilon: int
    """Micro-nats of it that questions share."""
    questions_delta: int
    order: int
    """Order of the Rényi divergence in which questions add up, chosen when the budget was granted."""
    capacity: int
    """Micro-nats of that divergence that questions may spend."""
    carried_epsilon: int = 0
    """Micro-nats that budgets which this one replaced had spent."""
    carried_delta: int = 0
    granted_by: str = ""
    granted_s: int = 0
    closed_s: int = 0
    """When another one replaced it; 0: it is in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """One question or one training run."""

    id: str
    budget: str
    kind: Kind
    state: State
    units: int
    """Micro-nats: Rényi divergence of a question, epsilon of a training run."""
    delta: int
    """1e-15; 0 for a question: questions share that of the budget."""
    what: str
    """In words, with the noise."""
    actor: str
    began_s: int
    ended_s: int = 0
    answer: str = ""
    """JSON of a question's answer: who asks the same again gets the same for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A budget with the sums of reserved and spent amounts."""

    budget: Budget
    question_units: int
    questions: int
    training_epsilon: int
    training_delta: int
    runs: int

    @property
    def spent_epsilon(self) -> int:
        """Micro-nats spent by plain addition: the share of questions counts whole from the first one on."""
        return (
            self.budget.carried_epsilon
            + self.training_epsilon
            + (self.budget.questions_epsilon if self.questions else 0)
        )

    @property
    def spent_delta(self) -> int:
        return self.budget.carried_delta + self.training_delta + (self.budget.questions_delta if self.questions else 0)


def micro(nats: float) -> int:
    """Return nats in micro-nats, rounded up."""
    return math.ceil(nats * MICRO - 1e-9)


def femto(delta: float) -> int:
    """Return delta in 1e-15, rounded up."""
    return math.ceil(delta * FEMTO - 1e-6)
