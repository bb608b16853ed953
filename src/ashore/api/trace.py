"""`traceparent` of W3C Trace Context: the trace of the caller that a request belongs to."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?"
)
"""What a later version adds behind the flags goes on to engines in a header: what every server takes, and not much."""


def parent_of(traceparent: str) -> tuple[str, str]:
    """Return the id of the trace, and the header as it goes on to others; both empty where it is broken."""
    trace_id = trace_id_of(traceparent)
    return (trace_id, traceparent) if trace_id else ("", "")


def trace_id_of(traceparent: str) -> str:
    """Return the id of the trace, empty where the text is none: a broken header is as good as no header.

    Source: W3C Trace Context, section 3.2.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (traceparent.startswith("00") and len(traceparent) != 55):
        return ""
    return match[1]
