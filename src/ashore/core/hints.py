"""The hint of an error in its message, for clients that show nothing else."""

from __future__ import annotations

from typing import Final

BETWEEN: Final = ". Hint: "


def with_hint(message: str, hint: str) -> str:
    """Return the message as it goes out: most client libraries show it alone, so the hint ends it."""
    return f"{message.removesuffix('.')}{BETWEEN}{hint}" if hint else message


def without_hint(message: str, hint: str) -> str:
    """Return what `with_hint` was given, for whoever shows both in places of their own."""
    return message.removesuffix(BETWEEN + hint) if hint else message
