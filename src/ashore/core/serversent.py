"""Reads server-sent events, as OpenAI's streams have them: one line `data: …` each, the last `data: [DONE]`."""

from __future__ import annotations

from typing import Final

from ashore.core.errors import EngineFailed

DONE: Final = b"[DONE]"
"""Data of the last event."""
LINE_BYTES: Final = 8 << 20
"""Longest line that is read: log probabilities of many tokens fit into it."""


class ServerSent:
    """Takes the bytes of a stream as they come, and returns the data of its events."""

    def __init__(self, sender: str) -> None:
        """Create it. `sender`: who sends, for the error."""
        self._sender, self._rest = sender, bytearray()

    def take(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that end in a piece. Comments and other fields are left out.

        Raises:
            EngineFailed: a line is longer than `LINE_BYTES`.
        """
        *whole, last = piece.split(b"\n")
        found = []
        for line in whole:
            self._rest += line
            if self._rest.startswith(b"data:"):
                found.append(bytes(self._rest[5:].strip()))
            self._rest.clear()
        self._rest += last
        if len(self._rest) > LINE_BYTES:
            raise EngineFailed(f"{self._sender} sent a line of more than {LINE_BYTES:,} bytes")
        return found
