"""What a comparison says in words, and when a promotion has to say why."""

from __future__ import annotations

import pytest

from ashore.control.releases import verdict_words
from ashore.control.releases.words import needs_override
from ashore.data.releases import BY_NAME, EVERYTHING, Finding, Tally, look, observed, step_slice


def tallies(**means: tuple[float, int]) -> dict[tuple[str, str], Tally]:
    """Return tallies of so many observations of one value each."""
    found = {}
    for name, (value, count) in means.items():
        tally = Tally()
        for _ in range(count):
            tally = tally + observed(BY_NAME[name], value)
        found[name, EVERYTHING] = tally
    return found


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"errors": (0.0, 1)}, "undecided after 1 of about 134 requests; nothing speaks against it"),
        ({"errors": (0.0, 10)}, "undecided after 10 of about 134 requests; nothing speaks against it"),
        ({"errors": (0.0, 200)}, "no worse after 200 requests"),
        ({"errors": (0.0, 10), "likelihood": (0.32, 3)},
         "undecided after 10 requests; likelihood 0.32 nats a token worse (limit 0.12)"),
        ({"errors": (1.0, 2)}, "undecided after 2 requests; errors: 100.0% more of its requests fail (limit 3%)"),
        ({"errors": (1.0, 40)}, "worse after 40 requests; errors: 100.0% more of its requests fail (limit 3%)"),
        ({"defects": (0.5, 99)},
         "worse after 99 requests; defects: 50.0% more of its answers are defective (limit 10%)"),
        ({"slower": (1.0, 60)}, "worse after 60 requests; slower: 1.48 times as long for a token (limit 1.20)"),
    ],
)  # fmt: skip
def test_a_finding_is_one_sentence_with_progress_and_limit(seen: dict[str, tuple[float, int]], words: str) -> None:
    assert verdict_words(look(tallies(**seen))) == words


def test_the_sentence_names_the_slice_and_the_judge() -> None:
    bad = Finding(verdict="worse", e_value=30, count=9, measure="errors", slice="tenant acme", mean=0.25)
    assert (
        verdict_words(bad)
        == "worse after 9 requests; errors in tenant acme: 25.0% more of its requests fail (limit 3%)"
    )
    judged = Finding(verdict="worse", e_value=30, count=9, measure="judge json", mean=0.5)
    assert "judge json: 50.0% more of its answers do not pass (limit 10%)" in verdict_words(judged)
    liked = Finding(verdict="worse", e_value=30, count=9, measure="preference of mine", mean=0.8)
    assert "preference of mine: 0.80 against it, 0.5 is even (limit 0.65)" in verdict_words(liked)


@pytest.mark.parametrize("count", [3, 50, 130])
def test_the_progress_is_what_it_really_takes(count: int) -> None:
    about = look(tallies(errors=(0.0, count), defects=(0.0, count))).needed
    assert look(tallies(errors=(0.0, about), defects=(0.0, about))).verdict == "no worse"
    assert look(tallies(errors=(0.0, about - 1), defects=(0.0, about - 1))).verdict == "go on"


def test_no_progress_is_told_where_the_present_share_has_seen_nothing() -> None:
    assert look(tallies(errors=(0.0, 50)), within=step_slice(500)).needed == 0
    assert look({}).needed == 0


FINE = Finding(verdict="no worse", e_value=0.1, count=300)
OPEN = Finding(verdict="go on", e_value=1.0, count=8)
NOTHING = Finding(verdict="go on", e_value=1.0, count=0)
WORSE = Finding(verdict="worse", e_value=312, count=45, measure="likelihood", mean=0.32)


@pytest.mark.parametrize(
    ("found", "answered", "says"),
    [
        ([], False, "never compared"),
        ([], True, ""),
        ([("shadow", NOTHING)], False, "never compared"),
        ([("shadow", OPEN)], False, ""),
        ([("canary", FINE)], False, ""),
        ([("shadow", WORSE)], False, "found worse as shadow: worse after 45 requests; likelihood 0.32 nats"),
        ([("shadow", WORSE), ("canary", FINE)], False, "found worse as shadow"),
        ([("shadow", FINE), ("canary", WORSE)], False, "found worse as canary"),
        ([("live", WORSE)], True, "found worse as live"),
    ],
)
def test_who_promotes_what_is_worse_or_was_never_compared_says_why(
    found: list[tuple[str, Finding]], answered: bool, says: str
) -> None:
    reason = needs_override("chat-7", found, answered=answered)
    assert says in reason and bool(reason) == bool(says)
