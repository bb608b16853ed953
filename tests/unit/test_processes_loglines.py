"""Lines of logs: each format gives its time and level, and lines of a traceback belong to the one above."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator

import pytest

from ashore.kit.processes.entry import OneLine
from ashore.kit.processes.loglines import entries_of, is_at_least, shown_time

ASKED = (
    '{"t":1796144051.495,"id":"req_1","by":"user/op","method":"POST","route":"/v1/chat/completions","model":"smollm2",'
    '"status":STATUS,"ms":12.5,"tokens":30}'
)


@pytest.fixture(autouse=True)
def _far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("line", "when", "level", "message"),
    [
        ("2026-12-01 16:54:11,406 INFO ashore.w: ready", "2026-12-01 08:54:11 UTC", "info", "ashore.w: ready"),
        ("2026-12-01 16:54:11,406 CRITICAL ashore: x", "2026-12-01 08:54:11 UTC", "error", "ashore: x"),
        ("2026-12-01T08:54:11.406+0000 warning envoy: slow", "2026-12-01 08:54:11 UTC", "warning", "envoy: slow"),
        (
            "2026-12-01T08:54:11.406Z 6d2 GET /v1/models HTTP/2 503 UF 0 9 1ms 127.0.0.1",
            "2026-12-01 08:54:11 UTC", "error", "6d2 GET /v1/models HTTP/2 503 UF 0 9 1ms 127.0.0.1",
        ),
        ("77:M 01 Dec 2026 16:54:11.406 # low memory", "2026-12-01 08:54:11 UTC", "warning", "low memory"),
        ("(EngineCore pid=9) WARNING 12-01 16:54:11 [a.py:1] slow", "-" * 23, "warning", "[a.py:1] slow"),
        ("neither time nor level", "-" * 23, "info", "neither time nor level"),
        ('{"broken', "-" * 23, "info", '{"broken'),
    ],
)  # fmt: skip
def test_every_format_is_read(line: str, when: str, level: str, message: str) -> None:
    (entry,) = entries_of([f"{line}\n"])
    assert (shown_time(entry.at_s), entry.level, entry.message) == (when, level, message)


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (429, "warning"), (499, "info"), (503, "error")])
def test_a_request_is_as_serious_as_its_status(status: int, level: str) -> None:
    (entry,) = entries_of([ASKED.replace("STATUS", str(status))])
    assert entry.level == level and entry.request["by"] == "user/op"
    assert entry.message == (f"POST /v1/chat/completions {status} in 12.5 ms, smollm2, 30 tokens, by user/op, req_1")


def test_a_traceback_has_time_and_level_of_the_line_above_it() -> None:
    lines = ["2026-12-01 16:54:11,406 ERROR ashore: failed", "Traceback (most recent call last):", "OSError: gone"]
    entries = list(entries_of(lines))
    assert {(one.at_s, one.level) for one in entries} == {(entries[0].at_s, "error")}
    (more,) = entries_of(["  File x"], entries[-1])
    assert more.level == "error" and not more.request
    assert is_at_least(more, "warning") and not is_at_least(next(entries_of(["x"])), "warning")


def test_a_name_that_a_stranger_typed_begins_no_line_of_the_log() -> None:
    message, typed = "%s was not let in", "eve\n2026-12-02 00:00:00 ERROR ashore: forged\x1b[2J\u2028"
    record = logging.LogRecord("ashore", logging.INFO, "", 0, message, (typed,), None)
    assert OneLine("%(levelname)s %(message)s").format(record) == (
        "INFO eve\\n2026-12-02 00:00:00 ERROR ashore: forged�[2J� was not let in"
    )
    try:
        raise ValueError("wrong")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert OneLine("%(message)s").format(record).count("\n") > 2, "a traceback keeps its lines"
