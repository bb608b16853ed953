"""Searches the audit log, newest first, by reading it: every result is a line of it, and no index can hide one.

A segment is read whole and its bytes are scanned for the query's values; only matching lines are decoded. One million
records take well under two seconds on one core.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from msgspec import structs

from ashore.data.audit.canonical import decode, needle
from ashore.data.audit.chain import HASH_CHARS
from ashore.data.audit.model import ChainName, Place, Record
from ashore.data.audit.query import Query, matches
from ashore.data.audit.records import CLOCK_SLACK_US
from ashore.data.audit.segments import Shelf, read_lines
from ashore.data.audit.writer import DAY_US
from ashore.kit.decode import UNDECODABLE

SAMPLE_BYTES: Final = 1 << 18
"""Of a segment, to see which part of a query is rarest."""
NEAR_BYTES: Final = 1 << 16
ORDER_SLACK_US: Final = 4 * CLOCK_SLACK_US
"""Records of one segment may be so much out of order without a jump of the clock being recorded."""
JUMP: Final = needle("action", "clock:jump")
SLACK_US: Final = 3_600_000_000
"""A batch that began before midnight may end after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A record and its place."""

    place: Place
    record: Record
    order_us: int
    """By what hits of several chains are sorted: the wall clock, except that it never runs back inside a chain."""


def search(shelf: Shelf, query: Query) -> list[Hit]:
    """Return the matching records, newest first, at most `limit`. For sealed content a list has only the key: each may
    have megabytes, and `AuditService.content` returns one at a time.
    """
    streams = [_newest_first(shelf, chain, query) for chain in _chains(shelf, query)]
    hits = []
    for hit in heapq.merge(*streams, key=lambda hit: -hit.order_us):
        sealed = hit.record.content
        if sealed is not None:
            bare = structs.replace(sealed, prompt="", answer="")
            hit = replace(hit, record=structs.replace(hit.record, content=bare))
        hits.append(hit)
        if len(hits) >= query.limit:
            break
    return hits


def oldest_first(shelf: Shelf, query: Query) -> Iterator[Hit]:
    """Yield all matching records, chain by chain, in the order written; no limit."""
    for chain in _chains(shelf, query):
        for number in shelf.numbers(chain):
            hits = list(_hits(shelf.path(chain, number), chain, number, query))
            yield from reversed(hits)


def find_record(shelf: Shelf, chain: ChainName, seq: int) -> Record | None:
    """Return one record of a chain by its number; None if there is none."""
    looked_for = b'"seq":%d' % seq
    for number in reversed(shelf.numbers(chain)):
        data = shelf.path(chain, number).read_bytes()
        at = data.rfind(looked_for)
        while at >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            try:
                record = decode(data[start + HASH_CHARS + 1 : data.find(b"\n", at)])
            except UNDECODABLE:
                record = None
            if record is not None and record.seq == seq:
                return record
            at = data.rfind(looked_for, 0, start) if start else -1
    return None


def _chains(shelf: Shelf, query: Query) -> list[ChainName]:
    return [chain for chain in shelf.chains() if not query.chain or chain == query.chain]


def _newest_first(shelf: Shelf, chain: ChainName, query: Query) -> Iterator[Hit]:
    order_us = 1 << 62
    for number in reversed(shelf.numbers(chain)):
        for hit in _hits(shelf.path(chain, number), chain, number, query):
            order_us = min(order_us, hit.order_us)
            yield _ordered(hit, order_us)


def _ordered(hit: Hit, order_us: int) -> Hit:
    return hit if hit.order_us == order_us else Hit(place=hit.place, record=hit.record, order_us=order_us)


def _hits(path: Path, chain: ChainName, number: int, query: Query) -> Iterator[Hit]:
    """Yield the hits of one segment, last first."""
    if query.since_us and _ends_before(path, query.since_us):
        return
    data, exact = path.read_bytes(), query.exact()
    for start, end in _candidates(data, query):
        try:
            record = decode(data[start + HASH_CHARS + 1 : end])
        except UNDECODABLE:
            continue  # `verify` names it
        if matches(query, record, exact):
            place = Place(chain=chain, segment=number, offset=start)
            yield Hit(place=place, record=record, order_us=record.at_us)


def _ends_before(path: Path, since_us: int) -> bool:
    """Return whether a whole segment is older: no record in it is of a later day than its first."""
    with path.open("rb") as file:
        first = next(read_lines(file), None)
    if first is None:
        return False
    try:
        opened_us = decode(first.body).at_us
    except UNDECODABLE:
        return False
    return since_us > (opened_us // DAY_US + 1) * DAY_US + SLACK_US


def _candidates(data: bytes, query: Query) -> Iterator[tuple[int, int]]:
    """Yield begin and end of possibly matching lines, last first."""
    needles = [needle(name, value) for name, value in query.exact().items()]
    if query.digest:
        needles.append(query.digest.encode())
    if query.text:
        needles.append(needle("kind", "act"))
    needles.sort(key=lambda one: data.count(one, 0, SAMPLE_BYTES))
    rarest, others = needles[0] if needles else b"", needles[1:]
    word, in_time = _plain_word(query.text), bool(query.since_us or query.until_us)
    begin, end = _window(data, query) if in_time else (0, data.rfind(b"\n"))
    while end > begin:
        found = data.rfind(rarest, begin, end) if rarest else end - 1
        if found < 0:
            return
        start = data.rfind(b"\n", 0, found) + 1
        if rarest:
            end = data.find(b"\n", found)
        line = data[start:end]
        fits = all(one in line for one in others) and (not in_time or _is_in_time(line, query))
        if fits and (not word or word in line.lower()):
            yield start, end
        end = start - 1


def _window(data: bytes, query: Query) -> tuple[int, int]:
    """Return the byte range with the lines of a time span: all of them if the clock jumped in this segment.

    Without a recorded jump, a record is never earlier than a previous one by more than the slack.
    """
    whole = data.rfind(b"\n")
    if JUMP in data:
        return 0, whole
    first = _bisect(data, whole, query.since_us - ORDER_SLACK_US)[0] if query.since_us else 0
    last = _bisect(data, whole, query.until_us + ORDER_SLACK_US)[1] if query.until_us else whole
    return first, last


def _bisect(data: bytes, end: int, at_us: int) -> tuple[int, int]:
    """Return two nearby positions: lines before the first are older than `at_us`, lines after the second are not."""
    low, high = 0, end
    while high - low > NEAR_BYTES:
        middle = data.rfind(b"\n", low, (low + high) // 2) + 1
        seen = _time_of(data, middle)
        if middle <= low or seen is None:
            break
        low, high = (middle, high) if seen < at_us else (low, middle)
    return low, high


def _time_of(data: bytes, start: int) -> int | None:
    begin = data.find(b'"at_us":', start) + 8
    try:
        return int(data[begin : data.find(b",", begin)])
    except ValueError:
        return None


def _is_in_time(line: bytes, query: Query) -> bool:
    """Return whether a line may be in the time span; a malformed line is left to the decoder.

    Only texts precede the time in a line, and JSON escapes their quotes, so nothing can be mistaken for it.
    """
    begin = line.find(b'"at_us":') + 8
    try:
        at_us = int(line[begin : line.find(b",", begin)])
    except ValueError:
        return True
    return at_us >= query.since_us and (not query.until_us or at_us < query.until_us)


def _plain_word(text: str) -> bytes:
    """Return the longest word of a text that appears literally in a line, ignoring case; empty if there is none.

    Words with characters that JSON escapes, or with non-ASCII case, are searched in each record.
    """
    words = [
        word
        for word in text.casefold().split()
        if not any(mark in word for mark in '"\\=') and word.isprintable() and (word.isascii() or word.upper() == word)
    ]
    return max((word.encode() for word in words), key=len, default=b"")
