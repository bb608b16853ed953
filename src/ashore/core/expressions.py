"""Operators' expressions, in RE2's syntax without backtracking: none can block a request."""

from __future__ import annotations

from typing import Any, Final

from ashore.core.errors import InvalidSpec

MOST_PATTERN_CHARS: Final = 2_000
MOST_PATTERN_BYTES: Final = 8 << 20
"""Memory that one compiled expression may take; RE2 refuses a larger one."""


def compile_re2(text: str, what: str, *, ignore_case: bool = False) -> Any:
    """Return an expression, compiled.

    Raises:
        InvalidSpec: RE2 rejects it; the message begins with `what`.
    """
    import re2

    options = re2.Options()
    options.max_mem = MOST_PATTERN_BYTES
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(text, options)
    except re2.error as fault:
        said = fault.args[0] if fault.args else ""
        reason = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise InvalidSpec(
            f"{what} cannot be used: {reason}",
            hint="use RE2 syntax: no look-around, no back-references, no large counted repetitions",
        ) from fault
