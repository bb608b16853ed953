"""Sequence numbers of llama.cpp's memory: reuse within a partition, never across; whom to move out, whom to forget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ashore.data.engines.llamacpp.kept import KeptPrefix
from ashore.data.engines.llamacpp.slots import Slots
from ashore.data.engines.sampling import common_prefix

A, B = ("bank-a", ""), ("bank-b", "")
LONG = list(range(100, 160))


def ended(slots: Slots, partition: tuple[str, str], ids: list[int]) -> int:
    """Run a sequence from placing to its end; return how many tokens it kept."""
    placement = slots.place(partition, ids)
    assert placement is not None
    placement.slot.ids = list(ids)
    slots.release(placement.slot)
    return placement.keep


def test_an_ended_sequence_serves_the_next_of_its_partition_but_for_the_last_token() -> None:
    slots = Slots(4, most_kept=200)
    assert ended(slots, A, LONG) == 0
    placement = slots.place(A, LONG)
    assert placement is not None
    assert placement.source is placement.slot
    assert placement.keep == len(LONG) - 1


def test_another_partition_or_adapter_gets_nothing() -> None:
    slots = Slots(4, most_kept=200)
    ended(slots, A, LONG)
    assert ended(slots, B, LONG) == 0
    assert ended(slots, ("bank-a", "adapter"), LONG) == 0


def test_a_running_sequence_is_copied_from_not_taken() -> None:
    slots = Slots(4, most_kept=200)
    first = slots.place(A, LONG)
    assert first is not None
    first.slot.ids = list(LONG)
    second = slots.place(A, [*LONG[:40], 1, 2, 3])
    assert second is not None
    assert second.source is first.slot is not second.slot
    assert second.keep == 40


def test_a_long_kept_sequence_is_copied_from_when_little_of_it_is_equal() -> None:
    slots = Slots(4, most_kept=200)
    ended(slots, A, LONG)
    placement = slots.place(A, [*LONG[:20], 7, 8, 9])
    assert placement is not None
    assert placement.source is not placement.slot
    assert placement.keep == 20


def test_a_few_equal_tokens_are_not_worth_it_and_the_cache_may_be_off() -> None:
    slots = Slots(4, most_kept=200)
    ended(slots, A, LONG)
    assert ended(slots, A, [*LONG[:5], 7, 8, 9]) == 0
    off = Slots(4, most_kept=0)
    ended(off, A, LONG)
    assert ended(off, A, LONG) == 0


def test_empty_slots_are_used_first_then_the_one_used_longest_ago() -> None:
    slots = Slots(2, most_kept=200)
    ended(slots, A, LONG)
    ended(slots, A, [n + 1000 for n in LONG])
    placement = slots.place(A, [n + 2000 for n in LONG])
    assert placement is not None
    slots.release(placement.slot)
    assert ended(slots, A, [n + 1000 for n in LONG]) == len(LONG) - 1, "the younger one is still there"


def test_nothing_is_placed_when_all_are_busy_and_the_busy_are_not_moved_out() -> None:
    slots = Slots(2, most_kept=200)
    first, second = slots.place(A, LONG), slots.place(B, LONG)
    assert first is not None
    assert second is not None
    first.slot.ids, second.slot.ids = list(LONG), list(LONG)
    assert slots.place(A, [1]) is None
    assert slots.to_move_out() is None
    slots.release(second.slot)
    assert slots.to_move_out() is second.slot
    slots.forget(second.slot)
    assert slots.to_move_out() is None
    assert slots.num_tokens == len(LONG)


def moved_out(slots: Slots, partition: tuple[str, str], ids: list[int]) -> None:
    """Run a sequence to its end and move it out of the cells."""
    placement = slots.place(partition, ids)
    assert placement is not None
    placement.slot.ids = list(ids)
    slots.release(placement.slot)
    slots.keep_outside(placement.slot, np.zeros(len(ids), np.uint8))
    slots.forget(placement.slot)


def test_what_was_moved_out_serves_its_partition_and_no_other_and_the_longest_wins() -> None:
    slots = Slots(4, most_kept=200)
    moved_out(slots, A, LONG)
    assert slots.num_tokens == 0
    ended(slots, A, [*LONG[:30], 1, 2, 3])
    placement = slots.place(A, [*LONG, 7])
    assert placement is not None
    assert isinstance(placement.source, KeptPrefix)
    assert (placement.keep, placement.slot.ids) == (len(LONG), LONG)
    assert ended(slots, B, LONG) == 0
    assert ended(slots, A, [*LONG[:36], 7, 8]) == 36, "six more than the cells have are not worth a copy"


def test_a_prefix_far_longer_than_what_is_equal_is_not_copied() -> None:
    slots = Slots(4, most_kept=2000)
    moved_out(slots, A, [*LONG[:20], *range(1000)])
    assert ended(slots, A, [*LONG[:20], 7, 8]) == 0
    assert ended(slots, A, [*LONG[:20], *range(40)]) == 59


def test_kept_prefixes_stay_below_their_limit_and_the_one_used_longest_ago_goes_first() -> None:
    slots = Slots(4, most_kept=150)
    first, second, third = ([n + 1000 * place for n in LONG] for place in range(3))
    moved_out(slots, A, first)
    moved_out(slots, A, second)
    kept, shared = slots.kept.longest(A, first, beyond=0)
    assert kept is not None
    assert shared == len(LONG) - 1
    slots.kept.used(kept)
    moved_out(slots, A, third)
    found = [slots.kept.longest(A, ids, beyond=0)[1] > 0 for ids in (first, second, third)]
    assert found == [True, False, True]
    assert slots.kept.num_tokens == 2 * len(LONG)


def test_a_prefix_takes_the_place_of_those_that_it_begins_with() -> None:
    slots = Slots(4, most_kept=500)
    moved_out(slots, A, LONG[:40])
    moved_out(slots, B, LONG[:40])
    moved_out(slots, A, LONG)
    assert slots.kept.num_tokens == len(LONG) + 40


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_common_prefix_is_what_a_loop_counts(a: list[int], b: list[int]) -> None:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    assert common_prefix(a, b) == count
