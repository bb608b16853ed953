"""Normalises texts for detectors: full-width and foreign digits as ASCII, uniform dashes and spaces, nothing invisible.
Every position can be mapped back to the original text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import cache
from typing import Final

_DASHES: Final = "‐‑‒–—―−﹣⁃"
_DOTS: Final = "•‧∙⋅・･．"
_SPACES: Final = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Source: Unicode 16, Default_Ignorable_Code_Point; and the marks of annotations, U+FFF9 to U+FFFB."""

_GATE: Final = re.compile(
    "[\u00a0\u00ad\u034f\u061c\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef\u0e50-\u0e59\u115f\u1160\u1680"
    "\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u2000-\u2015\u2022\u2027\u202a-\u202f\u2043\u205f-\u206f\u2212\u2219\u22c5\u3000\u30fb\ufe00-\ufe0f\ufe63\ufeff"
    "\uff04\uff0b\uff0d-\uff19\uff20-\uff3a\uff3f\uff41-\uff5a\uff65\uffe5\U0001d7ce-\U0001d7ff]"
)
"""What makes folding necessary. Full-width brackets, commas and colons do not: every Chinese text has them."""

_FOLDED: Final = re.compile(_GATE.pattern + _GATE.pattern + "*")
"""`[…][…]*` rather than `[…]+`, here and elsewhere: a search skips to a set, and tries each place of a repetition."""
_ESCAPE: Final = re.compile(r"\\{1,4}(u[0-9A-Fa-f]{4}|[nrt\"/])")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "/": "/"}

_NUMERAL_CHARS: Final = "〇零幺一二三四五六七八九壹贰叁肆伍陆柒捌玖"
_NUMERALS: Final = re.compile(f"[{_NUMERAL_CHARS}][{_NUMERAL_CHARS}]{{6,}}")
"""A number spelt out digit by digit."""
_NUMERAL: Final = str.maketrans(_NUMERAL_CHARS, "001123456789123456789")


class Places:
    """Maps folded positions to the original text, by the few places where the two diverge."""

    __slots__ = ("_behind", "_from", "_kept_behind", "_kept_from", "_sizes")

    def __init__(self) -> None:
        self._from: list[int] = []
        """Positions behind escapes, in the text without them, and by how much the original is behind from there."""
        self._behind: list[int] = []
        self._sizes: dict[int, int] = {}
        """Of each escape, by its position."""
        self._kept_from: list[int] = []
        """The same of what is not seen, in the text without it."""
        self._kept_behind: list[int] = []

    def add_escape(self, at: int, size: int) -> None:
        """Record that the character at `at` was written with so many; in order."""
        self._sizes[at] = size
        self._from.append(at + 1)
        self._behind.append((self._behind[-1] if self._behind else 0) + size - 1)

    def add_unseen(self, at: int) -> None:
        """Record that one character was removed before the one at `at`; in order, after all escapes."""
        before = self._kept_behind[-1] if self._kept_behind else 0
        if self._kept_from and self._kept_from[-1] == at:
            self._kept_behind[-1] = before + 1
        else:
            self._kept_from.append(at)
            self._kept_behind.append(before + 1)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the original span of the folded characters `start` to `end`."""
        last = end - 1
        if self._kept_from:
            start, last = self._seen(start), self._seen(last)
        if not self._from:
            return start, last + 1
        return self._written(start), self._written(last) + self._sizes.get(last, 1)

    def _seen(self, at: int) -> int:
        step = bisect_right(self._kept_from, at)
        return at + self._kept_behind[step - 1] if step else at

    def _written(self, at: int) -> int:
        step = bisect_right(self._from, at)
        return at + self._behind[step - 1] if step else at


def fold(text: str, *, numerals: bool = True) -> tuple[str, Places | None]:
    """Return the folded text, and the original places of its characters; None if both are equal. `numerals`: a number
    that is spelt out becomes digits."""
    places: Places | None = None
    if "\\" in text and _ESCAPE.search(text):
        text, places = _without_escapes(text)
    if text.isascii():
        return text, places
    if _GATE.search(text):
        table = _table()
        text = _FOLDED.sub(lambda found: found[0].translate(table), text)
        if _UNSEEN.search(text):
            text, places = _without_unseen(text, places)
    if numerals and _NUMERALS.search(text):
        text = _NUMERALS.sub(lambda found: found[0].translate(_NUMERAL), text)
    return text, places


def is_unseen(text: str) -> bool:
    """Return whether nothing of a text is seen, so that nothing of it is left once it is folded."""
    return not text.isascii() and not _UNSEEN.sub("", text)


def _without_escapes(text: str) -> tuple[str, Places]:
    """Decode the escapes of JSON and of JSON within JSON: a number may be written with them."""
    places = Places()
    parts: list[str] = []
    at = shorter = 0
    for escape in _ESCAPE.finditer(text):
        start, end = escape.span()
        code = escape[1]
        parts.append(text[at:start])
        parts.append(chr(int(code[1:], 16)) if code[0] == "u" else _ESCAPED[code])
        places.add_escape(start - shorter, end - start)
        shorter += end - start - 1
        at = end
    parts.append(text[at:])
    return "".join(parts), places


def _without_unseen(text: str, places: Places | None) -> tuple[str, Places]:
    places = places or Places()
    for number, hidden in enumerate(_UNSEEN.finditer(text)):
        places.add_unseen(hidden.start() - number)
    return _UNSEEN.sub("", text), places


@cache
def _table() -> dict[int, str]:
    table = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    for char in "，：；！？（）":  # read as they are, so that a full-width bracket stays one
        table.pop(ord(char))
    table |= dict.fromkeys(map(ord, _DASHES), "-") | dict.fromkeys(map(ord, _DOTS), "·")
    table |= dict.fromkeys(map(ord, _SPACES), " ")
    table[0xFF0E] = "."
    table[0xFFE5] = "¥"
    for start in (0x660, 0x6F0, 0x966, 0x9E6, 0xE50, *range(0x1D7CE, 0x1D800, 10)):
        for code in range(start, start + 10):
            table[code] = str(unicodedata.decimal(chr(code)))
    return table
