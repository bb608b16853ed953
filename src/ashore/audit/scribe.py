"""The process that writes the chain of an API worker: makes the lines, hashes and syncs them, beside the worker.

    python -m ashore.audit.scribe --root FOLDER --chain NAME --fd N [--segment-bytes N] [--known SEQ]

What answers requests and what writes lines would want the same interpreter at the same time. A scribe has its own. It
ends when the socket closes, so when its log does or dies; what was sent by then is written first.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ashore.audit.forms import NoteForm
from ashore.audit.model import ChainName
from ashore.audit.scribewire import Batch, Begun, Refused, Told, Wire, Written
from ashore.audit.writer import SEGMENT_BYTES, ChainWriter, Draft
from ashore.errors import AshoreError, HomeBusy

TAKE_S: Final = 10.0
"""How long the scribe of a worker that died may take to write the rest and let go of the chain."""
LOOK_S: Final = 0.02


class Scribe:
    """Writes what comes over one socket."""

    def __init__(self, wire: Wire, writer: ChainWriter) -> None:
        self._wire = wire
        self._writer = writer
        self._forms: dict[int, NoteForm] = {}

    def begin(self, known: int | None) -> None:
        """Tell the log how far the disk has the chain, and how much of it is behind the record `known`."""
        writer = self._writer
        num_since = 0 if known is None else writer.num_drafts_since(known)
        self._wire.send(Begun(_written(writer), writer.torn_bytes, writer.damaged_line, num_since))

    def run(self) -> None:
        """Write batch after batch; returns when the log is gone."""
        while (batch := self._wire.batch()) is not None:
            self._wire.send(self._write(batch))

    def _write(self, batch: Batch) -> Written | Refused:
        for number, note in batch.forms:
            self._forms[number] = NoteForm(note)
        drafts = [self._draft(told) for told in batch.told]
        for number in batch.forgotten:
            del self._forms[number]
        try:
            self._writer.append(drafts)
        except AshoreError as fault:
            return refusal(fault)
        return _written(self._writer)

    def _draft(self, told: Told) -> Draft:
        what = self._forms[told.form] if told.form else told.note or told.act or told.said
        assert what is not None
        return Draft(told.at_us, told.mono_us, what, told.request_id, told.sealed)


def _written(writer: ChainWriter) -> Written:
    head = writer.head
    return Written(head.segment, head.seq, head.hash)


def refusal(fault: AshoreError) -> Refused:
    """Return an error as the log can raise it again."""
    return Refused(fault.code, fault.message, fault.hint)


def take(root: Path, chain: ChainName, segment_bytes: int) -> ChainWriter:
    """Return the writer of a chain; waits for one that still writes the rest of its own.

    Raises:
        HomeBusy: it did not let go.
        AuditUnavailable: the folder cannot be written.
    """
    until = time.monotonic() + TAKE_S
    while True:
        try:
            return ChainWriter(root, chain, segment_bytes=segment_bytes)
        except HomeBusy:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK_S)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--chain", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--segment-bytes", type=int, default=SEGMENT_BYTES)
    parser.add_argument("--known", type=int, help="the last record of the last whole batch of a scribe that died")
    given = parser.parse_args(words)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a worker that drains records until its end
    wire = Wire(socket.socket(fileno=given.fd))
    try:
        writer = take(given.root, ChainName(given.chain), given.segment_bytes)
    except AshoreError as fault:
        wire.send(refusal(fault))
        return fault.exit_code
    try:
        scribe = Scribe(wire, writer)
        scribe.begin(given.known)
        scribe.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the log died while it was answered
    finally:
        writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
