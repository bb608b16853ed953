"""Sequence numbers of llama.cpp's memory: reuse within a partition, never across, and whom to forget first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashore.engines.llamacpp.slots import Slots
from ashore.engines.sampling import common_prefix

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
    slots = Slots(4, prefix_cache=True)
    assert ended(slots, A, LONG) == 0
    placement = slots.place(A, LONG)
    assert placement is not None
    assert placement.source is placement.slot
    assert placement.keep == len(LONG) - 1


def test_another_partition_or_adapter_gets_nothing() -> None:
    slots = Slots(4, prefix_cache=True)
    ended(slots, A, LONG)
    assert ended(slots, B, LONG) == 0
    assert ended(slots, ("bank-a", "adapter"), LONG) == 0


def test_a_running_sequence_is_copied_from_not_taken() -> None:
    slots = Slots(4, prefix_cache=True)
    first = slots.place(A, LONG)
    assert first is not None
    first.slot.ids = list(LONG)
    second = slots.place(A, [*LONG[:40], 1, 2, 3])
    assert second is not None
    assert second.source is first.slot is not second.slot
    assert second.keep == 40


def test_a_long_kept_sequence_is_copied_from_when_little_of_it_is_equal() -> None:
    slots = Slots(4, prefix_cache=True)
    ended(slots, A, LONG)
    placement = slots.place(A, [*LONG[:20], 7, 8, 9])
    assert placement is not None
    assert placement.source is not placement.slot
    assert placement.keep == 20


def test_a_few_equal_tokens_are_not_worth_it_and_the_cache_may_be_off() -> None:
    slots = Slots(4, prefix_cache=True)
    ended(slots, A, LONG)
    assert ended(slots, A, [*LONG[:5], 7, 8, 9]) == 0
    off = Slots(4, prefix_cache=False)
    ended(off, A, LONG)
    assert ended(off, A, LONG) == 0


def test_empty_slots_are_used_first_then_the_one_used_longest_ago() -> None:
    slots = Slots(2, prefix_cache=True)
    ended(slots, A, LONG)
    ended(slots, A, [n + 1000 for n in LONG])
    placement = slots.place(A, [n + 2000 for n in LONG])
    assert placement is not None
    slots.release(placement.slot)
    assert ended(slots, A, [n + 1000 for n in LONG]) == len(LONG) - 1, "the younger one is still there"


def test_nothing_is_placed_when_all_are_busy_and_eviction_spares_the_busy() -> None:
    slots = Slots(2, prefix_cache=True)
    first, second = slots.place(A, LONG), slots.place(B, LONG)
    assert first is not None
    assert second is not None
    first.slot.ids, second.slot.ids = list(LONG), list(LONG)
    assert slots.place(A, [1]) is None
    assert slots.to_evict() is None
    slots.release(second.slot)
    assert slots.to_evict() is second.slot
    slots.forget(second.slot)
    assert slots.to_evict() is None
    assert slots.num_tokens == len(LONG)


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_common_prefix_is_what_a_loop_counts(a: list[int], b: list[int]) -> None:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    assert common_prefix(a, b) == count
