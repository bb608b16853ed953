"""HTTP/2 as a hostile client writes it: frames by hand, flow control kept only as far as one wants."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW: Final = 65_535
MAX_FRAME: Final = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hpack(*pairs: tuple[str, str]) -> bytes:
    """Return headers as literals without indexing and without Huffman's code."""
    parts = []
    for pair in pairs:
        parts.append(b"\x00")
        for text in pair:
            raw = text.encode()
            parts.append((bytes([len(raw)]) if len(raw) < 127 else b"\x7f" + _rest(len(raw) - 127)) + raw)
    return b"".join(parts)


def _rest(number: int) -> bytes:
    parts = []
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


class RawH2:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._next = 1
        self.window = INITIAL_WINDOW
        self._initial = INITIAL_WINDOW
        self.windows: dict[int, int] = {}
        """How much may be sent on each stream that the server has not ended."""
        self.answered: set[int] = set()
        """Streams of which a head, or a reset, came."""
        self.ended: set[int] = set()
        self.seen: Counter[int] = Counter()
        """Frames that came, by kind."""
        self.closed = False
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def connect(
        cls, port: int, *, tls: ssl.SSLContext | None = None, settings: Sequence[tuple[int, int]] = ()
    ) -> RawH2:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        said = b"".join(struct.pack(">HI", number, value) for number, value in settings)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, said))
        return cls(reader, writer)

    def head(self, path: str, *pairs: tuple[str, str], end: bool = False, grpc: bool = True) -> int:
        """Begin a request and return its stream."""
        stream, self._next = self._next, self._next + 2
        kind = "application/grpc" if grpc else "application/json"
        block = hpack(
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
            ("content-type", kind), ("te", "trailers"), *pairs,
        )  # fmt: skip
        self.writer.write(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block))
        self.windows[stream] = self._initial
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """Send as much of `data` as the windows allow in one frame, and return how much that was."""
        num = max(0, min(len(data), MAX_FRAME, self.window, self.windows.get(stream, 0)))
        if num:
            self.writer.write(frame(DATA, 0, stream, data[:num]))
            self.window -= num
            self.windows[stream] -= num
        return num

    def reset(self, stream: int) -> None:
        self.writer.write(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        self.windows.pop(stream, None)

    async def until(self, stream: int, timeout_s: float = 5) -> None:
        """Return when the server has answered a stream."""
        async with asyncio.timeout(timeout_s):
            while stream not in self.answered and not self.closed:
                await asyncio.sleep(0.002)
        assert stream in self.answered, f"the connection closed; frames that came: {self.seen}"

    async def close(self) -> None:
        self.writer.transport.abort()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except (asyncio.IncompleteReadError, OSError):
            self.closed = True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.seen[kind] += 1
        if kind == SETTINGS and not flags & ACK:
            self.writer.write(frame(SETTINGS, ACK, 0))
            for at in range(0, len(payload), 6):
                number, value = struct.unpack(">HI", payload[at : at + 6])
                if number == 4:
                    self.windows = {one: window + value - self._initial for one, window in self.windows.items()}
                    self._initial = value
        elif kind == PING and not flags & ACK:
            self.writer.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE and stream in self.windows:
            self.windows[stream] += int.from_bytes(payload, "big")
        elif kind in (HEADERS, RST_STREAM):
            self.answered.add(stream)
            if kind == RST_STREAM or flags & END_STREAM:
                self.ended.add(stream)
                self.windows.pop(stream, None)
