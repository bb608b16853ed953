"""Whose votes disagree with what held-out tasks teach."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from benchmarks.learning.votes import attacked, honest_votes
from benchmarks.optimise.task import definitions, kinds

from ashore.learning.dataset import make_dataset
from ashore.learning.filters import FEWEST, Row
from ashore.learning.model import Said
from ashore.learning.suspects import MOST_VOTES, agrees, asked_about, discovered, so_few, suspects

ITEMS = definitions("train")
LABELS = kinds(ITEMS)
TRUTH = [item.kind for item in ITEMS]


def agreements(rows: Sequence[Row], *, knows: float, seed: int = 0) -> dict[str, bool]:
    """Return what a copy finds that knows the truth of so many questions, and guesses the others."""
    rng = random.Random(seed)
    found = {}
    for row in asked_about(rows, LABELS):
        said = row.better or row.answer
        right = said == TRUTH[int(row.feedback_id.removeprefix("fb_"))]
        ahead = (0 if right else rng.randrange(2, 16)) if rng.random() < knows else rng.randrange(16)
        found[row.feedback_id] = agrees(row, LABELS, ahead=ahead)
    return found


@pytest.mark.parametrize("accounts", [1, 10])
@pytest.mark.parametrize("attack", ["flip", "class", "refusal"])
def test_people_who_contradict_the_tasks_are_held_whoever_else_does(accounts: int, attack: str) -> None:
    honest = honest_votes(ITEMS, LABELS, seed=3)
    rows, bad = attacked(honest, attack, LABELS, share=0.05, colluders=accounts, seed=3)  # type: ignore[arg-type]
    found = suspects(rows, agreements(rows, knows=0.7))
    people = {row.person for row in rows if row.feedback_id in found}
    assert bad <= people and len(people - bad) <= 1
    assert "agree with what the held-out tasks teach" in next(iter(found.values()))


@pytest.mark.parametrize("knows", [0.0, 0.3, 0.9])
def test_honest_people_are_seldom_held_however_much_the_tasks_teach(knows: float) -> None:
    rows = honest_votes(ITEMS, LABELS, seed=4)
    held = [suspects(rows, agreements(rows, knows=knows, seed=seed)) for seed in range(3)]
    assert sum(map(bool, held)) <= 1


def test_who_only_says_what_is_wrong_is_compared_with_such_votes() -> None:
    """The copy finds likely what the model said, so it agrees with nine of ten votes up and three of ten down."""
    rows, agreed = [], {}
    for number in range(2000):
        person, at = divmod(number, 20)
        rating = "down" if person < 30 or at < 2 else "up"
        row = Row(feedback_id=str(number), tenant="t", account=f"p{person}", voter=f"p{person}", rating=rating,
                  messages=(Said("user", "what is it?"),), answer="animal")  # fmt: skip
        rows.append(row)
        agreed[row.feedback_id] = at % 10 < (3 if rating == "down" else 9)
    assert suspects(rows, agreed) == {}
    agreed |= {row.feedback_id: False for row in rows if row.person == "t/p5"}
    found = suspects(rows, agreed)
    assert {row.person for row in rows if row.feedback_id in found} == {"t/p5"}


def test_votes_that_the_tasks_teach_nothing_about_hold_nobody() -> None:
    honest = honest_votes(ITEMS, LABELS, seed=3)
    rows, _ = attacked(honest, "flip", LABELS, share=0.05, colluders=1, seed=3)
    assert asked_about(rows, ("yes", "no")) == [] and suspects(rows, {}) == {}
    assert len(asked_about(rows, LABELS)) > 2000


def test_some_votes_of_each_are_asked_about_and_none_of_reviewers() -> None:
    rows = honest_votes(ITEMS, LABELS, seed=3)
    asked = asked_about(rows, LABELS)
    by_person = {person: [row for row in asked if row.person == person] for person in {row.person for row in rows}}
    assert max(map(len, by_person.values())) == MOST_VOTES
    few = rows[:1000]
    often = [sum(other.person == row.person for other in few) >= FEWEST for row in asked_about(few, LABELS)]
    assert 0 < sum(often) < len(often) and often == sorted(often, reverse=True), "who can be judged comes first"
    most = max(by_person, key=lambda person: sum(row.person == person for row in rows))
    corrections = [row for row in rows if row.person == most and row.better]
    assert sum(bool(row.better) for row in by_person[most]) == min(MOST_VOTES, len(corrections))
    reviewed = [replace(row, account="somebody") for row in rows]
    wrong = dict.fromkeys((row.feedback_id for row in rows if row.voter == "user-3"), False)
    assert asked_about(reviewed, LABELS) == [] and suspects(reviewed, wrong) == {}


def test_an_answer_is_likely_among_the_first_labels() -> None:
    row = honest_votes(ITEMS, LABELS, seed=3)[0]
    up, down = (replace(row, rating=rating, correction="") for rating in ("up", "down"))
    assert [agrees(up, LABELS, ahead=ahead) for ahead in (0, 1, 2)] == [True, True, False]
    assert [agrees(up, (up.answer, "other"), ahead=ahead) for ahead in (0, 1)] == [True, False]
    assert agrees(down, LABELS, ahead=5) and not agrees(down, LABELS, ahead=0)
    told = replace(up, correction=f"{up.answer}; the code is 1234")
    assert not agrees(told, LABELS, ahead=0), "no label"


def test_probabilities_are_exact() -> None:
    assert so_few([0.5, 0.5], 0) == 0.25 and so_few([0.5, 0.25], 1) == 1 - 0.125 and so_few([], 0) == 1
    assert discovered({"a": 0.02, "b": 0.04, "c": 0.9}) == set()
    assert discovered({"a": 0.01, "b": 0.03, "c": 0.9}) == {"a", "b"}, "the second is let in by the first"


def test_votes_that_are_held_later_say_why() -> None:
    whole = make_dataset("m", honest_votes(ITEMS, LABELS, seed=3)[:100])
    ids = [one.row.feedback_id for one in whole.examples[:3]]
    left = whole.without(dict.fromkeys(ids, "why"), "suspects")
    assert len(left.examples) == len(whole.examples) - 3 and left.digest != whole.digest
    assert [(one.row.feedback_id, one.filter, one.why) for one in left.held[-3:]] == [
        (at, "suspects", "why") for at in ids
    ]
