"""Which examples make which step: every one once, rows within their bound, equal for equal seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.lab.training import Corpus, PackedBatches, make_corpus
from ashore.lab.training.batches import group_rows, pack_rows
from ashore.lab.training.loop import next_checkpoint_s, rate_share

LENGTHS = st.lists(st.integers(2, 50), min_size=1, max_size=80)


def corpus_of(lengths: list[int]) -> Corpus:
    return make_corpus([(range(100 * n, 100 * n + size), [True] * size) for n, size in enumerate(lengths)])


@given(LENGTHS, st.integers(50, 200), st.integers(1, 400))
def test_every_example_is_in_one_row_and_rows_and_steps_keep_their_bounds(
    lengths: list[int], row_tokens: int, batch_tokens: int
) -> None:
    sizes = np.array(lengths)
    rows = pack_rows(sizes, range(len(lengths)), row_tokens)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sizes[list(row)].sum() <= row_tokens for row in rows)
    steps = group_rows(rows, sizes, batch_tokens)
    assert [row for step in steps for row in step] == rows
    assert all(len(step) == 1 or sum(sizes[list(row)].sum() for row in step) <= batch_tokens for step in steps)


def test_rows_are_nearly_full() -> None:
    sizes = np.random.default_rng(1).integers(5, 120, 2000)
    rows = pack_rows(sizes, range(2000), 256)
    assert sizes.sum() / (256 * len(rows)) > 0.97


@given(LENGTHS, st.floats(0.1, 3.5), st.integers(0, 10_000), st.integers(0, 5))
def test_a_step_is_the_same_however_one_comes_to_it(
    lengths: list[int], epochs: float, max_tokens: int, seed: int
) -> None:
    def source() -> PackedBatches:
        return PackedBatches(
            corpus_of(lengths), row_tokens=64, batch_tokens=150, seed=seed, epochs=epochs, max_tokens=max_tokens
        )

    whole, again = source(), source()
    steps = [whole.batches(step) for step in range(whole.num_steps)]
    for step in reversed(range(whole.num_steps)):
        found = again.batches(step)
        assert [b.examples for b in found] == [b.examples for b in steps[step]]
    tokens = sum(b.num_tokens for step in steps for b in step)
    assert tokens == whole.num_tokens
    assert not max_tokens or tokens <= max_tokens or whole.num_steps == 1


def test_two_epochs_see_everything_twice_in_another_order() -> None:
    source = PackedBatches(corpus_of([10] * 30), row_tokens=20, batch_tokens=100, seed=0, epochs=2)
    seen = [i for step in range(source.num_steps) for b in source.batches(step) for i in b.examples]
    assert sorted(seen) == sorted([*range(30), *range(30)])
    assert seen[:30] != seen[30:]


def test_a_batch_says_where_each_token_stands_and_never_asks_for_the_first() -> None:
    corpus = make_corpus([((5, 6, 7), (True, True, False)), ((8, 9), (False, True))])
    batch = corpus.batch((1, 0))
    assert batch.ids_T.tolist() == [8, 9, 5, 6, 7]
    assert batch.positions_T.tolist() == [0, 1, 0, 1, 2]
    assert batch.targets_T.tolist() == [False, True, False, True, False]
    assert batch.lengths == (2, 3)


def test_a_corpus_that_does_not_fit_is_our_own_mistake() -> None:
    for corpus in (corpus_of([]), corpus_of([65]), make_corpus([((1, 2), (False, False))])):
        with pytest.raises(ValueError):
            PackedBatches(corpus, row_tokens=64, batch_tokens=64, seed=0)


def test_the_rate_rises_and_falls_to_its_last_share() -> None:
    shares = [rate_share(step, num_steps=100) for step in range(100)]
    assert max(shares) == shares[5] == 1.0
    assert shares[:6] == sorted(shares[:6]) and shares[5:] == sorted(shares[5:], reverse=True)
    assert shares[-1] == pytest.approx(0.1)
    assert rate_share(0, num_steps=1) == 1.0


def test_checkpoints_cost_a_twentieth_of_the_time_at_most() -> None:
    assert next_checkpoint_s(0.0) == 30
    assert next_checkpoint_s(6.0) == 120
