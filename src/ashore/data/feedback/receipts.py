"""Receipts: masked questions and answers, stored while they may be voted on.

The request path only collects pieces and puts the answer into a bounded queue; a thread masks, seals and writes in
batches. When the queue is full, receipts are dropped and counted: only a vote waits for a receipt.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, BudgetExceeded, DiskFull
from ashore.data.audit import RequestNote
from ashore.data.feedback.consent import Consents
from ashore.data.feedback.model import Answered, Receipt, Said
from ashore.data.feedback.sql import save_receipts
from ashore.data.feedback.texts import SealedTexts, as_text, seal
from ashore.data.feedback.votes import answer_key
from ashore.data.jobs import Quotas, check_room, check_stored
from ashore.data.path import Arrival, Delta, GenerationRequest, ServingEvent, Span
from ashore.kit.copied import copied
from ashore.kit.state import Database

log = logging.getLogger("ashore.learning")

MOST_WAITING: Final = 4_096
"""Answers that wait to be written; further ones get no receipt."""
MOST_WAITING_CHARS: Final = 32 << 20
"""Of all texts that wait."""
MOST_OF_TENANT: Final = MOST_WAITING_CHARS // 2
"""Share of the queue for one tenant, so that one tenant's answers cannot displace others' receipts."""
MOST_CHARS: Final = 65_536
"""Of question and answer together; a longer one can be voted on, and nothing is learned from it."""
BATCH: Final = 256
EVERY_S: Final = 0.2
"""How long answers are gathered for one transaction."""

WRITTEN: Final = "/internal/receipts"
"""Where a worker answers once the receipts of answers that have ended are on disk."""
WRITTEN_S: Final = 5.0
"""Longest wait for that."""
LOOK_S: Final = 0.02

Blacken = Callable[[Sequence[str]], Sequence[str]]
Counted = Callable[[int, str], None]


class Receipts:
    """A `Tracer` of `data/path/guards.py` that stores answers for voting. Called on one event loop; `close` on a
    thread.

    It starts no trace of its own: it receives the events beside the real tracer.
    """

    def __init__(
        self,
        database: Database,
        texts: SealedTexts,
        consents: Consents,
        *,
        secret: bytes,
        ttl_s: float,
        blacken: Blacken,
        counted: Counted,
        clock: Clock,
        quotas: Quotas,
    ) -> None:
        """Make it and start the thread.

        Args:
            database: Where receipts go.
            texts: Seals them.
            consents: Returns what may be stored for a tenant.
            secret: Key of the digests of questions.
            ttl_s: How long an answer may be voted on.
            blacken: Masks all findings in texts, regardless of policy. Called on the thread.
            counted: Called with how many answers were `kept`, or `dropped`, or had `no_room`; on the thread or the
                loop.
            clock: For the time of an answer.
            quotas: What a tenant may store.
        """
        self.ttl_s = ttl_s
        self._database, self._texts, self._consents = database, texts, consents
        self._secret, self._blacken, self._counted, self._clock = secret, blacken, counted, clock
        self._quotas = quotas
        self._waiting: deque[Answered] = deque()
        self._chars = 0
        self._share_of: Counter[str] = Counter()
        """By tenant, how much of the room its answers take."""
        self._lock = threading.Condition()
        self._writing = False
        self._closing = False
        self._was_full = ""
        """Code of the error for which receipts were dropped last; empty: they are kept."""
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._thread.start()

    def begin(self, operation: str, alias: str, arrival: Arrival) -> Span | None:
        """Return the collector of one answer; None unless it is a chat."""
        return _Gathering(self, arrival) if operation == "chat" else None

    def repeated(self, note: RequestNote, request_id: str, arrival: Arrival) -> None:
        """No-op: a repeated response has the id, and so the receipt, of the first."""

    def take(self, answered: Answered) -> None:
        """Queue an answer, or drop it if the queue is full."""
        with self._lock:
            chars, share = self._chars + answered.num_chars, self._share_of[answered.tenant] + _share(answered)
            is_full = len(self._waiting) >= MOST_WAITING or chars > MOST_WAITING_CHARS or share > MOST_OF_TENANT
            dropped = is_full or self._closing
            if not dropped:
                self._waiting.append(answered)
                self._chars, self._share_of[answered.tenant] = chars, share
                self._lock.notify_all()
        if dropped:
            self._counted(1, "dropped")

    def may_keep(self, tenant: str) -> bool:
        """Return whether answers of a tenant get receipts."""
        return self._consents.purpose(tenant) != "none"

    def now_ms(self) -> int:
        return int(self._clock.now_s() * 1000)

    async def written(self, within_s: float = WRITTEN_S) -> bool:
        """Wait until everything taken so far is on disk, or for so long; return whether it is. Holds no thread."""
        for _ in range(round(within_s / LOOK_S)):
            if not (self._waiting or self._writing):
                return True
            await asyncio.sleep(LOOK_S)
        return False

    def close(self) -> None:
        """Write the rest and end. May be called twice."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                if not self._closing and len(self._waiting) < BATCH:
                    self._lock.wait_for(lambda: self._closing or len(self._waiting) >= BATCH, EVERY_S)
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._chars -= sum(one.num_chars for one in batch)
                for one in batch:
                    self._share_of[one.tenant] -= _share(one)
                self._share_of += Counter()  # forgets who has none
                self._writing = True
            try:
                self._write(batch)
            except AshoreError as fault:
                log.warning("cannot keep receipts of %d answers: %s", len(batch), fault.message)
                self._counted(len(batch), "dropped")
            except Exception:  # outermost loop of this thread: the next batch may succeed
                log.exception("cannot keep receipts of %d answers", len(batch))
                self._counted(len(batch), "dropped")
            finally:
                with self._lock:
                    self._writing = False
                    self._lock.notify_all()

    def _write(self, batch: Sequence[Answered]) -> None:
        """Store the receipts that fit on the disk, within its reserve, and in their tenants' budgets."""
        try:
            check_room(self._database, sum(one.num_chars for one in batch))  # before anything is masked
        except DiskFull as fault:
            self._drop(len(batch), fault)
            return
        receipts = [self._receipt(one) for one in batch]
        kept: list[Receipt] = []
        with self._database.write() as connection:
            for tenant in dict.fromkeys(one.tenant for one in receipts):
                theirs = [one for one in receipts if one.tenant == tenant]
                most = self._quotas.most("stored_bytes", tenant)
                added = sum(one.num_bytes for one in theirs)
                try:
                    check_room(self._database, added, of=(connection, tenant))
                    check_stored(connection, tenant, added, most)
                except (BudgetExceeded, DiskFull) as fault:
                    self._drop(len(theirs), fault)
                else:
                    kept += theirs
            save_receipts(connection, kept)
        if kept:
            self._counted(len(kept), "kept")
            self._was_full = ""

    def _drop(self, number: int, fault: AshoreError) -> None:
        """Count answers without a receipt, and log the reason once."""
        self._counted(number, "no_room")
        if fault.code != self._was_full:
            self._was_full = fault.code
            log.warning("answers get no receipts and cannot be voted on: %s", fault.message)

    def _receipt(self, one: Answered) -> Receipt:
        """Mask and seal. If no text may be stored, the receipt only names the account."""
        key_id = question = answer = digest = ""
        if self._consents.purpose(one.tenant) == "train" and one.messages:
            masked = self._blacken([*(message.content for message in one.messages), one.answer])
            said = tuple(Said(m.role, text) for m, text in zip(one.messages, masked[:-1], strict=True))
            key = self._texts.key(one.tenant, one.account)
            key_id, text = key.key_id, as_text(said)
            question, answer = seal(key, text), seal(key, masked[-1])
            digest = question_digest(self._secret, said)
        return copied(
            Receipt,
            one,
            digest=digest,
            key_id=key_id,
            question=question,
            answer=answer,
            expires_ms=one.made_ms + int(self.ttl_s * 1000),
        )


