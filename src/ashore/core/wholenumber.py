"""Parses clients' whole numbers: ASCII digits of bounded length."""

from __future__ import annotations

from typing import Final

MOST_DIGITS: Final = 18
"""More than any bound of ours has; `int` refuses a text of some thousand digits with an error of its own."""


def whole_number(text: str | bytes) -> int | None:
    """Return the number in `text`; None for anything but 1 to 18 of the digits 0-9.

    `str.isdigit` also takes superscripts and other digits that `int` may not read.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
