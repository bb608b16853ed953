"""Curated pairs as a file: one JSON object in each line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.data.cache.curated import MAX_QUESTION_CHARS, plain
from ashore.data.cache.model import EVERYBODY, Pair
from ashore.kit.decode import UNDECODABLE

MAX_ANSWER_CHARS: Final = 65_536


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line: `{"question": "...", "answer": "...", "tenant": "bank-a", "expires": "2027-01-31"}`."""

    question: str
    answer: str
    tenant: str = EVERYBODY
    """Default `*`: every tenant."""
    model: str = "*"
    """An alias; default: every model."""
    pinned: bool = True
    expires: str | None = None
    """A date, at whose end (UTC) it ends, or a moment in ISO 8601."""


_decoder = msgspec.json.Decoder(Line)


def read_pairs(lines: Iterable[bytes], *, now_s: float) -> list[Pair]:
    """Return the pairs of a file. Empty lines are skipped.

    Raises:
        InvalidRequest: a line is wrong; the message has its number. No pair of the file is used then.
    """
    pairs = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            pairs.append(_pair(line, number, now_s))
    return pairs


def _pair(line: bytes, number: int, now_s: float) -> Pair:
    try:
        found = _decoder.decode(line)
    except UNDECODABLE as fault:
        raise _wrong(number, str(fault)) from fault
    if not plain(found.question):
        raise _wrong(number, "the question is empty")
    if len(found.question) > MAX_QUESTION_CHARS or len(found.answer) > MAX_ANSWER_CHARS:
        raise _wrong(
            number,
            f"the question has {len(found.question)} characters and the answer {len(found.answer)}; "
            f"at most {MAX_QUESTION_CHARS} and {MAX_ANSWER_CHARS}",
        )
    if not found.answer.strip():
        raise _wrong(number, "the answer is empty")
    return Pair(
        tenant=found.tenant,
        alias=found.model,
        question=found.question,
        text=found.answer,
        pinned=found.pinned,
        created_s=int(now_s),
        expires_at_s=None if found.expires is None else _moment(found.expires, number),
    )


def _moment(text: str, number: int) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as fault:
        raise _wrong(number, f"expires is {text[:40]!r}") from fault
    if len(text) <= len("2027-01-31"):
        moment = moment.replace(hour=23, minute=59, second=59)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _wrong(number: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"line {number}: {what}",
        hint='write each line as {"question": "...", "answer": "...", "tenant": "*", "model": "*", "pinned": true, '
        '"expires": "2027-01-31"}; only question and answer are required',
    )