def _share(answered: Answered) -> int:
    """Return an answer's share of the queue, in characters; each place counts for as many."""
    return max(MOST_WAITING_CHARS // MOST_WAITING, answered.num_chars)


class _Gathering:
    """The `Span` of one answer."""

    __slots__ = (
        "_answer", "_chars", "_entry_id", "_left_out", "_messages", "_receipts", "answer_id", "trace_id", "traceparent"
    )  # fmt: skip

    def __init__(self, receipts: Receipts, arrival: Arrival) -> None:
        self._receipts = receipts
        self.trace_id, self.traceparent = arrival.trace, arrival.traceparent
        self.answer_id = self._entry_id = ""
        self._messages: tuple[Said, ...] = ()
        self._answer: list[str] = []
        self._chars = 0
        self._left_out = False

    def asked(self, request: GenerationRequest, *, content: bool, entry_id: str = "") -> None:
        """Take the question as the model sees it. No receipt for requests that opt out, lines of a batch, and multiple
        answers.
        """
        self.answer_id, self._answer, self._entry_id = request.answer_id, [], entry_id
        self._left_out = request.cache.no_store or request.urgency == "batch" or request.num_choices > 1
        chars = sum(len(message.content) for message in request.messages)
        calls = any(message.tool_calls for message in request.messages)
        if not self._left_out and not calls and chars <= MOST_CHARS:
            self._chars = chars
            self._messages = tuple(Said(message.role, message.content) for message in request.messages)
        else:
            self._chars = MOST_CHARS + 1

    def hear(self, event: ServingEvent) -> None:
        """Take the next event in the model's words, before masked values are restored."""
        if isinstance(event, Delta) and self._chars <= MOST_CHARS:
            if event.tool_calls:
                self._chars = MOST_CHARS + 1
            self._chars += len(event.text)
            self._answer.append(event.text)

    def end(self, note: RequestNote) -> None:
        """Hand over the collected answer if it is complete."""
        if note.outcome != "answered" or self._left_out or not self._receipts.may_keep(note.tenant):
            return
        fits = self._chars <= MOST_CHARS
        self._receipts.take(
            Answered(
                answer_id=answer_key(self.answer_id or note.request_id),
                tenant=note.tenant,
                account=note.principal,
                model=note.alias,
                release=note.release,
                messages=self._messages if fits else (),
                answer="".join(self._answer) if fits else "",
                num_tokens=note.completion_tokens,
                entry_id=self._entry_id,
                made_ms=self._receipts.now_ms(),
            )
        )


def question_digest(secret: bytes, messages: Sequence[Said]) -> str:
    """Return a digest shared by equal questions, ignoring spaces and case; without the secret no one can test
    guesses.
    """
    plain = "\x00".join(f"{one.role}\x01{' '.join(one.content.lower().split())}" for one in messages)
    return hmac.new(secret, plain.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]
