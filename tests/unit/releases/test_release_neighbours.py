"""Requests of a canary and of what is live in pairs: by how they began alone, so that equal ones stay equal."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from test_release_serving import ALICE, ask

from ashore.data.path.answer_listener import Trial
from ashore.data.path.differences import LEAST_PIECES
from ashore.data.path.model import Delta
from ashore.data.path.pairing import NEAR_S, Neighbours


def trial(began_s: float = 0.0) -> Trial:
    return Trial(request=ask(), principal=ALICE, model=None, began_s=began_s)  # type: ignore[arg-type]


def begun(kinds: str) -> list[tuple[int, int]]:
    """Begin requests in the order of `kinds`, C of the candidate and L of what is live; return who was paired."""
    pairs = Neighbours()
    all_of_them = [trial() for _ in kinds]
    for one, kind in zip(all_of_them, kinds, strict=True):
        pairs.begin(one, candidate=kind == "C")
    places = {id(one): place for place, one in enumerate(all_of_them)}
    partners = {places[id(one)]: places[id(one.partner)] for one in all_of_them if one.partner is not None}
    return [(one, other) for one, other in partners.items() if one < other]


@pytest.mark.parametrize(
    ("kinds", "pairs"),
    [
        ("LLCLL", [(1, 2)]),
        ("LCLLCL", [(0, 1), (4, 5)]),  # the live one began first, then the candidate's
        ("CLCCLC", [(0, 1), (4, 5)]),
        ("LCCL", [(0, 1), (2, 3)]),
        ("LLLL", []),
        ("CCCC", []),
    ],
)
def test_neighbours_are_of_both_kinds_and_each_is_used_once(kinds: str, pairs: list[tuple[int, int]]) -> None:
    assert begun(kinds) == pairs


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_in_half_of_the_pairs_either_began_first(share: float) -> None:
    draws = random.Random(1)
    kinds = "".join("C" if draws.random() < share else "L" for _ in range(4000))
    pairs = begun(kinds)
    first = sum(kinds[before] == "C" for before, _ in pairs)
    assert abs(2 * first - len(pairs)) <= 1
    assert len(pairs) > 0.55 * min(kinds.count("C"), kinds.count("L"))


def test_what_began_long_ago_is_no_neighbour() -> None:
    pairs, early, late = Neighbours(), trial(0.0), trial(NEAR_S + 0.1)
    pairs.begin(early, candidate=False)
    pairs.begin(late, candidate=True)
    assert late.partner is None and early.partner is None


@dataclass(slots=True)
class Running:
    """An answer on a machine that two hosts share."""

    trial: Trial
    candidate: bool
    work: float
    took_s: float = 0.0


@pytest.mark.parametrize(("clients", "beside"), [(2, 1.0), (2, 1.9), (3, 1.9), (16, 1.0)])
def test_equal_releases_take_equally_long_whatever_they_do_to_each_other(clients: int, beside: float) -> None:
    """Clients ask again when they have their answer. A host works a little slower with each more that it answers, and
    `beside` times as slowly while the other one works too. Beside the live answer that ended last, the candidate's
    would take longer in 54, 42, 48 and 51 of 100 pairs."""
    draws, now_s, pairs = random.Random(3), 0.0, Neighbours()
    ended: dict[int, Running] = {}

    def ask_again() -> Running:
        one = Running(trial(now_s), draws.random() < 0.5, 0.32 + 0.04 * draws.lognormvariate(0, 0.5))
        pairs.begin(one.trial, candidate=one.candidate)
        return one

    running = [ask_again() for _ in range(clients)]
    longer = []
    for _ in range(25_000):
        count = [sum(one.candidate is kind for one in running) for kind in (False, True)]
        pace = [1 / ((1 + 0.15 * (n - 1)) * (beside if all(count) else 1)) if n else 0 for n in count]
        place = min(range(clients), key=lambda n: running[n].work / pace[running[n].candidate])
        first = running[place]
        step_s = first.work / pace[first.candidate]
        now_s += step_s
        for one in running:
            one.work -= step_s * pace[one.candidate]
        first.took_s = now_s - first.trial.began_s
        ended[id(first.trial)] = first
        other = ended.get(id(first.trial.partner))
        if other is not None:
            mine, theirs = (first, other) if first.candidate else (other, first)
            longer.append(mine.took_s > theirs.took_s)
        running[place] = ask_again()
    assert len(longer) > 6_000
    assert abs(sum(longer) / len(longer) - 0.5) < 0.02


def test_an_answer_of_a_few_pieces_says_nothing_of_speed() -> None:
    for pieces, told in ((1, 0.0), (LEAST_PIECES - 1, 0.0), (LEAST_PIECES, 2.0)):
        one = trial()
        for number in range(pieces):
            one.hear(Delta(choice=0, text="a"), 2.0 * number)
        assert one.observation(failed=False).per_token_s == told
