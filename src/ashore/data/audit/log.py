"""The audit log of one process: takes notes and acts from any thread, and writes them to disk in batches.

Callers append to a queue and continue. One thread empties it, encodes, writes and syncs. A waiter is queued after the
records it waits for, so that the order alone determines what is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from ashore.core.errors import AshoreError, AuditUnavailable
from ashore.data.audit.digests import Digester
from ashore.data.audit.knocks import EVERY_S, Knocks
from ashore.data.audit.model import Head, RequestNote, Sealed
from ashore.data.audit.outbox import keep_act
from ashore.data.audit.section import Durability
from ashore.data.audit.writer import FREE_SPACE, ChainWriter, Draft, NoteForm
from ashore.kit.processes import is_no_room
from ashore.kit.recorder import Act
from ashore.kit.reserve import Reserve
from ashore.kit.state import after_commit

GATHER_S: Final = 0.02
"""How long a batch grows before it is written; with write and sync, well within 50 ms."""
PATIENCE_S: Final = 2.0
"""Once a record has waited so long, new requests are refused."""
RETRY_S: Final = 0.5
MOST_BATCH: Final = 4_096
MOST_WAITING: Final = 200_000
"""Records in memory; further ones are refused with an error."""

log = logging.getLogger("ashore.audit")
_time_ns = time.time_ns
_monotonic_ns = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Options of a process's log."""

    durability: Durability = "batched"
    keeps_content: bool = False
    gather_s: float = GATHER_S
    patience_s: float = PATIENCE_S


class Sealer(Protocol):
    """Encrypts a person's prompt and answer."""

    def seal(self, subject: str, prompt: bytes, answer: bytes) -> Sealed | None:
        """Return the ciphertext under the subject's key; None if the subject was erased or the text is too long."""
        ...


