"""The rules of releases: moves, weights, who gets which release, memory for two."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import Conflict, InvalidRequest, MemoryFull
from ashore.data.releases.model import WHOLE, ReleaseState
from ashore.data.releases.rules import (
    MOVES,
    MemoryFigures,
    after,
    check_memory,
    check_steps,
    check_weights,
    choose,
    next_name,
    with_share,
)

GIB = 1 << 30


def test_every_move_from_every_state_is_in_the_table_or_refused() -> None:
    for verb, allowed in MOVES.items():
        for state in get_args(ReleaseState):
            if state in allowed:
                assert after("chat-2", state, verb) in get_args(ReleaseState)
            else:
                with pytest.raises(Conflict, match=f"chat-2 is {state}"):
                    after("chat-2", state, verb)


def test_a_failed_release_goes_nowhere_and_its_owner_is_told_what_to_do() -> None:
    assert all("failed" not in allowed for allowed in MOVES.values())
    with pytest.raises(Conflict) as refused:
        after("chat-2", "failed", "promote")
    assert "release create" in refused.value.hint


def test_names_count_on_from_the_highest_of_the_alias() -> None:
    assert next_name("chat", []) == "chat-1"
    assert next_name("chat", ["chat-1", "chat-7", "chat-x", "other-9", "chat-old-12"]) == "chat-8"


WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1).map(
    lambda given: check_weights("chat", _to_whole(given))
)


def _to_whole(parts: dict[str, int]) -> dict[str, int]:
    total = sum(parts.values())
    scaled = {name: max(1, part * WHOLE // total) for name, part in parts.items()}
    first = max(scaled, key=lambda name: scaled[name])
    scaled[first] += WHOLE - sum(scaled.values())
    return scaled


@given(WEIGHTS, st.sampled_from("abcdefz"), st.integers(0, WHOLE))
def test_a_share_leaves_weights_that_come_to_the_whole(
    weights: tuple[tuple[str, int], ...], release: str, share: int
) -> None:
    after_ = with_share(weights, release, share)
    assert sum(weight for _, weight in after_) == WHOLE
    assert all(weight > 0 for _, weight in after_)
    if len(weights) > 1 or weights[0][0] != release:
        assert dict(after_).get(release, 0) == share


@given(st.integers(1, 900), st.integers(1, 99), st.lists(st.binary(min_size=1, max_size=12), min_size=50, max_size=50))
def test_nobody_leaves_a_release_whose_share_grows(share: int, more: int, keys: list[bytes]) -> None:
    base = (("live", WHOLE),)
    small, large = with_share(base, "new", share), with_share(base, "new", share + more)
    for key in keys:
        if choose(small, key) == "new":
            assert choose(large, key) == "new"


def test_keys_are_spread_as_the_weights_say() -> None:
    weights = (("a", 100), ("b", 300), ("c", 600))
    counts = Counter(choose(weights, b"key %d" % number) for number in range(20_000))
    for name, weight in weights:
        assert abs(counts[name] / 20_000 - weight / WHOLE) < 0.015


def test_weights_that_are_not_a_whole_are_refused_with_their_sum() -> None:
    with pytest.raises(InvalidRequest, match="add up to 90 %"):
        check_weights("chat", {"chat-1": 800, "chat-2": 100})
    with pytest.raises(InvalidRequest):
        check_weights("chat", {})
    with pytest.raises(InvalidRequest):
        check_weights("chat", {"chat-1": 1001, "chat-2": -1})


def test_steps_rise() -> None:
    assert check_steps(50, [200, 500]) == (200, 500)
    with pytest.raises(InvalidRequest, match="the steps are 5, 50, 20 %: each must be higher") as refused:
        check_steps(50, [500, 200])
    assert "5 % is the share that the canary begins with" in refused.value.hint


def test_memory_for_two_is_refused_with_both_figures_and_a_way_out() -> None:
    tight = MemoryFigures(needed_bytes=4 * GIB, free_bytes=3 * GIB)
    with pytest.raises(MemoryFull, match=r"4 GiB .* 3 GiB are free") as refused:
        check_memory("chat-2", tight, cold=False)
    assert "--cold-standby" in refused.value.hint
    check_memory("chat-2", tight, cold=True, gives_back_bytes=2 * GIB)
    with pytest.raises(MemoryFull, match="in place of the loaded releases"):
        check_memory("chat-2", tight, cold=True, gives_back_bytes=GIB // 2)
    check_memory("fake-2", MemoryFigures(needed_bytes=0, free_bytes=0), cold=False)
