"""Appends an error's hint to its message, for clients that show nothing else."""

from __future__ import annotations

from typing import Final

BETWEEN: Final = ". Hint: "


def with_hint(message: str, hint: str) -> str:
    """Return the message for clients: most libraries show it alone, so it ends with the hint."""
    return f"{message.removesuffix('.')}{BETWEEN}{hint}" if hint else message


def without_hint(message: str, hint: str) -> str:
    """Return the original message of `with_hint`, for clients that show both separately."""
    return message.removesuffix(BETWEEN + hint) if hint else message
