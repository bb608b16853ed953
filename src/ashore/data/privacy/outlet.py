"""Unmasks a streamed answer: stand-ins become values again, and new personal data from the model is masked or stops the
answer. The output does not depend on where the pieces end.

Only text that could still become a match is held back, at most `MOST_HELD_CHARS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ashore.data.privacy.model import Entity, Finder
from ashore.data.privacy.policy import AnswerAction
from ashore.data.privacy.table import Restorable, Table, blocked, plain_of
from ashore.data.privacy.tables import PLATE_PLACES

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
MOST_HELD_CHARS: Final = 24_000
CONTEXT_CHARS: Final = 48
"""Sent text that is read again with the next piece: a label explains the number after it."""
AFTERWARDS_CHARS: Final = 14
"""Distance at which a word after a number may still explain it."""
WORDS_HELD_CHARS: Final = 64
"""Held back always where names, addresses or the operator's own kinds are looked for: they have no form that tells."""

SHORT_CHARS: Final = 512
"""What is held is read again with each piece until it is longer; then once it has grown by an eighth, or ends."""

_CHAIN_CHARS: Final = 96
_ENDS: Final = r"\s\u3001-\u3002\u4e00-\u9fff，；！？"
_RUN: Final = re.compile(rf"[^{_ENDS}]*\Z")
_END_OF_RUN: Final = re.compile(f"[{_ENDS}]")
_LIVE: Final = re.compile(r"[0-9０-９@＠\u0660-\u0669\u06f0-\u06f9]")
_NUMERALS: Final = re.compile(r"[〇零幺一二三四五六七八九壹贰叁肆伍陆柒捌玖]+\Z")
_FORMLESS: Final = frozenset(("name", "address"))
_BEGIN: Final = "-----BEGIN"
_END: Final = re.compile("-----END [A-Z0-9 ]{0,60}-----")


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


class AnswerGuard:
    """Finds personal data that the request did not contain. One for each request."""

    def __init__(self, finder: Finder, actions: Mapping[str, AnswerAction], table: Table) -> None:
        self._finder = finder
        self._actions = {kind: action for kind, action in actions.items() if action != "allow"}
        self._table = table
        self._always = WORDS_HELD_CHARS if any(_is_formless(kind) for kind in self._actions) else 0
        self.counts: dict[tuple[str, str], int] = {}

    def unheard(self) -> AnswerGuard:
        """Return one for what a client sees beside the text: it finds and blocks the same, and counts for nobody."""
        return AnswerGuard(self._finder, self._actions, self._table)

    def find(self, text: str) -> list[tuple[Entity, AnswerAction]]:
        """Return new entities in a text that must not be sent as they are."""
        found: list[tuple[Entity, AnswerAction]] = []
        for one in self._finder.find(text):
            action = self._actions.get(one.kind)
            if action and not self._table.knows(one.kind, plain_of(one.kind, text[one.start : one.end])):
                found.append((one, action))
        return found

    def count(self, kind: str, action: AnswerAction) -> None:
        """Count the entities found.

        Raises:
            PersonalDataBlocked: it must not be sent at all.
        """
        self.counts[kind, action] = self.counts.get((kind, action), 0) + 1
        if action == "block":
            raise blocked({kind: 1}, "the answer")

    def open_from(self, text: str, at: int) -> int:
        """Return the start in `text[at:]` of an ending that more text could complete to personal data."""
        held = max(at, len(text) - self._always)
        key = text.rfind(_BEGIN, at)
        if key >= 0 and not _END.search(text, key):
            return min(held, key)
        dashes = len(text) - len(text.rstrip("-BEGIN"))
        if dashes and text[len(text) - dashes] == "-":
            held = min(held, max(at, len(text) - dashes))
        numerals = _NUMERALS.search(text, at)
        if numerals:
            held = min(held, numerals.start())
        last = _RUN.search(text, max(at, len(text) - MOST_HELD_CHARS))
        if last is not None:
            held = min(held, last.start())
        place = max((m.start() for m in _LIVE.finditer(text, max(at, held - AFTERWARDS_CHARS))), default=-1)
        if place >= 0:
            held = min(held, _chain(text, at, place))
        return _with_neighbour(text, at, _chain(text, at, held) if held < len(text) else held)


