"""What is held back from a data set, and what is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from benchmarks.learning.votes import ATTACKS, Attack, attacked, honest_votes
from benchmarks.optimise.task import definitions, kinds

from ashore.data.feedback.dataset import make_dataset
from ashore.data.feedback.filters import Row, beta_below, binomial_below, plain, poisson_tail, secret_like
from ashore.data.feedback.model import Said
from ashore.lab.learning.judging import lost_by_chance

ITEMS = definitions("train")
LABELS = kinds(ITEMS)


def row(number: int, **fields: object) -> Row:
    base = Row(
        feedback_id=f"fb_{number}",
        tenant="default",
        account="alice",
        voter="alice",
        messages=(Said("user", f"question {number}"),),
        answer="wrong",
        correction="right",
        rating="down",
        digest=str(number),
        created_ms=number * 60_000,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def why(rows: list[Row], **options: object) -> dict[str, str]:
    return {one.row.feedback_id: one.filter for one in make_dataset("m", rows, **options).held}  # type: ignore[arg-type]


@pytest.mark.parametrize("colluders", [1, 10])
@pytest.mark.parametrize("attack", ATTACKS)
def test_votes_of_attackers_are_held_and_those_of_others_are_not(attack: Attack, colluders: int) -> None:
    rows = honest_votes(ITEMS, LABELS, seed=1)
    poisoned, bad = attacked(rows, attack, LABELS, share=0.05, colluders=colluders, seed=1)
    found = make_dataset("m", poisoned)
    left = sum(one.row.person in bad for one in found.examples)
    assert left <= (0.02 * len(rows) if (attack, colluders) == ("flip", 10) else 0)
    wronged = [one for one in found.held if one.row.person not in bad and one.filter != "caps"]
    assert wronged == []


def test_honest_votes_pass_but_for_what_one_person_gives_too_many_of() -> None:
    found = make_dataset("m", honest_votes(ITEMS, LABELS, seed=2))
    assert set(found.held_counts) == {"caps"} and found.held_counts["caps"] < 0.03 * len(ITEMS)
    assert set(found.counts) == {"up", "down", "correction"}


def test_what_cannot_be_learned_and_what_is_there_twice_is_left_out() -> None:
    rows = [
        row(1, answer="", correction=""),
        row(2, messages=(Said("user", "q"), Said("tool", "r"))),
        row(3, rating="", correction=""),
        row(4, correction=" Wrong. "),
        row(5, digest="same"),
        row(6, digest="same"),
        row(7),
    ]
    assert why(rows) == {**dict.fromkeys(("fb_1", "fb_2", "fb_3", "fb_4"), "unfit"), "fb_5": "duplicates"}


def test_secrets_in_corrections_are_held_of_reviewers_too() -> None:
    rows = [
        row(1, correction="the key is QX7-4419-KLM82"),
        row(2, correction="call [PHONE_1]"),
        row(3, correction="order AB12-3456-CD", answer="not order AB12-3456-CD"),
        row(4, correction="say 1234", voter="expert"),
        row(5, correction="pass s3cr3t-99x-A7", voter="expert"),
    ]
    assert why(rows) == dict.fromkeys(("fb_1", "fb_2", "fb_5"), "secrets")
    assert secret_like("a plain sentence about the year 2024-11-28 and deepseek-v3") == []


def test_who_votes_faster_than_one_reads_is_held_unless_a_reviewer() -> None:
    fast = [row(n, created_ms=n * 100, num_tokens=200) for n in range(8)]
    assert set(why(fast).values()) == {"bursts"} and len(why(fast)) == 8
    assert why([replace(one, voter="expert") for one in fast]) == {}
    assert why([row(n, num_tokens=200) for n in range(8)]) == {}


def test_the_minority_on_a_question_is_held_and_a_draw_is_held_whole() -> None:
    def on(question: str, person: str, number: int, says: str) -> Row:
        return row(number, digest=question, voter=person, account=person, correction=says)

    rows = [
        on("q", "a", 1, "x"),
        on("q", "b", 2, "X."),
        on("q", "c", 3, "y"),
        on("d", "a", 4, "x"),
        on("d", "b", 5, "y"),
    ]
    assert why(rows) == dict.fromkeys(("fb_3", "fb_4", "fb_5"), "contradictions")


def test_who_is_wrong_where_the_answer_is_known_is_held_with_all_votes() -> None:
    canaries = {plain(f"question {n}"): "right" for n in range(6)}
    liar = [row(n, voter="liar", account="liar", correction="left") for n in range(10)]
    honest = [row(20 + n, messages=(Said("user", f"question {n}"),), digest=str(90 + n)) for n in range(10)]
    found = why([*liar, *honest], reference=canaries)
    assert found == {one.feedback_id: "distrust" for one in liar}


def test_far_more_of_a_kind_than_before_is_held() -> None:
    past = honest_votes(ITEMS[:400], LABELS, seed=3)
    wave = [
        row(9000 + n, voter=f"w{n}", account=f"w{n}", answer="animal", correction="plant", digest=f"w{n}")
        for n in range(40)
    ]
    now = [*honest_votes(ITEMS[400:800], LABELS, seed=4), *wave]
    held = make_dataset("m", now, past=past).held
    assert {one.row.feedback_id for one in held if one.filter == "shift"} >= {one.feedback_id for one in wave}
    assert len([one for one in held if one.filter == "shift"]) <= 45


def test_one_tenant_gives_at_most_half() -> None:
    rows = [row(n, tenant="loud", voter=f"u{n % 9}", account=f"u{n % 9}") for n in range(90)]
    rows += [row(200 + n, tenant="calm", voter=f"u{n % 9}", account=f"u{n % 9}") for n in range(30)]
    kept = [one.row.tenant for one in make_dataset("m", rows).examples]
    assert kept.count("loud") == kept.count("calm") == 30


def test_equal_votes_make_equal_data_sets_and_others_do_not() -> None:
    rows = [row(n) for n in range(5)]
    assert make_dataset("m", rows).digest == make_dataset("m", rows[::-1]).digest
    changed = [*rows[:4], replace(rows[4], correction="other")]
    assert make_dataset("m", changed).digest != make_dataset("m", rows).digest


def test_tails_are_those_of_the_tables() -> None:
    assert math.isclose(poisson_tail(3, 1.0), 1 - 2.5 * math.exp(-1))
    assert 0 < poisson_tail(60, 1.0) < 1e-60
    assert math.isclose(beta_below(0.5, 3, 3), 0.5)
    assert beta_below(0.6, 1, 9) > 0.99


def test_tails_hold_however_many_votes_one_person_gives() -> None:
    """With 1,030 and more, a binomial coefficient is larger than any floating-point number."""
    assert math.isclose(binomial_below(1500, 3000, 0.5), 0.507283, rel_tol=1e-5)
    assert beta_below(0.6, 1500, 4000) > 0.99
    assert poisson_tail(2000, 800.0) < 1e-100, "of a mean whose exponential is no number either"
    assert 0.4 < lost_by_chance([1.0, 0.0] * 1500, [0.0, 1.0] * 1500) < 0.6
