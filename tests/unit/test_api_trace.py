"""The caller's trace: what is one, and that each request of a repeated answer keeps its own."""

from __future__ import annotations

import pytest

from ashore.data.audit.canonical import decode
from ashore.data.authority import OpenDoor
from ashore.data.cache import Ready
from ashore.data.path.model import Arrival
from ashore.data.path.recording import Told
from ashore.data.trace import trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GOOD = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (GOOD, TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-\x80", ""),
        (f"01-{TRACE}-00f067aa0ba902b7-01-a b", ""),
        (f"01-{TRACE}-00f067aa0ba902b7-01-{'x' * 201}", ""),
        (f"{GOOD}-more", ""),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (GOOD.upper(), ""),
        (f"{GOOD}\n", ""),
        ("", ""),
    ],
)
def test_a_broken_header_is_no_trace(given: str, found: str) -> None:
    assert trace_id_of(given) == found


def test_a_repeated_answer_is_recorded_under_the_trace_of_who_asks() -> None:
    ready = Ready(
        headers=(), body=b"{}", alias="m", release="r", label="hit-exact", stored_at_s=1.0, expires_at_s=2.0, told=None,
        tokens=3,
    )  # fmt: skip
    told, who = Told(None), OpenDoor().authenticate(None)

    def detail(trace: str) -> object:
        form = told.form(ready, who, Arrival("10.0.0.1", "/v1/chat/completions", trace=trace))
        return decode(form.line("req_1", seq=1, at_us=2, mono_us=3)).detail

    assert detail(TRACE) == {"trace": TRACE}
    assert detail("") == {}
    assert detail("a" * 32) == {"trace": "a" * 32}
