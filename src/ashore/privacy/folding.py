"""Texts in the form that detectors read: full-width and foreign digits as ASCII, dashes and spaces of one kind, nothing
invisible. Every position can be traced back to the original text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final

_DASHES: Final = "‐‑‒–—―−﹣⁃"
_DOTS: Final = "•‧∙⋅・･．"
_SPACES: Final = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]"
)

_GATE: Final = re.compile(
    "[\u00a0\u00ad\u034f\u061c\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u09e6-\u09ef\u0e50-\u0e59\u1680\u180e"
    "\u2000-\u2015\u2022\u2027\u202a-\u202f\u2043\u205f-\u206f\u2212\u2219\u22c5\u3000\u30fb\ufe00-\ufe0f\ufe63\ufeff"
    "\uff04\uff0b\uff0d-\uff19\uff20-\uff3a\uff3f\uff41-\uff5a\uff65\uffe5\U0001d7ce-\U0001d7ff]"
)
"""What makes folding necessary. Full-width brackets, commas and colons do not: every Chinese text has them."""

_FOLDED: Final = re.compile(_GATE.pattern + "+")
_ESCAPE: Final = re.compile(r"\\{1,4}(u[0-9A-Fa-f]{4}|[nrt\"/])")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "/": "/"}

_NUMERALS: Final = re.compile("[〇零幺一二三四五六七八九壹贰叁肆伍陆柒捌玖]{7,}")
"""A number spelt out digit by digit."""
_NUMERAL: Final = str.maketrans("〇零幺一二三四五六七八九壹贰叁肆伍陆柒捌玖", "001123456789123456789")


Places = tuple[Sequence[int], Sequence[int]]
"""Of each folded character, where it begins in the original text and where it ends."""


def fold(text: str) -> tuple[str, Places | None]:
    """Return the folded text, and the original places of its characters; None: they are the same."""
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
    if _NUMERALS.search(text):
        text = _NUMERALS.sub(lambda found: found[0].translate(_NUMERAL), text)
    return text, places


def _without_escapes(text: str) -> tuple[str, Places]:
    """Read the escapes of JSON and of JSON within JSON: a number may be written with them."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for escape in _ESCAPE.finditer(text):
        parts.append(text[at : escape.start()])
        starts.extend(range(at, escape.start()))
        ends.extend(range(at + 1, escape.start() + 1))
        code = escape[1]
        parts.append(chr(int(code[1:], 16)) if code[0] == "u" else _ESCAPED[code])
        starts.append(escape.start())
        ends.append(escape.end())
        at = escape.end()
    parts.append(text[at:])
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return "".join(parts), (starts, ends)


def _without_unseen(text: str, places: Places | None) -> tuple[str, Places]:
    starts, ends = (range(len(text)), range(1, len(text) + 1)) if places is None else places
    kept_starts: list[int] = []
    kept_ends: list[int] = []
    parts: list[str] = []
    at = 0
    for hidden in _UNSEEN.finditer(text):
        parts.append(text[at : hidden.start()])
        kept_starts.extend(starts[at : hidden.start()])
        kept_ends.extend(ends[at : hidden.start()])
        at = hidden.end()
    parts.append(text[at:])
    kept_starts.extend(starts[at:])
    kept_ends.extend(ends[at:])
    return "".join(parts), (kept_starts, kept_ends)


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
