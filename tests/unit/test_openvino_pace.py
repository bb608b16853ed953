"""How many prompt tokens a step takes."""

from __future__ import annotations

import pytest

from ashore.data.engines.openvino.graph import BLOCK_TOKENS
from ashore.data.engines.openvino.pace import Pace, usual_size


def pace_of(tok_per_s: float) -> Pace:
    pace = Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25)
    pace.note(num_sequences=0, num_tokens=1000, seconds=1000 / tok_per_s)
    return pace


def test_before_any_reading_a_step_is_as_large_as_it_may_be() -> None:
    assert Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25).budget(decoding=0) == 512


@pytest.mark.parametrize(
    ("tok_per_s", "alone", "decoding"),
    [
        (10_000, 512, 508),
        (2_000, 448, 188),
        (1_700, 384, 124),
        (1_000, 192, 60),  # 250 and 100 tokens are what the time allows
        (500, 64, 46),
        (100, 32, 32),
    ],
)
def test_steps_with_pieces_of_prompts_have_one_of_a_few_lengths(tok_per_s: float, alone: int, decoding: int) -> None:
    pace = pace_of(tok_per_s)
    assert pace.budget(decoding=0) == alone
    assert pace.budget(decoding=4) == decoding


def test_a_pace_that_moves_a_little_leaves_the_pieces_as_they_are() -> None:
    lengths = {pace_of(1_600 + step).budget(decoding=0) for step in range(0, 150, 10)}
    assert lengths == {384}


@pytest.mark.parametrize("decoding", [0, 2, 15])
def test_a_pace_that_fell_while_the_processors_were_taken_comes_back(decoding: int) -> None:
    pace = Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25)

    def steps(count: int, slower: float) -> int:
        budget = 0
        for _ in range(count):
            budget = pace.budget(decoding=decoding)
            tokens = budget + decoding
            pace.note(num_sequences=decoding + 1, num_tokens=tokens, seconds=slower * (0.012 + 0.0004 * tokens))
        return budget

    before = steps(20, 1)
    assert steps(40, 20) <= 32
    assert steps(40, 1) == before


def test_next_tokens_after_long_contexts_are_bounded_by_what_they_were_seen_to_cost() -> None:
    pace = pace_of(2_000)
    assert pace.context_budget(stalls=0.5) is None
    pace.note(num_sequences=4, num_tokens=4, seconds=1, num_context=4000)  # what they cost besides is too much of it
    assert pace.context_budget(stalls=0.5) is None
    pace.note(num_sequences=4, num_tokens=4, seconds=0.08, num_context=16_000)
    assert pace.context_budget(stalls=0.5) == 10_000
    assert pace.context_budget(stalls=0) is None


def test_a_small_batch_bounds_the_pieces_whatever_the_pace() -> None:
    pace = Pace(max_batch_tokens=8, max_stall_s=0.1, max_prompt_step_s=0.25)
    pace.note(num_sequences=0, num_tokens=1000, seconds=1)
    assert pace.budget(decoding=4) == 8


def test_steps_have_few_sizes_and_little_is_filled_up() -> None:
    sizes = [usual_size(n) for n in range(1, 600)]
    assert sizes[:16] == list(range(1, 17)), "sequences that generate are computed as they are"
    assert len(set(sizes[16:])) < 45
    assert all(0 <= size - n < 16 <= BLOCK_TOKENS for n, size in enumerate(sizes, start=1))
    assert [usual_size(n) for n in (17, 64, 65, 80, 500)] == [24, 64, 80, 80, 512]
