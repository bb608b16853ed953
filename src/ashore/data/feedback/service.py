"""Votes on answers: who may give one, what is stored, and how a person is erased."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest, NotFound, Overloaded, PermissionDenied
from ashore.data.cache import purge
from ashore.data.cache.calls import PURGE
from ashore.data.feedback.consent import Consents, Purpose
from ashore.data.feedback.model import Receipt, Vote
from ashore.data.feedback.receipts import Blacken
from ashore.data.feedback.runs import Run, forget_examples
from ashore.data.feedback.sql import (
    find_receipts,
    find_vote,
    forget_person,
    forget_texts,
    remove_vote,
    save_vote,
    tenants_with_texts,
)
from ashore.data.feedback.texts import SealedTexts, opened, seal
from ashore.data.feedback.votes import MOST_CORRECTION_CHARS, Feedback, VotePace, answer_key, check_correction
from ashore.data.jobs import Quotas, check_room, check_stored
from ashore.kit.call import Actor, Aside, Rights
from ashore.kit.copied import copied
from ashore.kit.recorder import Recorder
from ashore.kit.rights import check_on
from ashore.kit.state import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


log = logging.getLogger("ashore.learning")

REVIEW: Final = "feedback:review"
ELSEWHERE_S: Final = 1.5
"""How long a vote looks for a receipt that another machine may be writing."""
FIRST_LOOK_S: Final = 0.05
LONGEST_LOOK_S: Final = 0.4
"""Longest pause between two looks for a receipt; it doubles from one to the next."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A stored vote."""

    id: str
    """Of the vote. The same vote again has the same id."""
    object: str = "feedback"
    answer: str
    """Id of the answer, as it was sent."""
    model: str
    release: str
    rating: str | None
    """`up`, `down`, or null: only tags were given, or the vote was taken back."""
    score: float | None = None
    tags: list[str] = []
    learns: bool
    """Whether question and answer are kept with it, so that a model can learn from it."""
    why: str = ""
    """Why it is not."""
    created: int
    """Seconds since 1970, of the first vote."""


