"""Converts what rooms report to records: who, what, on what, with which outcome. Pure."""

from __future__ import annotations

from typing import Final

from ashore.data.audit.canonical import short, short_detail
from ashore.data.audit.model import Record, RequestNote, Sealed
from ashore.kit.recorder import Act

INFER: Final = "model:infer"
BEGIN: Final = "model:begin"
CLOCK_SLACK_US: Final = 1_000_000
"""What a time service may move the clock at once without being mentioned."""


def request_record(note: RequestNote, *, seq: int, at_us: int, mono_us: int, content: Sealed | None = None) -> Record:
    """Return the record of a request."""
    return Record(
        action=BEGIN if note.outcome == "begun" else INFER,
        actor=short(note.principal),
        answer=note.answer,
        at_us=at_us,
        cache=note.cache,
        cached_tokens=note.cached_tokens,
        completion_tokens=note.completion_tokens,
        content=content,
        detail=_detail(note),
        error=note.error_code,
        key=note.key,
        kind="request",
        latency_ms=round(note.latency_ms, 3),
        masked=note.masked,
        model=short(note.alias),
        mono_us=mono_us,
        origin=short(note.origin),
        outcome=note.outcome,
        prompt=note.prompt,
        prompt_tokens=note.prompt_tokens,
        release=note.release,
        request_id=note.request_id,
        route=note.route,
        seq=seq,
        tenant=short(note.tenant),
    )


def _detail(note: RequestNote) -> dict[str, str | int]:
    detail: dict[str, str | int] = {"ignored": short(", ".join(note.ignored))} if note.ignored else {}
    if note.trace:
        detail["trace"] = note.trace
    if note.precision:
        detail["precision"] = note.precision
    if note.fallback:
        detail["fallback"] = short(note.fallback)
    if note.guard:
        detail["guard"] = short(note.guard)
    if note.moved:
        detail["moved"] = short(note.moved)
    return detail


def act_record(act: Act, *, seq: int, at_us: int, mono_us: int) -> Record:
    """Return the record of an act."""
    return Record(
        action=short(act.action),
        actor=short(act.actor),
        at_us=at_us,
        detail=short_detail(act.detail),
        kind="act",
        mono_us=mono_us,
        origin=short(act.origin),
        outcome=act.outcome,
        reason=short(act.reason),
        request_id=short(act.request_id),
        resource=short(act.resource),
        seq=seq,
        tenant=short(act.tenant),
    )


def chain_record(action: str, detail: dict[str, str | int], *, seq: int, at_us: int, mono_us: int) -> Record:
    """Return a writer's record about its own chain."""
    return Record(
        action=action,
        actor="system",
        at_us=at_us,
        detail=detail,
        kind="chain",
        mono_us=mono_us,
        outcome="done",
        seq=seq,
    )


def jumped(before: Record | None, *, at_us: int, mono_us: int) -> int:
    """Return by how many microseconds the wall clock jumped since an earlier record; 0 if it did not.

    After a reboot the monotonic clock restarts; then only a step back is detected.
    """
    if before is None:
        return 0
    ran_us = mono_us - before.mono_us
    moved_us = at_us - before.at_us
    if ran_us < 0:
        return moved_us if moved_us < -CLOCK_SLACK_US else 0
    return moved_us - ran_us if abs(moved_us - ran_us) > CLOCK_SLACK_US else 0
