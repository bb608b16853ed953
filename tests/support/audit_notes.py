"""Notes and acts for tests of the audit."""

from __future__ import annotations

import time
from pathlib import Path

from ashore.data.audit import AuditLog, ChainName, ChainWriter, LogOptions, Record, RequestNote
from ashore.data.audit.canonical import decode
from ashore.data.audit.segments import read_lines, segment_path, segments_of
from ashore.kit.recorder import Act


def a_note(number: int = 1, **changes: object) -> RequestNote:
    """Return the note of one request."""
    fields: dict[str, object] = {
        "request_id": f"req_{number:024x}",
        "principal": "alice@bank",
        "tenant": "retail",
        "alias": "chat",
        "release": "chat-1",
        "outcome": "answered",
        "cache": "miss",
        "origin": "10.0.0.1",
        "route": "/v1/chat/completions",
        "prompt_tokens": 12,
        "completion_tokens": number % 50,
        "latency_ms": 1.5,
    }
    return RequestNote(**(fields | changes))  # type: ignore[arg-type]


def an_act(number: int = 1, **changes: object) -> Act:
    """Return one act of administration."""
    fields: dict[str, object] = {
        "action": "key:create",
        "actor": "sysadmin",
        "resource": f"key/ash_{number:08x}",
        "outcome": "done",
        "detail": {"expires_days": 90},
    }
    return Act(**(fields | changes))  # type: ignore[arg-type]


def a_log(
    root: Path, chain: str = "api-0", *, segment_bytes: int = 32 << 20, clock_us: int = 0, **options: object
) -> AuditLog:
    """Return a running log; with `clock_us` at that moment."""
    writer = ChainWriter(root, ChainName(chain), segment_bytes=segment_bytes)
    clock_ns = (lambda: clock_us * 1000) if clock_us else time.time_ns
    made = LogOptions(**({"gather_s": 0.001} | options))  # type: ignore[arg-type]
    return AuditLog(writer, options=made, clock_ns=clock_ns).start()


def write_chain(root: Path, count: int, chain: str = "api-0", *, segment_bytes: int = 32 << 20) -> None:
    """Write a chain of requests with an act after each tenth, and close it."""
    log = a_log(root, chain, segment_bytes=segment_bytes)
    for number in range(count):
        log.note(a_note(number))
        if number % 10 == 9:
            log.record(an_act(number))
            log.settle(10)
    log.close()


def records(root: Path, chain: str = "api-0") -> list[Record]:
    """Return all that the disk has of a chain, torn lines left out."""
    found, name = [], ChainName(chain)
    for number in segments_of(root, name):
        with segment_path(root, name, number).open("rb") as file:
            found += [decode(line.body) for line in read_lines(file) if line.whole]
    return found
