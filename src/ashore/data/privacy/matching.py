"""Finds placeholders and pseudonyms in an answer as the model wrote them: case and brackets may differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ashore.data.privacy.table import Restorable

_OPEN: Final = "[［【(（<{〔「《"
_PLACEHOLDER: Final = re.compile(
    r"\\?[\[［【(（<{〔「《]\s{0,2}\\?"
    r"([A-Za-zＡ-Ｚａ-ｚ](?:[A-Za-zＡ-Ｚａ-ｚ0-9０-９]|[\s_＿\\-]{1,3}(?=[A-Za-zＡ-Ｚａ-ｚ0-9０-９])){0,48})"
    r"\s{0,2}\\?[\]］】)）>}〕」》]"
)
MOST_PLACEHOLDER_CHARS: Final = 64
_FULL: Final = {
    code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_GAPS: Final = re.compile(r"[\s_＿\\-]")
_WITHIN: Final = re.compile(r"[A-Za-zＡ-Ｚａ-ｚ0-9０-９\s_＿\\-]*\Z")
_LOOSE: Final = frozenset(("phone", "bank_card", "id_card", "credit_code", "iban", "ssn", "passport", "travel_permit"))
_LOOSE_GAPS: Final = re.compile(r"[ \-.·]")


class StandIns:
    """The restorable stand-ins of one request's table, indexed for search."""

    def __init__(self, entries: Sequence[Restorable]) -> None:
        self._placeholders = {_key(one.kind, one.number): one for one in entries if one.placeholder}
        self._pseudonyms: dict[str, Restorable] = {}
        patterns = []
        for one in sorted((e for e in entries if not e.placeholder), key=lambda e: -len(e.stand_in)):
            if one.kind in _LOOSE:
                bare = _LOOSE_GAPS.sub("", one.stand_in)
                pattern = r"[ \-.·]?".join(map(re.escape, bare))
            else:
                bare, pattern = one.stand_in, re.escape(one.stand_in)
            if bare.casefold() not in self._pseudonyms:
                self._pseudonyms[bare.casefold()] = one
                patterns.append(
                    rf"(?<![0-9]){pattern}(?![0-9])" if bare[:1].isdigit() and bare[-1:].isdigit() else pattern
                )
        self._exact = {one.stand_in: one for one in entries if not one.placeholder}
        self._pattern = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
        self._firsts = {bare[0] for bare in self._pseudonyms}
        self._longest = max((2 * len(bare) for bare in self._pseudonyms), default=0)

    def __bool__(self) -> bool:
        return bool(self._placeholders or self._pseudonyms)

    def find(self, text: str) -> list[tuple[int, int, Restorable]]:
        """Return the positions of stand-ins in a text, in order, without overlaps."""
        found = [*self._find_placeholders(text), *self._find_pseudonyms(text)]
        found.sort(key=lambda one: one[0])
        kept: list[tuple[int, int, Restorable]] = []
        for one in found:
            if not kept or kept[-1][1] <= one[0]:
                kept.append(one)
        return kept

    def open_from(self, text: str, at: int) -> int:
        """Return the start in `text[at:]` of an ending that more text could complete to a stand-in."""
        held = len(text)
        if self._placeholders:
            start = max(at, len(text) - MOST_PLACEHOLDER_CHARS)
            for place in range(start, len(text)):
                if text[place] in _OPEN and _WITHIN.match(text, place + 1):
                    inside = _bare(text[place + 1 :])
                    if any(key.startswith(inside) for key in self._placeholders):
                        held = place - 1 if place > at and text[place - 1] == "\\" else place
                        break
            if held == len(text) and held > at and text[-1] == "\\":
                held -= 1
        if self._pseudonyms:
            for place in range(max(at, len(text) - self._longest), held):
                if text[place].casefold() in self._firsts and self._may_begin(text[place:]):
                    return place
        return held

    def _may_begin(self, tail: str) -> bool:
        whole, loose = tail.casefold(), _LOOSE_GAPS.sub("", tail).casefold()
        return (
            any(bare.startswith(loose if one.kind in _LOOSE else whole) for bare, one in self._pseudonyms.items())
            or loose in self._pseudonyms
        )

    def _find_placeholders(self, text: str) -> Iterator[tuple[int, int, Restorable]]:
        if not self._placeholders:
            return
        at = 0
        while (found := _PLACEHOLDER.search(text, at)) is not None:
            one = self._placeholders.get(_bare(found[1]))
            if one is None:
                at = found.start() + 1
                continue
            start, end = found.span()
            if text[start] == "\\" and text[end - 2] != "\\":  # the backslash is part of the text
                start += 1
            yield start, end, one
            at = end

    def _find_pseudonyms(self, text: str) -> Iterator[tuple[int, int, Restorable]]:
        if self._pattern is None:
            return
        for found in self._pattern.finditer(text):
            one = self._exact.get(found[0]) or self._pseudonyms.get(found[0].casefold())
            one = one or self._pseudonyms.get(_LOOSE_GAPS.sub("", found[0]).casefold())
            if one is not None:
                yield found.start(), found.end(), one


def _key(kind: str, number: str) -> str:
    return _GAPS.sub("", kind).upper() + number.upper()


def _bare(text: str) -> str:
    return _GAPS.sub("", text.translate(_FULL)).upper()
