"""Wire protocol between an API worker and an engine host over their unix socket.

A frame is four bytes (little-endian length of the body) and a msgpack body: one of the structures below, identified by
its tag. The first frame of a host is `Hello` or `LoadFailed`; both carry the protocol's version, and the two sides come
from the same release, so a difference is refused instead of bridged. A host that shuts down in order ends with
`Farewell`; a connection that ends without it means that the host died. Never pickle: a frame can only create these
types.

    worker -> host   Generate Cancel Embed Score Distribute GetStats Rest Drain
    host -> worker   Hello LoadFailed Events Vectors Scores Rows CallFailed Stats Farewell
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.core.ids import OrderId
from ashore.data.engines.failures import Failure
from ashore.data.engines.model import EngineEvent, EngineInfo, EngineStats, Order, ScoredText, ScoreText

PROTOCOL_VERSION: Final = 12

MAX_FRAME_BYTES: Final = 64 << 20
"""Largest body. The largest honest one, 2,048 vectors of 1,024 numbers, takes 19 MB."""

_HEAD = struct.Struct("<I")


class Generate(msgspec.Struct, frozen=True, tag="generate", array_like=True):
    """Start a sequence, or an answer in text. Its events come back in `Events`."""

    order: Order


class Cancel(msgspec.Struct, frozen=True, tag="cancel", array_like=True):
    """End a sequence of this connection. Unknown ids are ignored."""

    order_id: OrderId


class CancelCall(msgspec.Struct, frozen=True, tag="cancel_call", array_like=True):
    """Stop computing a call of this connection, without an answer. Unknown numbers are ignored."""

    call_id: int


class Embed(msgspec.Struct, frozen=True, tag="embed", array_like=True):
    """Ask for one vector per sequence; answered by `Vectors` or `CallFailed`."""

    call_id: int
    batch: list[list[int]]
    tenant: str = ""
    """Tenants take turns at the host."""


class Score(msgspec.Struct, frozen=True, tag="score", array_like=True):
    """Ask for the log-probabilities of texts; answered by `Scores` or `CallFailed`."""

    call_id: int
    texts: list[ScoreText]
    top_logprobs: int = 0
    tenant: str = ""
    """As in `Embed`."""


class Distribute(msgspec.Struct, frozen=True, tag="distribute", array_like=True):
    """Ask for the log-probabilities of all tokens along a text; answered by several `Rows`, or `CallFailed`."""

    call_id: int
    text: ScoreText


class GetStats(msgspec.Struct, frozen=True, tag="get_stats", array_like=True):
    """Ask for counters; answered by `Stats`."""

    call_id: int


class Rest(msgspec.Struct, frozen=True, tag="rest", array_like=True):
    """Put the engine to sleep, or wake it up; answered by `Stats` when it is done, or `CallFailed`."""

    call_id: int
    asleep: bool


class Drain(msgspec.Struct, frozen=True, tag="drain", array_like=True):
    """Take no new work, finish what runs, then exit."""


class Hello(msgspec.Struct, frozen=True, tag="hello", array_like=True):
    """The engine is loaded; first frame of a host on each connection."""

    version: int
    info: EngineInfo


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed", array_like=True):
    """The engine could not be loaded; the host exits after this frame."""

    version: int
    failure: Failure


class Events(msgspec.Struct, frozen=True, tag="events", array_like=True):
    """Events of one step for the orders of this connection."""

    events: list[EngineEvent]


class Vectors(msgspec.Struct, frozen=True, tag="vectors", array_like=True):
    """Answer to `Embed`."""

    call_id: int
    vectors: list[list[float]]


class Scores(msgspec.Struct, frozen=True, tag="scores", array_like=True):
    """Part of the answer to `Score`: further tokens of one text, in order."""

    call_id: int
    place: int
    """Which of the texts."""
    rows: ScoredText
    last: bool


class Rows(msgspec.Struct, frozen=True, tag="rows", array_like=True):
    """Part of the answer to `Distribute`: rows of V numbers each, little-endian float32, one after another."""

    call_id: int
    data: bytes
    last: bool


class CallFailed(msgspec.Struct, frozen=True, tag="call_failed", array_like=True):
    """Answer to any call that failed."""

    call_id: int
    failure: Failure


class Stats(msgspec.Struct, frozen=True, tag="stats", array_like=True):
    """Answer to `GetStats`."""

    call_id: int
    stats: EngineStats


class Farewell(msgspec.Struct, frozen=True, tag="farewell", array_like=True):
    """The host shuts down in order; the last frame. Unanswered work was not begun, or was released: it may go
    elsewhere, and did not kill the host."""


ToHost = Generate | Cancel | CancelCall | Embed | Score | Distribute | GetStats | Rest | Drain
ToWorker = Hello | LoadFailed | Events | Vectors | Scores | Rows | CallFailed | Stats | Farewell

_encoder = msgspec.msgpack.Encoder()
_to_host: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def encode(message: ToHost | ToWorker) -> bytes:
    """Return `message` as one frame.

    Raises:
        InvalidRequest: the frame would be larger than `MAX_FRAME_BYTES`.
    """
    frame = bytearray(_HEAD.size)
    _encoder.encode_into(message, frame, _HEAD.size)
    length = len(frame) - _HEAD.size
    if length > MAX_FRAME_BYTES:
        raise InvalidRequest(
            f"a {type(message).__name__} has {length:,} bytes; the limit of a frame is {MAX_FRAME_BYTES:,}",
            hint="send fewer or shorter inputs in one call",
        )
    _HEAD.pack_into(frame, 0, length)
    return bytes(frame)


def decode_to_host(body: bytes | memoryview) -> ToHost:
    """Return the message in `body`. Raises one of `UNDECODABLE` for anything else."""
    return _to_host.decode(body)


def decode_to_worker(body: bytes | memoryview) -> ToWorker:
    """Return the message in `body`. Raises one of `UNDECODABLE` for anything else."""
    return _to_worker.decode(body)


class FrameReader:
    """Splits a byte stream into frame bodies, independent of how the bytes arrive."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = 0
        """Bytes that must be there before looking again is worth it: a long frame is not copied at every piece."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that `data` completes.

        Raises:
            InvalidRequest: a head announces more than `MAX_FRAME_BYTES`; the connection must be closed.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        bodies: list[bytes] = []
        at, end = 0, len(data)
        self._needed = _HEAD.size
        while end - at >= _HEAD.size:
            (length,) = _HEAD.unpack_from(data, at)
            if length > MAX_FRAME_BYTES:
                raise InvalidRequest(f"a frame announces {length:,} bytes; the limit is {MAX_FRAME_BYTES:,}")
            if end - at - _HEAD.size < length:
                self._needed = _HEAD.size + length
                break
            start = at + _HEAD.size
            at = start + length
            bodies.append(data[start:at])
        if at < end:
            self._pending += data[at:]
        return bodies