class FeedbackService:
    """Takes votes. Thread-safe; every call but `vote_soon` waits for the database."""

    def __init__(
        self,
        database: Database,
        texts: SealedTexts,
        consents: Consents,
        *,
        secret: bytes,
        blacken: Blacken,
        rights: Rights,
        recorder: Recorder,
        clock: Clock,
        quotas: Quotas,
        ttl_s: Callable[[], float],
        written: Callable[[], Awaitable[object]],
    ) -> None:
        """Create it. `ttl_s`: how long an answer may be voted on. `written`: returns once the receipts of answers that
        have ended are on disk, or a limit has passed."""
        self._quotas, self._pace = quotas, VotePace()
        self._database, self._texts, self._consents = database, texts, consents
        self.written = written
        self._ttl_s = ttl_s
        self._secret, self._blacken, self._rights = secret, blacken, rights
        self._recorder, self._clock = recorder, clock

    def now_ms(self) -> int:
        return int(self._clock.now_s() * 1000)

    def purpose(self, tenant: str) -> Purpose:
        """Return the current purpose of a tenant's votes. Never blocks."""
        return self._consents.purpose(tenant)

    async def vote_soon(
        self, feedback: Feedback, actor: Actor, *, came_s: float, longest: Mapping[str, int], aside: Aside
    ) -> Given:
        """As `vote`, but waits for the receipt of a recent answer that is not on disk yet. Holds no thread meanwhile,
        so that a flood of votes for unknown answers delays no one else.

        Args:
            feedback: The vote.
            actor: The voter.
            came_s: When the request came, in monotonic seconds: all votes of one request wait no longer than one.
            longest: Characters that an answer of a model may have; a model that is not in it has no bound of its own.
            aside: Executor that masks corrections, so that other state work does not wait.

        Raises:
            Overloaded: the voter has given too many in the last seconds.
            InvalidRequest: the correction is longer than an answer of the model may be.
            DeadlineExceeded: the correction was not masked in time.
        """
        self._pace.take((str(actor.principal.tenant), actor.principal.id), time.monotonic())
        pause_s = 0.0
        while True:
            waited_s = time.monotonic() - came_s
            try:
                receipt = await asyncio.to_thread(self._answer_of, feedback, actor)
                break
            except NotFound:
                if waited_s > ELSEWHERE_S:
                    raise
            if not pause_s:
                pause_s = FIRST_LOOK_S
                await self.written()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_LOOK_S)
        correction = None
        if feedback.correction is not None and self._keeps_text(receipt):
            check_correction(feedback.correction, longest.get(receipt.model, MOST_CORRECTION_CHARS))
            correction = await aside(actor.principal, partial(self._masked, feedback.correction))
        return await asyncio.to_thread(self._keep, feedback, receipt, correction, actor)

    def vote(self, feedback: Feedback, actor: Actor) -> Given:
        """Store a vote. The same vote again changes nothing; another one of the same voter replaces it. On return it is
        on disk, and a cached answer that was voted down is purged.

        Raises:
            As `_answer_of` and `_keep` do.
        """
        receipt = self._answer_of(feedback, actor)
        text = feedback.correction
        correction = self._masked(text) if text is not None and self._keeps_text(receipt) else None
        return self._keep(feedback, receipt, correction, actor)

    def _masked(self, text: str) -> str:
        return self._blacken([text])[0]

    def _keeps_text(self, receipt: Receipt) -> bool:
        return bool(receipt.key_id) and self._consents.purpose(receipt.tenant) == "train"

    def _answer_of(self, feedback: Feedback, actor: Actor) -> Receipt:
        """Return the answer that a vote is on.

        Raises:
            InvalidRequest: it says nothing, contradicts itself, or prefers an answer to another question.
            NotFound: there is no such answer, it expired, or it is another person's and the caller is not a reviewer.
            PermissionDenied: the tenant did not consent, or `user` names another person and the caller may not review.
        """
        feedback.check()
        me = actor.principal
        tenant, purpose = str(me.tenant), self._consents.purpose(str(me.tenant))
        if purpose == "none":
            raise PermissionDenied(
                f"the tenant {tenant!r} did not consent to feedback",
                hint="a security officer changes that with `ashore learn consent`",
                action=REVIEW,
                resource=f"tenant/{tenant}",
                rule="[learning] tenants, or `ashore learn consent`",
            )
        if feedback.user and feedback.user != me.id:
            check_on(self._rights, me, REVIEW, f"tenant/{tenant}")
        key = answer_key(feedback.id)
        receipt = self._look(key, feedback, actor) or self._voted_before(key, feedback, actor)
        if receipt is None:
            raise NotFound(
                f"there is no answer {feedback.id[:80]!r} to vote on",
                hint=f"send the id of an answer of yours that is not older than {self._ttl_s() / 3600:g} h; "
                "answers to requests with `Cache-Control: no-store`, in batches or with several choices have none",
                param="id",
            )
        if receipt.account != me.id:
            check_on(self._rights, me, REVIEW, f"tenant/{tenant}")
        return receipt

    def _keep(self, feedback: Feedback, receipt: Receipt, correction: str | None, actor: Actor) -> Given:
        """Store a vote on an answer. `correction`: masked; None if there is none, or it may not be stored.

        Raises:
            InvalidRequest, NotFound: the preferred answer is not one to the same question.
            DiskFull, BudgetExceeded: there is no room for it.
        """
        if feedback.takes_back:
            return self._take_back(feedback, receipt, actor)
        tenant, purpose = receipt.tenant, self._consents.purpose(receipt.tenant)
        vote = self._made(feedback, receipt, correction, actor, keeps_text=purpose == "train")
        with self._database.write() as connection:
            check_room(self._database, vote.num_bytes, of=(connection, tenant))
            check_stored(connection, tenant, vote.num_bytes, self._quotas.most("stored_bytes", tenant))
            kept = save_vote(connection, vote)
            is_new = kept.said == vote.said and kept.changed_ms == vote.changed_ms
            purged = receipt.entry_id if is_new and vote.rating == "down" else ""
            if purged:  # in one transaction: once a vote down is stored, its cached answer is never served again
                purge(connection, entry_id=purged)
                named = {"entry": purged, "feedback": kept.feedback_id, "model": kept.model}
                actor.record(self._recorder, PURGE, "cache", detail=named, on=connection)
            if receipt.account != actor.principal.id:
                rated = {"feedback": kept.feedback_id, "rating": kept.rating}
                actor.record(self._recorder, REVIEW, f"tenant/{tenant}", detail=rated, on=connection)
        why = "" if kept.has_text else _why_no_text(purpose)
        return Given(
            id=kept.feedback_id,
            answer=feedback.id,
            model=kept.model,
            release=kept.release,
            rating=kept.rating or None,
            score=kept.score,
            tags=list(kept.tags),
            learns=kept.has_text,
            why=why,
            created=kept.created_ms // 1000,
        )

    def forget(
        self, tenant: str, person: str, record: Callable[[Connection, int, int, list[Run]], None]
    ) -> tuple[int, int, list[Run], Overloaded | None]:
        """Erase a person: destroy the key of their texts, then drop their receipts, the votes on their answers and the
        votes that they gave; return how many receipts and votes there were, the runs that learned from them, and why a
        file still has the key, if it does (see `Database.scrub`; call it again). May be called twice.
        `record` is called in the transaction that drops them. Receipts of answers that ended must be on disk: see
        `written`.
        """
        left: Overloaded | None = None
        try:
            self._texts.erase(tenant, person)
        except Overloaded as fault:  # an error of the callback must not stop the erasure
            left = fault
        with self._database.write() as connection:
            gone = *forget_person(connection, tenant, person), forget_examples(connection, tenant, person)
            record(connection, *gone)
        try:  # their votes on other people's answers are sealed with those people's keys
            self._database.scrub()
        except Overloaded as fault:
            log.warning("%s; it goes with the next erasure, or when ashore stops", fault.message)
        else:
            left = None
        return *gone, left

    def drop_withdrawn(self) -> None:
        """Erase texts of tenants that do not consent to training. Votes or answers in flight during a withdrawal, and
        changes of ashore.toml, may have left some.
        """
        with self._database.read() as connection:
            tenants = [one for one in tenants_with_texts(connection) if self._consents.purpose(one) != "train"]
        for tenant in tenants:
            with self._database.write() as connection:
                forget_texts(connection, tenant, bare=False)
        if tenants:
            self._database.scrub()

    def _look(self, key: str, feedback: Feedback, actor: Actor) -> Receipt | None:
        me = actor.principal
        own = feedback.user or me.id
        now_ms = self.now_ms()
        with self._database.read() as connection:
            found = find_receipts(connection, str(me.tenant), key, account=own, now_ms=now_ms)
            if not found and not feedback.user and self._may_review(actor):
                found = find_receipts(connection, str(me.tenant), key, account="", now_ms=now_ms)
        if len({one.account for one in found}) > 1:
            raise InvalidRequest(
                f"{len(found)} people got an answer with the id {feedback.id[:80]!r}",
                hint="send user, the one who got it",
                param="user",
            )
        return found[0] if found else None

    def _may_review(self, actor: Actor) -> bool:
        return self._rights.decide(actor.principal, REVIEW, f"tenant/{actor.principal.tenant}").allowed

    def _voted_before(self, key: str, feedback: Feedback, actor: Actor) -> Receipt | None:
        """Return what a voter's earlier vote still has of an answer whose receipt expired."""
        me = actor.principal
        with self._database.read() as connection:
            vote = find_vote(connection, str(me.tenant), feedback.user or me.id, key, me.id)
        if vote is None:
            return None
        return copied(Receipt, vote, entry_id="", made_ms=vote.answered_ms, expires_ms=0)

    def _take_back(self, feedback: Feedback, receipt: Receipt, actor: Actor) -> Given:
        with self._database.write() as connection:
            was = find_vote(connection, receipt.tenant, receipt.account, receipt.answer_id, actor.principal.id)
            remove_vote(connection, receipt.tenant, receipt.account, receipt.answer_id, actor.principal.id)
        return Given(
            id="" if was is None else was.feedback_id,
            answer=feedback.id,
            model=receipt.model,
            release=receipt.release,
            rating=None,
            learns=False,
            why="the vote was taken back",
            created=0 if was is None else was.created_ms // 1000,
        )

    def _made(
        self, feedback: Feedback, receipt: Receipt, masked: str | None, actor: Actor, *, keeps_text: bool
    ) -> Vote:
        """Return the vote as stored: texts masked, and sealed under the key of the answer's account."""
        now_ms = self.now_ms()
        preferred = "" if feedback.preferred is None else self._preferred(feedback.preferred, receipt)
        correction = ""
        key = self._texts.find(receipt.key_id) if receipt.key_id and keeps_text else None
        if key is None:
            receipt, preferred = replace(receipt, key_id="", question="", answer="", digest=""), ""
        elif masked is not None:
            correction = seal(key, masked)
        return copied(
            Vote,
            receipt,
            feedback_id=f"fb_{secrets.token_hex(12)}",
            voter=actor.principal.id,
            rating=feedback.verdict(),
            score=feedback.score,
            tags=tuple(feedback.tags),
            correction=correction,
            preferred=preferred,
            said=self._said(feedback, keeps=key is not None),
            answered_ms=receipt.made_ms,
            created_ms=now_ms,
            changed_ms=now_ms,
        )

    def _preferred(self, preferred_id: str, receipt: Receipt) -> str:
        """Return the sealed text of a better answer, which the same account got to the same question."""
        with self._database.read() as connection:
            found = find_receipts(
                connection,
                receipt.tenant,
                answer_key(preferred_id),
                account=receipt.account,
                now_ms=self.now_ms(),
            )
        if not found:
            raise NotFound(
                f"there is no answer {preferred_id[:80]!r} that could be preferred",
                hint="send the id of another answer to the same question",
                param="preferred",
            )
        other = found[0]
        if other.digest != receipt.digest:
            raise InvalidRequest(
                "the preferred answer is one to another question",
                hint="send the id of another answer to the same question, or a correction",
                param="preferred",
            )
        if not other.key_id or not receipt.key_id:
            return ""
        mine, theirs = self._texts.find(receipt.key_id), self._texts.find(other.key_id)
        return "" if mine is None or theirs is None else seal(mine, opened(theirs, other.answer))

    def _said(self, feedback: Feedback, *, keeps: bool) -> str:
        said = (keeps, feedback.verdict(), feedback.score, feedback.correction, feedback.preferred, feedback.tags)
        return hmac.new(self._secret, msgspec.json.encode(said), hashlib.sha256).hexdigest()[:32]


def _why_no_text(purpose: Purpose) -> str:
    if purpose == "measure":
        return "only the vote is kept: the votes of this tenant are for measuring"
    return "only the vote is kept: question and answer are too long, a tool was called, or their key was erased"
