"""`traceparent` of W3C Trace Context: the caller's trace that a request belongs to."""

from __future__ import annotations

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?"
)
"""What a later version adds behind the flags goes on to engines in a header: what every server takes, and not much."""


def parent_of(traceparent: str) -> tuple[str, str]:
    """Return the trace id and the header to pass on; both empty if the header is invalid."""
    trace_id = trace_id_of(traceparent)
    return (trace_id, traceparent) if trace_id else ("", "")


def trace_id_of(traceparent: str) -> str:
    """Return the trace id, empty if the text has none: an invalid header counts as missing.

    Source: W3C Trace Context, section 3.2.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (traceparent.startswith("00") and len(traceparent) != 55):
        return ""
    return match[1]
