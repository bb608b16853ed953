"""How many prompt tokens a step takes."""

from __future__ import annotations

import pytest

from ashore.engines.openvino.pace import Pace


def pace_of(tok_per_s: float) -> Pace:
    pace = Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25)
    pace.note(num_sequences=0, num_tokens=1000, seconds=1000 / tok_per_s)
    return pace


def test_before_any_reading_a_step_is_as_large_as_it_may_be() -> None:
    assert Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25).budget(decoding=False) == 512


@pytest.mark.parametrize(
    ("tok_per_s", "alone", "decoding"),
    [
        (10_000, 512, 512),
        (2_000, 448, 192),
        (1_700, 384, 128),
        (1_000, 192, 64),  # 250 and 100 tokens are what the time allows
        (500, 64, 50),
        (100, 32, 32),
    ],
)
def test_pieces_of_prompts_have_one_of_a_few_lengths(tok_per_s: float, alone: int, decoding: int) -> None:
    pace = pace_of(tok_per_s)
    assert pace.budget(decoding=False) == alone
    assert pace.budget(decoding=True) == decoding


def test_a_pace_that_moves_a_little_leaves_the_pieces_as_they_are() -> None:
    lengths = {pace_of(1_600 + step).budget(decoding=False) for step in range(0, 150, 10)}
    assert lengths == {384}
