"""The bounded map: what it holds, what it lets go, and that it never holds more than its bytes."""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.data.cache.tinylfu import Sketch, TinyLfu


def key(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=32).digest()


def zipf(rng: random.Random, num_keys: int, num_requests: int) -> list[int]:
    return rng.choices(range(num_keys), [1 / rank for rank in range(1, num_keys + 1)], k=num_requests)


def hit_rate_of_lru(trace: list[int], capacity: int) -> float:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number in trace:
        if number in held:
            hits += 1
            held.move_to_end(number)
        else:
            held[number] = None
            if len(held) > capacity:
                held.popitem(last=False)
    return hits / len(trace)


def test_what_was_put_is_got_until_it_is_removed() -> None:
    held: TinyLfu[str] = TinyLfu(10_000)
    assert held.put(key(1), "one", 100)
    assert held.put(key(1), "uno", 200)
    assert (held.get(key(1)), held.num_bytes, len(held)) == ("uno", 200, 1)
    held.remove(key(1))
    held.remove(key(1))
    assert (held.get(key(1)), held.num_bytes, len(held)) == (None, 0, 0)


def test_an_entry_heavier_than_the_map_is_refused_and_pushes_nothing_out() -> None:
    held: TinyLfu[str] = TinyLfu(10_000)
    held.put(key(1), "one", 100)
    assert not held.put(key(2), "huge", 9_999_999)
    assert (held.get(key(1)), held.get(key(2)), held.evictions) == ("one", None, 1)


def test_a_scan_of_new_keys_does_not_push_out_what_is_asked_for() -> None:
    held: TinyLfu[int] = TinyLfu(100_000)
    for _ in range(20):
        for number in range(50):
            if held.get(key(number)) is None:
                held.put(key(number), number, 1000)
    for number in range(1_000, 11_000):
        if held.get(key(number)) is None:
            held.put(key(number), number, 1000)
    assert sum(held.peek(key(number)) is not None for number in range(50)) >= 48


def test_one_heavy_newcomer_does_not_push_out_many_that_are_asked_for_more_in_all() -> None:
    held: TinyLfu[int] = TinyLfu(100_000)
    for _ in range(5):
        for number in range(99):
            if held.get(key(number)) is None:
                held.put(key(number), number, 1000)
    for _ in range(8):
        if held.get(key(1_000)) is None:
            held.put(key(1_000), 1_000, 50_000)
    assert held.peek(key(1_000)) is None
    assert len(held) >= 95


def test_it_hits_more_than_lru_on_a_zipf_trace() -> None:
    trace = zipf(random.Random(7), 5_000, 40_000)
    held: TinyLfu[int] = TinyLfu(500 * 1000)
    hits = 0
    for number in trace:
        if held.get(key(number)) is not None:
            hits += 1
        else:
            held.put(key(number), number, 1000)
    assert hits / len(trace) > 1.06 * hit_rate_of_lru(trace, 500)


def test_a_sketch_never_counts_too_low_between_halvings_and_fades_after() -> None:
    sketch = Sketch()
    sketch.grow(10_000)
    for number in range(300):
        for _ in range(number % 7):
            sketch.add(key(number))
    assert all(sketch.count(key(number)) >= number % 7 for number in range(300))
    before = sketch.count(key(6))
    for number in range(400_000):
        sketch.add(key(1_000_000 + number % 50_000))
    assert sketch.count(key(6)) <= before + 15


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "remove", "peek"]), st.integers(0, 40), st.integers(1, 4_000)),
        max_size=300,
    )
)
def test_books_agree_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    left: list[tuple[int, bool]] = []
    held: TinyLfu[int] = TinyLfu(10_000, left=lambda one, value, weight, for_room: left.append((weight, for_room)))
    weights: dict[bytes, int] = {}
    given: list[int] = []
    for what, number, weight in steps:
        one = key(number)
        match what:
            case "put":
                held.put(one, weight, weight)
                weights[one] = weight
                given.append(weight)
            case "get":
                assert held.get(one) in (None, weights.get(one))
            case "remove":
                held.remove(one)
                assert one not in held
            case _:
                assert (held.peek(one) is not None) == (one in held)
        assert held.num_bytes <= held.max_bytes
        assert held.num_bytes == sum(weights[one] for one in held)
        assert len(list(held)) == len(held)
        assert (len(given) - len(left), sum(given) - sum(one for one, _ in left)) == (len(held), held.num_bytes)
        assert sum(for_room for _, for_room in left) == held.evictions
