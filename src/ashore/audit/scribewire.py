"""What a log and its scribe say to each other over one socket: batches one way, how far the disk has them the other.

A frame is four bytes of length, big-endian, and MessagePack. A form is sent once, and named by its number from then on.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from ashore.audit.model import ChainName, Head, RequestNote, Sealed
from ashore.core import Act

MOST_FRAME_BYTES: Final = 1 << 30
"""More than any batch with content in it has; a longer frame is a fault of ours."""


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One draft: a form by its number, or one of the others."""

    at_us: int
    mono_us: int
    request_id: str = ""
    form: int = 0
    note: RequestNote | None = None
    sealed: Sealed | None = None
    act: Act | None = None
    said: tuple[str, dict[str, str | int]] | None = None


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What is to be written, in this order."""

    told: Sequence[Told]
    forms: Sequence[tuple[int, RequestNote]] = ()
    """Those that `told` names and the scribe has not seen."""
    forgotten: Sequence[int] = ()
    """Forms that will not be named again before they are sent anew."""


class Written(msgspec.Struct, frozen=True, array_like=True, tag="written"):
    """The disk has it, up to here."""

    segment: int
    seq: int
    hash: str

    def head(self, chain: ChainName) -> Head:
        return Head(chain=chain, segment=self.segment, seq=self.seq, hash=self.hash)


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="begun"):
    """The scribe has the chain."""

    written: Written
    torn_bytes: int
    damaged_line: int
    num_since: int
    """Drafts that are on the disk behind the record that the log knew of last; 0 where it knew of none."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """It could not be done; nothing of the batch counts."""

    code: str
    message: str
    hint: str


Answer = Begun | Written | Refused


class Wire:
    """One end of the socket. Blocks; used by one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._file = end.makefile("rb")
        self._batches = msgspec.msgpack.Decoder(Batch)
        self._answers = msgspec.msgpack.Decoder[Answer](Answer)
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, what: Batch | Answer) -> None:
        """Send one frame.

        Raises:
            OSError: the other end is gone.
        """
        body = self._encoder.encode(what)
        self._socket.sendall(len(body).to_bytes(4, "big") + body)

    def batch(self) -> Batch | None:
        """Return the next batch; None when the log is gone."""
        body = self._frame()
        return None if body is None else self._batches.decode(body)

    def answer(self) -> Answer | None:
        """Return the next answer; None when the scribe is gone."""
        body = self._frame()
        return None if body is None else self._answers.decode(body)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _frame(self) -> bytes | None:
        """Return the body of the next frame; None where the stream ends, in the middle of one too."""
        try:
            length = self._file.read(4)
            num_bytes = int.from_bytes(length, "big")
            if num_bytes > MOST_FRAME_BYTES:
                raise ValueError(f"a frame of {num_bytes:,} bytes; at most {MOST_FRAME_BYTES:,} are ever sent")
            body = self._file.read(num_bytes)
        except ConnectionResetError:
            return None
        return body if len(length) == 4 and len(body) == num_bytes else None
