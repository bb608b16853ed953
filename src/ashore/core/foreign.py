"""Untrusted files: one boundary that turns any reader error into one error of ours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ashore.core.errors import AshoreError, CorruptBlob

_STUMBLES: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, BufferError, EOFError),
    *(RuntimeError, MemoryError, struct.error),
)
"""Errors of reading broken or hostile data; `RecursionError` is a `RuntimeError`, `UnicodeError` a `ValueError`."""
_MAX_REASON_CHARS: Final = 200


@contextmanager
def foreign_errors(
    what: str, error: type[AshoreError] = CorruptBlob, *, hint: str = "fetch it again from its source"
) -> Iterator[None]:
    """Turn errors from reading an untrusted file into `error`, with `what` and the reason in one line.

    Our own errors, and disk errors, pass.

    Args:
        what: Finding, as the start of the message: `config.json is not a model's configuration`.
        error: Class of the error.
        hint: The next action.
    """
    try:
        yield
    except BaseException as fault:
        if not _is_stumble(fault):
            raise
        raise error(f"{what}: {short_reason(fault)}", hint=hint) from fault


def _is_stumble(fault: BaseException) -> bool:
    """Return whether data may have caused this error. Libraries written in Rust raise `Exception` itself, and panic."""
    if isinstance(fault, (AshoreError, OSError)):
        return False
    return isinstance(fault, _STUMBLES) or type(fault) is Exception or type(fault).__module__ == "pyo3_runtime"


def short_reason(fault: BaseException) -> str:
    """Return a parser's message as one short printable line."""
    match fault:
        case RecursionError():
            return "it is nested too deeply"
        case MemoryError():
            return "it needs more memory than this machine has"
        case KeyError():
            return f"it lacks {str(fault)[:_MAX_REASON_CHARS]}"
    said = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    said = said if said.isprintable() else ascii(said)
    return said if len(said) <= _MAX_REASON_CHARS else said[:_MAX_REASON_CHARS] + "…"
