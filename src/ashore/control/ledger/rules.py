"""Rules of a privacy budget. Pure."""

from __future__ import annotations

import math
from typing import Final

from ashore.control.ledger.accountant import best_order, capacity
from ashore.control.ledger.model import FEMTO, MICRO, Budget, Kind, Standing, femto, micro
from ashore.core.errors import InvalidRequest, PrivacyBudgetSpent

MOST_EPSILON: Final = 10.0
MOST_DELTA: Final = 1e-3
QUESTION_DELTA_SHARE: Final = 0.01
"""Of a budget's delta, for which the noise of one question is chosen."""


def granted(
    budget: str,
    tenant: str,
    dataset: str,
    *,
    epsilon: float,
    delta: float,
    questions: float,
    before: Standing | None,
    lost: tuple[int, int] = (0, 0),
) -> Budget:
    """Return a new budget.

    Args:
        budget: Id of the budget.
        tenant: Owner of the dataset.
        dataset: Name of the dataset.
        epsilon: Nats, in total.
        delta: In total.
        questions: Share of both for noisy questions; the rest is for training.
        before: The budget that it replaces, whose spending counts in this one too.
        lost: Epsilon and delta of budgets that the state lost; they count as spent.

    Raises:
        InvalidRequest: its guarantee is void, or less than is already spent.
    """
    if not 0 < epsilon <= MOST_EPSILON:
        raise InvalidRequest(f"epsilon is {epsilon:g}", hint=f"above 0 and at most {MOST_EPSILON:g}; 0.5 to 2 is usual")
    if not 1e-10 <= delta <= MOST_DELTA:
        raise InvalidRequest(
            f"delta is {delta:g}", hint="1e-10 to 1e-3: at most a tenth of one by the number of people in the dataset"
        )
    if not 0 <= questions <= 1:
        raise InvalidRequest(f"the share of questions is {questions:g}", hint="0 to 1")
    carried_epsilon, carried_delta = (before.spent_epsilon, before.spent_delta) if before else (0, 0)
    carried_epsilon, carried_delta = carried_epsilon + lost[0], carried_delta + lost[1]
    left, left_delta = micro(epsilon) - carried_epsilon, femto(delta) - carried_delta
    if left <= 0 or left_delta <= 0:
        raise InvalidRequest(
            f"epsilon {epsilon:g}, delta {delta:g} is below what is spent already: "
            f"{carried_epsilon / MICRO:g}, {carried_delta / FEMTO:g}",
            hint="what was answered cannot be taken back; grant more than that",
        )
    for_questions, for_questions_delta = math.floor(left * questions), math.floor(left_delta * questions)
    order, units = 2, 0
    if for_questions and for_questions_delta:
        order = best_order(for_questions / MICRO, for_questions_delta / FEMTO)
        units = max(0, math.floor(capacity(for_questions / MICRO, for_questions_delta / FEMTO, order) * MICRO))
    return Budget(
        id=budget,
        tenant=tenant,
        dataset=dataset,
        epsilon=micro(epsilon),
        delta=femto(delta),
        questions_epsilon=for_questions if units else 0,
        questions_delta=for_questions_delta if units else 0,
        order=order,
        capacity=units,
        carried_epsilon=carried_epsilon,
        carried_delta=carried_delta,
    )


def check_fits(standing: Standing, kind: Kind, units: int, delta: int) -> None:
    """Check that a spend still fits.

    Raises:
        PrivacyBudgetSpent: it does not; the message has what is left.
    """
    budget = standing.budget
    name = f"the privacy budget of {budget.dataset}"
    if kind == "question":
        left = budget.capacity - standing.question_units
        if units > left:
            raise PrivacyBudgetSpent(
                f"{name} has {100 * max(0, left) / max(1, budget.capacity):.1f} % left for questions, and this one "
                f"takes {100 * units / max(1, budget.capacity):.1f} %",
                hint="ask with a smaller --epsilon (more noise), or have a security officer grant more",
            )
        return
    left = budget.epsilon - budget.carried_epsilon - budget.questions_epsilon - standing.training_epsilon
    left_delta = budget.delta - budget.carried_delta - budget.questions_delta - standing.training_delta
    if units > left or delta > left_delta:
        raise PrivacyBudgetSpent(
            f"{name} has epsilon {max(0, left) / MICRO:g}, delta {max(0, left_delta) / FEMTO:g} left for training, and "
            f"this run takes {units / MICRO:g}, {delta / FEMTO:g}",
            hint="train with more noise or fewer steps, or have a security officer grant more",
        )
