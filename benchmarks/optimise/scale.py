"""How much the optimising benchmark does: everything, or so little that it only shows that it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_TOKENS: Final = 300_000
"""Of any training run, so that the whole table is made in hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of one run."""

    name: str
    num_train: int | None
    """Training items; None: all."""
    num_test: int | None
    epochs: int
    """Of fine-tuning."""
    student_epochs: int
    """Of teaching a student, which learns from nothing but the teacher and is half as dear."""
    heal_tokens: int
    rounds: int
    """Of each measurement of speed."""
    judged_tokens: int
    """Of the text that quantised forms are judged on."""


FULL: Final = Scale(
    name="full", num_train=None, num_test=None, epochs=4, student_epochs=5, heal_tokens=240_000, rounds=7,
    judged_tokens=8192,
)  # fmt: skip
"""3,520 items of about 17 tokens four times: 240,000 tokens; for a student five times: 300,000."""
HOURS: Final = Scale(
    name="hours", num_train=None, num_test=None, epochs=1, student_epochs=5, heal_tokens=60_000, rounds=5,
    judged_tokens=8192,
)  # fmt: skip
"""Every item, but each once by whoever learns from the answers: what two cores do in two hours, not in six."""
SMALL: Final = Scale(
    name="small", num_train=1280, num_test=320, epochs=1, student_epochs=1, heal_tokens=21_000, rounds=3,
    judged_tokens=2048,
)  # fmt: skip
SCALES: Final = {scale.name: scale for scale in (SMALL, HOURS, FULL)}
