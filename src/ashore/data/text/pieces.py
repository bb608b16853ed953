"""The piece that one token, or the end of the answer, adds to an answer."""

from __future__ import annotations

import msgspec


class ToolCallPiece(msgspec.Struct, frozen=True):
    """One tool call. Released as a whole, once its syntax is known to be valid."""

    index: int
    """Counts the calls of one answer from 0."""
    id: str
    name: str
    arguments: str
    """JSON text of an object."""


class AnswerPiece(msgspec.Struct, frozen=True):
    """A piece of an answer; every field may be empty."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    stopped: bool = False
    """True when a stop string was met: the answer is complete and the engine should be told to end."""
    stop_string: str | None = None


NOTHING = AnswerPiece()
