"""Decodes what a connection recorded into what a report needs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from ashore.kit.decode import UNDECODABLE
from ashore.lab.bench.client import Reply, has_text
from ashore.lab.bench.model import RequestRecord


def event_json(event: bytes) -> dict[str, Any] | None:
    """Return the JSON object of an event, or None for `[DONE]` and anything else."""
    data = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    return json_object(data)


def json_object(data: bytes) -> dict[str, Any] | None:
    """Return `data` as a JSON object, or None if it is not one."""
    try:
        value = msgspec.json.decode(data)
    except UNDECODABLE:
        return None
    return value if isinstance(value, dict) else None


def error_name(payload: dict[str, Any] | None, status: int) -> str:
    """Return a short, stable name of a refusal: `429 overloaded`."""
    error = (payload or {}).get("error")
    detail = error.get("code") or error.get("type") if isinstance(error, dict) else None
    return f"{status} {detail}" if detail else f"{status}"


def event_text(payload: dict[str, Any]) -> str:
    """Return the text that one event adds to the first choice."""
    for choice in payload.get("choices") or ():
        delta = choice.get("delta") or choice
        return str(delta.get("content") or delta.get("text") or "")
    return ""


def to_record(index: int, answer: Reply, *, started_at: float) -> RequestRecord:
    """Return the record of one answer. `started_at` is the start of the measurement on the same clock."""
    start_s, e2e_s = answer.sent_at - started_at, answer.ended_at - answer.sent_at
    if answer.error or answer.status != 200:
        error = answer.error or error_name(json_object(answer.body), answer.status)
        return RequestRecord(index=index, start_s=start_s, e2e_s=e2e_s, status=answer.status, error=error)
    usage: dict[str, Any] = {}
    finish, error, done = "", "", False
    for event in answer.tail:
        payload = event_json(event)
        if payload is None:
            done = done or b"[DONE]" in event
            continue
        if "error" in payload:
            error = f"in stream: {error_name(payload, 200)[4:] or 'error'}"
        usage = payload.get("usage") or usage
        for choice in payload.get("choices") or ():
            finish = choice.get("finish_reason") or finish
    times = text_times(answer)
    if not error and not done:
        error = "stream ended without [DONE]"
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    made = usage.get("completion_tokens_details") or {}
    return RequestRecord(
        index=index,
        start_s=start_s,
        e2e_s=e2e_s,
        status=200,
        error=error,
        ttft_s=times[0] - answer.sent_at if times else None,
        gaps_s=tuple(b - a for a, b in pairwise(times)),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(cached),
        completion_tokens=int(usage.get("completion_tokens") or len(times)),
        accepted_tokens=int(made.get("accepted_prediction_tokens") or 0),
        rejected_tokens=int(made.get("rejected_prediction_tokens") or 0),
        finish_reason=finish,
        text="".join(event_text(event_json(e) or {}) for e in answer.events or ()),
    )


def text_times(answer: Reply) -> list[float]:
    """Return the times of the first and last event with text."""
    if answer.first_text < 0:
        return []
    end = len(answer.event_times)
    for event in reversed(answer.tail):
        if has_text(event) or end <= answer.first_text + 1:
            break
        end -= 1
    return answer.event_times[answer.first_text : end]
