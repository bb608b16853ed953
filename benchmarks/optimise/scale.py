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
    """Of fine-tuning and of teaching alike."""
    heal_tokens: int
    rounds: int
    """Of each measurement of speed."""
    judged_tokens: int
    """Of the text that quantised forms are judged on."""


FULL: Final = Scale(
    name="full", num_train=None, num_test=None, epochs=4, heal_tokens=240_000, rounds=7, judged_tokens=8192
)
"""3,520 items of about 17 tokens four times: 240,000 tokens."""
SMALL: Final = Scale(
    name="small", num_train=1280, num_test=320, epochs=1, heal_tokens=21_000, rounds=3, judged_tokens=2048
)
SCALES: Final = {scale.name: scale for scale in (SMALL, FULL)}