class AuditLog:
    """Implements `Recorder` and the `Auditor` of the request path. `start` before use, `close` after."""

    def __init__(
        self,
        writer: ChainWriter,
        *,
        options: LogOptions | None = None,
        digester: Digester | None = None,
        clock_ns: Callable[[], int] = _time_ns,
    ) -> None:
        self._writer = writer
        self._sealer: Sealer | None = None
        self._announce = True
        self._options = options or LogOptions()
        self.strict: Final = self._options.durability == "strict"
        """Whether no answer goes out before its record is on disk."""
        self.keeps_content: Final = self._options.keeps_content
        """Whether notes carry prompt and answer."""
        self._digester = digester
        self._clock_ns = clock_ns
        self._queue: deque[Draft | Future[None]] = deque()
        self._knocks = Knocks()
        self._reserve = Reserve(writer.root.parent)
        self.spends_reserve = False
        """Whether the disk was full, and its reserve is in use."""
        self._wake = threading.Event()
        self._awake = False
        self._stopping = False
        self._fault: AshoreError | None = None
        self._waiting_since = 0.0
        """When the oldest unwritten record was queued; 0: none."""
        self._head = writer.head
        self._runs = False
        """Whether the writing thread runs."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self, *, announce: bool = True) -> AuditLog:
        """Start writing; records in the chain that a writer started, and what it found. Returns itself."""
        if announce or self._writer.torn_bytes or self._writer.damaged_line:
            detail: dict[str, str | int] = {"pid": os.getpid()}
            if self._writer.torn_bytes:
                detail["torn_bytes"] = self._writer.torn_bytes
            if self._writer.damaged_line:
                detail["damaged_line"] = self._writer.damaged_line
            self._put(("writer:start", detail))
        self._announce, self._runs = announce, True
        self._thread.start()
        return self

    @property
    def head(self) -> Head:
        """The head of the chain on disk."""
        return self._head

    def seal_content_with(self, sealer: Sealer) -> None:
        """From now on encrypt the content of notes with `sealer`."""
        self._sealer = sealer

    # --- Recorder

    def record(self, act: Act, *, on: Any = None) -> None:
        """Take one act. Returns at once. What changed nothing and is equal to an earlier one is counted (`Knocks`)."""
        if on is not None:
            self.check_acts()
            draft = Draft(self._clock_ns() // 1000, _monotonic_ns() // 1000, act)
            keep_act(on, self._writer.root, draft.at_us, act)
            after_commit(on, partial(self._enqueue, draft))
        elif act.outcome == "done" or self._knocks.is_new(act, self._clock_ns() // 1000):
            self._put(act)

    def settle(self, timeout_s: float) -> None:
        """Return when everything recorded before is on disk.

        Raises:
            AuditUnavailable: it was not in time, or cannot be written.
        """
        waiter: Future[None] = Future()
        self._enqueue(waiter)
        try:
            waiter.result(timeout_s)
        except TimeoutError as fault:
            raise self._late(timeout_s) from fault

    # --- Auditor of the request path

    def note(self, note: RequestNote) -> None:
        """Record one request. Returns at once."""
        self._put(note)

    def repeat(self, form: NoteForm, request_id: str) -> None:
        """Record one request that got a cached answer. Returns at once."""
        self._enqueue(Draft(self._clock_ns() // 1000, _monotonic_ns() // 1000, form, request_id))

    def check(self) -> None:
        """Check that requests may be answered: they can be recorded without using space reserved for administration.

        Raises:
            AuditUnavailable: as `check_acts`, or the disk is full but for the reserve.
        """
        if self.spends_reserve:
            raise AuditUnavailable(
                "the disk is full; what is left is kept for administration", hint=FREE_SPACE, retry_after_s=2.0
            )
        self.check_acts()

    def check_acts(self) -> None:
        """Check that acts can be recorded.

        Raises:
            AuditUnavailable: the disk is full, the writer is dead, or records have waited too long.
        """
        if self._fault is not None:
            raise AuditUnavailable(self._fault.message, hint=self._fault.hint, retry_after_s=2.0)
        since = self._waiting_since
        if since and time.monotonic() - since > self._options.patience_s:
            raise self._late(self._options.patience_s)
        if len(self._queue) > MOST_WAITING or not self._runs:
            raise self._late(self._options.patience_s)

    async def durable(self, timeout_s: float = 5.0) -> None:
        """Return when everything recorded before is on disk; for the event loop.

        Raises:
            AuditUnavailable: it was not in time, or cannot be written.
        """
        waiter: Future[None] = Future()
        self._enqueue(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wrap_future(waiter)
        except TimeoutError as fault:
            raise self._late(timeout_s) from fault

    def digest(self, text: bytes) -> str:
        """Return the keyed digest of a text; empty if there is no key."""
        return "" if self._digester is None else self._digester.digest(text)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write the rest, record in the chain that the writer stopped, and release the chain. May be called twice."""
        if not self._stopping:
            self._count_knocks()
            if self._announce:
                self._put(("writer:stop", {}))
            self._stopping = True
            self._wake.set()
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._writer.close()

    # --- the queue

    def _put(self, what: RequestNote | Act | tuple[str, dict[str, str | int]]) -> None:
        self._enqueue(Draft(self._clock_ns() // 1000, _monotonic_ns() // 1000, what))

    def _count_knocks(self) -> None:
        for act in self._knocks.take():
            self._put(act)

    def _enqueue(self, item: Draft | Future[None]) -> None:
        """Append, and wake the writer if it sleeps.

        The writer sets its sleep flag before it checks the queue, so it either sees the appended item or is woken.
        """
        self._queue.append(item)
        if not self._awake:
            self._awake = True
            if not self._waiting_since:
                self._waiting_since = time.monotonic()
            self._wake.set()

    def _run(self) -> None:
        try:
            self._write_all()
        finally:
            self._runs = False

    def _write_all(self) -> None:
        due_s = time.monotonic() + EVERY_S
        while True:
            self.spends_reserve = self._reserve.is_spent
            self._wake.wait(max(0.0, min(RETRY_S if self.spends_reserve else EVERY_S, due_s - time.monotonic())))
            if self.spends_reserve:
                self._reserve.take()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + EVERY_S
                self._count_knocks()
            if not self._wake.is_set():
                continue
            self._gather()
            self._wake.clear()
            self._awake = False
            # records that arrive during the write form a batch of their own, and are gathered too
            left = len(self._queue)
            while left > 0:
                items = self._take()
                left -= len(items)
                self._write(items)
            self._waiting_since = time.monotonic() if self._awake else 0.0
            if self._stopping and not self._queue:
                return

    def _gather(self) -> None:
        """Let a batch grow until its oldest record has waited for `gather_s`, also after a slow sync."""
        gather_s = 0.0 if self.strict or self._stopping else self._options.gather_s
        oldest = self._queue[0] if self._queue else None
        if gather_s and isinstance(oldest, Draft):
            time.sleep(max(0.0, gather_s - (_monotonic_ns() / 1e9 - oldest.mono_us / 1e6)))

    def _take(self) -> list[Draft | Future[None]]:
        queue = self._queue
        return [queue.popleft() for _ in range(min(len(queue), MOST_BATCH))]

    def _write(self, items: list[Draft | Future[None]]) -> None:
        """Write one batch, retrying; while it fails, requests are refused and waiters get the reason."""
        drafts = [item for item in items if isinstance(item, Draft)]
        waiters = [item for item in items if isinstance(item, Future)]
        while True:
            try:
                self._append(drafts)
                break
            except AshoreError as fault:
                cause = fault.__cause__
                if isinstance(cause, OSError) and is_no_room(cause) and self._reserve.release():
                    log.error("the disk is full: requests are refused; the reserve is released for administration")
                    self.spends_reserve = True
                    continue
                if self._fault is None:
                    log.error("%s (%s)", fault.message, fault.hint)
                self._fault = fault
                _tell(waiters, fault)
                waiters = []
            except Exception as fault:  # outermost loop: a record that breaks the writer stops the service
                log.exception("the audit writer failed")
                self._fault = AuditUnavailable(f"the audit writer failed: {type(fault).__name__}: {fault}")
                _tell(waiters, self._fault)
                waiters = []
            if self._stopping:
                log.error("cannot write %d audit records", len(drafts))
                return
            time.sleep(RETRY_S)
        if self._fault is not None:
            log.warning("the audit log can be written again")
            self._fault = None
        self._head = self._writer.head
        _tell(waiters, None)
        self._waiting_since = time.monotonic() if self._queue else 0.0

    def _append(self, drafts: list[Draft]) -> None:
        sealer = self._sealer
        if sealer is not None:
            drafts = [_with_ciphertext(draft, sealer) for draft in drafts]
        self._writer.append(drafts)

    def _late(self, waited_s: float) -> AuditUnavailable:
        if self._fault is not None:
            return AuditUnavailable(self._fault.message, hint=self._fault.hint, retry_after_s=2.0)
        if not self._runs:
            return AuditUnavailable("the audit writer has ended", hint="restart the server; its log has the reason")
        return AuditUnavailable(
            f"the audit records were not on disk after {waited_s:g} s; the disk is slow or stuck",
            hint="check the disk of the home; requests are accepted again once it keeps up",
            retry_after_s=2.0,
        )


def _with_ciphertext(draft: Draft, sealer: Sealer) -> Draft:
    note = draft.what
    if not isinstance(note, RequestNote) or note.content is None:
        return draft
    return msgspec.structs.replace(draft, sealed=sealer.seal(note.principal, *note.content))


def _tell(waiters: list[Future[None]], fault: AshoreError | None) -> None:
    for waiter in waiters:
        if not waiter.set_running_or_notify_cancel():
            continue
        if fault is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(fault)
