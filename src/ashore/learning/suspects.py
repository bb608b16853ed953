"""Finds people whose votes disagree with the held-out tasks. Pure.

`filters` knows patterns of attacks, and compares people with each other. This test needs no pattern: a copy of the
model is trained on the held-out tasks, which contain no vote (`reference.agreements`), and rates each vote. One vote
says little, because a copy trained on some hundred questions is weak; all votes of a person say much. Only votes on
answers of labelled tasks are judged.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from ashore.learning.filters import FEWEST, Row, kind_of

FALSE: Final = 0.05
"""Share of the people who are held that may be wronged, on average. Source: Benjamini and Hochberg, Controlling the
False Discovery Rate, 1995."""
MOST_VOTES: Final = 32
"""Votes of a person that are judged; more would say no more."""
MOST_ASKED: Final = 3000
"""Votes of all: one takes as long as a quarter of a vote that is learned."""
TOP: Final = 8
"""An answer is likely that is among the first of so many parts of all labels."""
MOST_ROUNDS: Final = 5
TRIMMED: Final = 0.25
"""Share of the votes, of the people who agree most and of those who agree least, that say nothing of how often others
agree: so many accounts that always agree do not make suspects of everybody else."""
Form = Literal["up", "down", "better"]


def asked_about(rows: Sequence[Row], labels: Collection[str]) -> list[Row]:
    """Return the votes to compare with the tasks: at most the same number from everyone, corrections first. The choice
    is unpredictable, so that bad votes cannot hide behind good ones. If there are too many, people with enough votes to
    be judged come first; the rest only shows how often people agree. Reviewers are not judged.

    Args:
        rows: The votes of a data set.
        labels: Answers of held-out tasks, in the form of `kind_of`.
    """
    fit = [row for row in rows if not row.is_review and labels_fit(row, labels)]
    count, seen = Counter(row.person for row in fit), Counter[str]()
    found = []
    drawn = hashlib.sha256(" ".join(sorted(row.feedback_id for row in fit)).encode()).hexdigest()
    lot = {row.feedback_id: hashlib.sha256(f"{drawn} {row.feedback_id}".encode()).digest() for row in fit}
    for row in sorted(fit, key=lambda one: (not one.better, lot[one.feedback_id])):
        seen[row.person] += 1
        if seen[row.person] <= MOST_VOTES:
            found.append(row)
    return sorted(found, key=lambda one: count[one.person] < FEWEST)[:MOST_ASKED]


def labels_fit(row: Row, labels: Collection[str]) -> bool:
    """Return whether a vote is about a task's answer: the given one or the corrected one."""
    return kind_of(row.answer) in labels or (bool(row.better) and kind_of(row.better) in labels)


def judged_text(row: Row) -> str:
    """Return the answer that a vote judges: the corrected one, else the given one."""
    return row.better or row.answer


def agrees(row: Row, labels: Collection[str], *, ahead: int) -> bool:
    """Return whether a vote agrees with a copy that ranks this many labels above the judged answer. A correction to
    something that is not a label, of an answer that is one, never agrees.
    """
    if kind_of(judged_text(row)) not in labels:
        return False
    return (ahead * TOP < len(labels)) == (_form(row) != "down")


def suspects(rows: Sequence[Row], agreements: Mapping[str, bool]) -> dict[str, str]:
    """Return why votes are held, by vote id: all votes of people who agree with the tasks significantly less often than
    others. Votes up, down and better answers are compared separately, so that a person who only votes down is not
    suspect. A suspect no longer counts as a reference for others. If half of the voters would be held, it is unclear
    which half is right, and no one is; the gate judges the model anyway.

    Args:
        rows: The votes of a data set.
        agreements: Whether a vote agrees, by its id; of some votes.
    """
    judged: dict[str, list[tuple[Form, bool]]] = defaultdict(list)
    for row in rows:
        if row.feedback_id in agreements:
            judged[row.person].append((_form(row), agreements[row.feedback_id]))
    bad: dict[str, str] = {}
    for _ in range(MOST_ROUNDS):
        seen = _judged(judged, measure=[person for person in judged if person not in bad])
        found = discovered({person: chance for person, (chance, _) in seen.items()})
        if found <= bad.keys():
            break
        bad |= {person: seen[person][1] for person in found}
        if 2 * len(bad) >= len(judged):
            return {}
    return {row.feedback_id: bad[row.person] for row in rows if row.person in bad and not row.is_review}


def _judged(
    judged: Mapping[str, Sequence[tuple[Form, bool]]], *, measure: Sequence[str]
) -> dict[str, tuple[float, str]]:
    """Return, for each person with enough votes, the chance probability of so few agreements, and a text for it.

    Args:
        judged: Form of each vote, and whether it agrees, by person.
        measure: Reference people for how often votes of a form agree; a person's own votes never count.
    """
    all_of_them = _Agreement(judged, measure)
    ranked = sorted(measure, key=lambda one: (all_of_them.beyond(judged[one]), one))
    behind = np.cumsum([len(judged[person]) for person in ranked])
    most = behind[-1] if ranked else 0
    middle = [one for one, at in zip(ranked, behind, strict=True) if TRIMMED * most < at <= (1 - TRIMMED) * most]
    usual = _Agreement(judged, middle) if middle else all_of_them
    found = {}
    for person, own in judged.items():
        if len(own) < FEWEST:
            continue
        rate = {
            form: min(all_of_them.rate(form, person), usual.rate(form, person)) for form in {form for form, _ in own}
        }
        rates = [rate[form] for form, _ in own]
        times = sum(one for _, one in own)
        chance = so_few(rates, times)
        found[person] = (
            chance,
            (
                f"{times} of {len(own)} votes agree with what the held-out tasks teach, as of others {sum(rates):.0f} "
                f"would; by chance {chance:.1g}"
            ),
        )
    return found


class _Agreement:
    """How often votes of some people agree, by form."""

    def __init__(self, judged: Mapping[str, Sequence[tuple[Form, bool]]], people: Sequence[str]) -> None:
        self._own = {person: Counter(judged[person]) for person in people}
        self._every = Counter(one for person in people for one in judged[person])

    def rate(self, form: Form, without: str = "") -> float:
        """Return the share of votes of a form that agree, but for those of one person."""
        own = self._own.get(without, Counter())
        yes, no = (self._every[form, agreed] - own[form, agreed] for agreed in (True, False))
        return (yes + 1) / (yes + no + 2)

    def beyond(self, own: Sequence[tuple[Form, bool]]) -> float:
        """Return by how much a person's votes agree more than others' would."""
        rate = {form: self.rate(form) for form in {form for form, _ in own}}
        return sum(agreed - rate[form] for form, agreed in own) / len(own)


def so_few(rates: Sequence[float], times: int) -> float:
    """Return the probability of so many or fewer, where each has a probability of its own. Exact."""
    chances = np.ones(1)
    for rate in rates:
        chances = np.convolve(chances, (1 - rate, rate))
    return float(chances[: times + 1].sum())


def discovered(chances: Mapping[str, float]) -> set[str]:
    """Return the names with significant probabilities, with a false discovery rate of `FALSE`."""
    ranked = sorted(chances, key=lambda one: (chances[one], one))
    limits = [at for at, one in enumerate(ranked, start=1) if chances[one] * len(ranked) <= FALSE * at]
    return set(ranked[: max(limits, default=0)])


def _form(row: Row) -> Form:
    if row.better:
        return "better"
    return "up" if row.rating == "up" else "down"