class Outlet:
    """One text stream of an answer: a choice's content, its reasoning, or the arguments of one call."""

    def __init__(self, stand_ins: StandIns, guard: AnswerGuard | None, *, as_json: bool = False) -> None:
        """Create it.

        Args:
            stand_ins: The stand-ins to restore.
            guard: Finds new personal data; None: it is not checked.
            as_json: The text is JSON, so values are escaped as in a string.
        """
        self._stand_ins = stand_ins
        self._guard = guard
        self._as_json = as_json
        self._text = ""
        self._at = 0
        self._look_at = 0
        """Length of what is held at which it is read again, if it is long."""
        self.num_masked = 0
        """Number of newly masked entities."""

    @property
    def holds(self) -> bool:
        """Whether text is held back."""
        return self._at < len(self._text)

    def feed(self, piece: str) -> str:
        """Take the next piece and return the text to send.

        Raises:
            PersonalDataBlocked: the answer contains data that must not be sent.
        """
        self._text += piece
        held = len(self._text) - self._at
        if SHORT_CHARS < held < self._look_at and (_NUMERALS.fullmatch(piece) or not _END_OF_RUN.search(piece)):
            return ""
        told = self._flush(final=False)
        self._look_at = min((len(self._text) - self._at) * 9 // 8, MOST_HELD_CHARS + 1)
        return told

    def end(self) -> str:
        """Return the rest.

        Raises:
            PersonalDataBlocked: the answer contains data that must not be sent.
        """
        return self._flush(final=True)

    def _flush(self, *, final: bool) -> str:
        text, at = self._text, self._at
        if at == len(text):
            return ""
        back = self._stand_ins.find(text[at:]) if self._stand_ins else []
        spots: list[tuple[int, int, str, tuple[str, AnswerAction] | None]] = [
            (at + start, at + end, self._written(one.original), None) for start, end, one in back
        ]
        behind = spots[-1][1] if spots else at
        cut = len(text)
        if not final:
            if self._stand_ins:
                cut = self._stand_ins.open_from(text, behind)
            if self._guard is not None:
                cut = min(cut, self._guard.open_from(text, behind))
            if len(text) - cut > MOST_HELD_CHARS:
                cut = len(text)
            if cut <= at:
                return ""
        if self._guard is not None:
            later = iter(tuple(spots))
            spot = next(later, None)
            for entity, action in self._guard.find(text):
                start, end = max(entity.start, at), entity.end
                while spot is not None and spot[1] <= start:
                    spot = next(later, None)
                if end <= at or (spot is not None and spot[0] < end):
                    continue
                if end > cut:
                    cut = min(cut, _chain(text, at, start))
                    continue
                spots.append((start, end, f"[{entity.kind.upper()}]", (entity.kind, action)))
            spots.sort()
        parts: list[str] = []
        for start, end, written, new in spots:
            if start >= cut:
                break
            if new is not None:
                assert self._guard is not None
                self._guard.count(*new)
                self.num_masked += 1
            parts.append(text[at:start])
            parts.append(written)
            at = end
        parts.append(text[at:cut] if cut > at else "")
        at = max(at, cut)
        kept = max(0, at - CONTEXT_CHARS)
        self._text, self._at = text[kept:], at - kept
        return "".join(parts)

    def _written(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=False)[1:-1] if self._as_json else value


def _is_formless(kind: str) -> bool:
    from ashore.data.privacy.model import KINDS

    return kind in _FORMLESS or kind not in KINDS


def _chain(text: str, at: int, place: int) -> int:
    """Return the start of the groups of which the one at `place` may be the last: `GB82 WEST 12`."""
    start = place
    floor = max(at, place - _CHAIN_CHARS)
    while start > floor:
        run = _RUN.search(text, floor, start)
        begin = run.start() if run is not None else start
        word = text[begin:start]
        if (
            word
            and not _LIVE.search(word)
            and not (len(word) <= 4 and (word.isupper() or not word.isalpha()))
            and start != place
        ):
            break
        start = begin
        if start > floor and text[start - 1] in " \t\u00a0\u3000":
            start -= 1
            if start > floor and text[start - 1] in " \t\u00a0\u3000":
                start -= 1
            continue
        break
    while start < place and text[start] in " \t\u00a0\u3000":
        start += 1
    return start


def _with_neighbour(text: str, at: int, start: int) -> int:
    """Return the start of a licence plate, whose first character is Chinese."""
    before = start - 1 if start > at and text[start - 1] == " " else start
    return before - 1 if before > at and text[before - 1] in PLATE_PLACES else start
