"""A writer whose lines are made in a process of its own, and which starts another one when that dies."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from ashore.audit.forms import NoteForm
from ashore.audit.model import ChainName, Head, RequestNote
from ashore.audit.scribewire import Batch, Begun, Refused, Told, Wire, Written
from ashore.audit.writer import SEGMENT_BYTES, Draft
from ashore.core import Act
from ashore.errors import AshoreError, AuditUnavailable, HomeBusy

MOST_FORMS: Final = 4_096
"""That a scribe keeps; of those sent longest ago half are forgotten then."""
END_S: Final = 5.0
ANSWER_S: Final = 10.0
"""A scribe that says nothing for so long hangs, or its disk does: it is killed, and another one told what is missing.
Requests are refused long before (`PATIENCE_S` of the log)."""
BEGIN_S: Final = 20.0
"""The same for one that begins: it waits for what the scribe of a worker that died still writes."""

log = logging.getLogger("ashore.audit")


class ScribeWriter:
    """Used by one thread. The chain is held by the scribe, and let go when it has written all that it was sent."""

    def __init__(self, root: Path, chain: ChainName, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Start a scribe and have it take the chain.

        Raises:
            HomeBusy: another process writes this chain.
            AuditUnavailable: the folder cannot be written, or no process can be started.
        """
        self._root = root
        self._chain = chain
        self._segment_bytes = segment_bytes
        self._forms: dict[int, None] = {}
        """Numbers of those that the scribe has, in the order in which they were sent."""
        self._wire: Wire | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.head = Head(chain=chain, segment=0, seq=0, hash="")
        self._known: int | None = None
        """Number of the last record of the last whole batch; None until there is a scribe."""
        begun = self._start()
        self._known = self.head.seq
        self.torn_bytes, self.damaged_line = begun.torn_bytes, begun.damaged_line

    @property
    def pid(self) -> int:
        """Of the scribe; 0: it has none now."""
        return 0 if self._process is None else self._process.pid

    def append(self, drafts: Sequence[Draft]) -> None:
        """Return when all of them are on the disk, in this order. After an error none of them counts: call it again.

        A scribe that dies meanwhile may have written some of them. The next one tells how many, and the others are
        sent to it.

        Raises:
            AuditUnavailable: the disk is full or cannot be written, or scribes die one after the other.
        """
        if not drafts:
            return
        if self._wire is None or not self._sent(drafts):
            done = self._start().num_since
            log.warning("the audit's scribe had died; process %d goes on", self.pid)
            try:
                lived = done >= len(drafts) or self._sent(drafts[done:])
            except AshoreError:
                self._drop()  # the next one tells anew how many of these are on the disk; all of them are sent again
                raise
            if not lived:
                raise AuditUnavailable(
                    f"the process that writes the audit chain {self._chain!r} died twice in one batch",
                    hint="look for what kills it: the kernel's log names processes that ran out of memory",
                )
        self._known = self.head.seq

    def _sent(self, drafts: Sequence[Draft]) -> bool:
        """Have the scribe write; returns whether it lived to say that it did."""
        assert self._wire is not None
        try:
            self._wire.send(self._batch(drafts))
            answer = self._wire.answer()
        except TimeoutError:
            log.error("the audit's scribe, process %d, said nothing for %g s: it is killed", self.pid, ANSWER_S)
            self._kill()
            answer = None
        except OSError:
            answer = None
        if answer is None:
            self._drop()
            return False
        if isinstance(answer, Refused):
            raise _error_of(answer)
        assert isinstance(answer, Written)
        self.head = answer.head(self._chain)
        return True

    def _batch(self, drafts: Sequence[Draft]) -> Batch:
        new: list[tuple[int, RequestNote]] = []
        told = [self._told(draft, new) for draft in drafts]
        return Batch(told, new, self._forget() if new else ())

    def _told(self, draft: Draft, new: list[tuple[int, RequestNote]]) -> Told:
        what = draft.what
        if isinstance(what, NoteForm):
            number = what.number
            if number not in self._forms:
                self._forms[number] = None
                new.append((number, what.note))
            return Told(draft.at_us, draft.mono_us, draft.request_id, number)
        if isinstance(what, RequestNote):
            note = what if what.content is None else msgspec.structs.replace(what, content=None)
            return Told(draft.at_us, draft.mono_us, note=note, sealed=draft.sealed)
        if isinstance(what, Act):
            act = what if isinstance(what.detail, dict) else replace(what, detail=dict(what.detail))
            return Told(draft.at_us, draft.mono_us, act=act)
        return Told(draft.at_us, draft.mono_us, said=what)

    def _forget(self) -> Sequence[int]:
        """Return forms that the scribe may forget behind this batch; one that is named later is sent anew."""
        if len(self._forms) <= MOST_FORMS:
            return ()
        old = list(self._forms)[: MOST_FORMS // 2]
        for number in old:
            del self._forms[number]
        return old

    # --- the scribe

    def _start(self) -> Begun:
        """Start a scribe; it tells what is on the disk."""
        self._drop()
        ours, its = socket.socketpair()
        words = ["--root", str(self._root), "--chain", self._chain, "--fd", str(its.fileno())]
        words += ["--segment-bytes", str(self._segment_bytes)]
        if self._known is not None:
            words += ["--known", str(self._known)]
        self._wire = Wire(ours)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ashore.audit.scribe", *words], stdin=subprocess.DEVNULL, pass_fds=[its.fileno()]
            )
        except OSError as fault:
            self._drop()
            raise AuditUnavailable(f"no process for the audit chain {self._chain!r} can be started: {fault}") from fault
        finally:
            its.close()
        ours.settimeout(BEGIN_S)
        try:
            answer = self._wire.answer()
        except TimeoutError:
            self._kill()
            answer = None
        ours.settimeout(ANSWER_S)
        if answer is None:
            self._drop()
            raise AuditUnavailable(
                f"the process that writes the audit chain {self._chain!r} ended before it began",
                hint="the log of this process has what it said",
            )
        if isinstance(answer, Refused):
            self._drop()
            raise _error_of(answer)
        assert isinstance(answer, Begun)
        self.head = answer.written.head(self._chain)
        return answer

    def _kill(self) -> None:
        """End a scribe that hangs. Where its disk does, that takes until the disk goes on, and so does the log."""
        if self._process is not None:
            self._process.kill()

    def _drop(self) -> None:
        """Let go of a scribe; it writes what it was sent, and ends."""
        if self._wire is not None:
            self._wire.close()
        if self._process is not None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._wire = self._process = None
        self._forms.clear()

    def close(self) -> None:
        """Let go of the chain. Its segment stays open for whoever takes it next. May be called twice."""
        self._drop()


def _error_of(refused: Refused) -> AshoreError:
    """Return what a scribe refused with."""
    kind = HomeBusy if refused.code == HomeBusy.code else AuditUnavailable
    return kind(refused.message, hint=refused.hint)
