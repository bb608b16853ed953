"""Checks displayed texts for invisible characters, and for those that reorder their surroundings."""

from __future__ import annotations

import unicodedata
from typing import Final

from ashore.core.errors import InvalidRequest

_BLANK_LETTERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks by their category, and yet nothing is seen of them."""
_SPACES: Final = "Zs"


def first_hidden(text: str) -> str:
    """Return the first invisible character of a text, such as `U+202E RIGHT-TO-LEFT OVERRIDE`; empty: none.

    Controls, line ends, format characters (bidirectional marks, zero widths, tags), surrogates and unassigned code
    points count as invisible. Spaces of every width do not.
    """
    if text.isascii() and text.isprintable():
        return ""
    for one in text:
        if one in _BLANK_LETTERS or not (one.isprintable() or unicodedata.category(one) == _SPACES):
            return f"U+{ord(one):04X} {unicodedata.name(one, '')}".rstrip()
    return ""


def on_a_screen(text: str) -> str:
    """Return a text of lines safe for a terminal: characters that would move the cursor, set the window title, hide,
    or reorder text become `�`. Line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in "\n\t" or not first_hidden(one) else "\ufffd" for one in text)


def check_line(text: str, what: str, *, most: int, param: str = "") -> str:
    """Check a one-line text that an operator or an auditor must be able to read.

    Args:
        text: The given text.
        what: Its name for the error: `the title`.
        most: Limit in characters.
        param: Name of the field that it came in.

    Raises:
        InvalidRequest: it is longer, or has an invisible character, which the message names.
    """
    if hidden := first_hidden(text):
        raise InvalidRequest(
            f"{what} has the invisible character {hidden}",
            hint="remove it; expected one line of visible text",
            param=param or None,
        )
    if len(text) > most:
        raise InvalidRequest(
            f"{what} has {len(text):,} characters",
            hint=f"at most {most:,}, on one line",
            param=param or None,
        )
    return text
