"""A template for records of a repeated answer: all but four values are constant and encoded once.

A cached answer is served thousands of times a second, and its records differ only in times, number and request id.
Fields are in alphabetical order, so those four have the same positions in all of them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.data.audit.canonical import encode, encode_text
from ashore.data.audit.model import RequestNote
from ashore.data.audit.records import request_record

_AT, _MONO, _ID, _SEQ = b'"at_us":', b'"mono_us":', b'"request_id":', b'"seq":'
_BLANK: Final = 1
_NOBODY: Final = "-"
"""An empty id would be left out."""


class NoteForm:
    """The record of one principal's request for one cached answer, with blanks."""

    __slots__ = ("_at", "_end", "_id", "_mono", "_seq", "note")

    def __init__(self, note: RequestNote) -> None:
        """Take a note without content; its request id is ignored."""
        self.note = note = msgspec.structs.replace(note, request_id=_NOBODY)
        line = encode(request_record(note, seq=_BLANK, at_us=_BLANK, mono_us=_BLANK))
        # A quote inside a text is escaped, so `"seq":` is a key. Only `masked` has caller-chosen keys. It is between
        # `at_us` and `mono_us`, so the first is searched from the left, and the others from the right.
        at = line.index(_AT) + len(_AT)
        seq = line.rindex(_SEQ) + len(_SEQ)
        id_ = line.rindex(_ID, 0, seq) + len(_ID)
        mono = line.rindex(_MONO, 0, id_) + len(_MONO)
        after_id = id_ + len(encode_text(_NOBODY))
        self._at, self._mono, self._id = line[:at], line[at + 1 : mono], line[mono + 1 : id_]
        self._seq, self._end = line[after_id:seq], line[seq + 1 :]

    def line(self, request_id: str, *, seq: int, at_us: int, mono_us: int) -> bytes:
        """Return the canonical bytes of the record, equal to `canonical.encode`."""
        return b"%b%d%b%d%b%b%b%d%b" % (
            self._at,
            at_us,
            self._mono,
            mono_us,
            self._id,
            encode_text(request_id),
            self._seq,
            seq,
            self._end,
        )
