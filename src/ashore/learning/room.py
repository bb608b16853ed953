"""Feedback in an API worker: receipts of answers, and the votes on them; nothing where `[learning]` is off."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from ashore.audit import SUBJECTS_EPOCH, SqlSubjectKeys
from ashore.core import Names
from ashore.errors import AshoreError, NotReady
from ashore.jobs import NoQuotas, Quotas
from ashore.learning.calls import CALLS, LearningDesk
from ashore.learning.consent import CONSENT_EPOCH, Consents
from ashore.learning.receipts import Receipts
from ashore.learning.section import LearningSection
from ashore.learning.service import FeedbackService
from ashore.learning.sql import prune
from ashore.learning.texts import SealedTexts
from ashore.metrics import Metric
from ashore.privacy import Privacy
from ashore.rooms import Context, Opened, Room
from ashore.state import Database, kept_secret

log = logging.getLogger("ashore.worker")

SECRET: Final = "feedback"
PRUNE_EVERY_S: Final = 60.0
RECEIPTS: Final = Metric(
    "ashore_feedback_receipts",
    "counter",
    "Answers that may be voted on: `kept`, or `dropped` because too many were waiting to be written, or without room "
    "for them: the reserve of the disk or the budget of the tenant.",
    ("result",),
)
VOTES: Final = Metric("ashore_feedback_votes", "counter", "Votes on answers, by model and rating.", ("model", "rating"))


async def open_learning(context: Context) -> Opened:
    """Open the room.

    Raises:
        AshoreError: the state cannot be read.
    """
    section = context.section("learning", LearningSection)
    database = context.database
    if not section.feedback:
        return Opened(off="feedback = true under [learning]")
    if database is None:
        raise NotReady("[learning] feedback needs a state database", hint="start the server with `ashore up`")
    return await asyncio.to_thread(_opened, context, section, database)


def _opened(context: Context, section: LearningSection, database: Database) -> Opened:
    with database.write() as connection:
        secret = kept_secret(connection, SECRET)
    texts = SealedTexts(SqlSubjectKeys(database))
    consents = Consents(section.purpose, section.tenants, database)
    blacken, metrics = context.need(Privacy).blacken, context.metrics
    quotas = context.find(Quotas) or NoQuotas()

    def counted(number: int, result: str) -> None:
        metrics.add(RECEIPTS.name, number, result)

    if context.watch is not None:
        context.watch.on_change(partial(_changed, consents, texts))
        consents.refresh()  # after the line above, so that no change is missed in between
    receipts = Receipts(
        database, texts, consents, secret=secret, ttl_s=section.receipt_ttl_s, blacken=blacken, counted=counted,
        clock=context.clock, quotas=quotas,
    )  # fmt: skip
    feedback = FeedbackService(
        database, texts, consents, receipts, secret=secret, blacken=blacken, rights=context.rights,
        recorder=context.recorder, clock=context.clock, quotas=quotas,
    )  # fmt: skip
    keeping = _Keeping(section)
    desk = LearningDesk(
        database=database, consents=consents, feedback=feedback, rights=context.rights, recorder=context.recorder,
        clock=context.clock, names=context.need(Names), when=lambda: keeping.section.when,
    )  # fmt: skip

    async def reload(context: Context) -> None:
        said = context.section("learning", LearningSection)
        consents.take_file(said.purpose, said.tenants)
        receipts.ttl_s, keeping.section = said.receipt_ttl_s, said

    background = (
        {"old feedback": partial(_keep_pruning, database, feedback, receipts, keeping)} if context.worker == 0 else {}
    )
    return Opened(
        desk=desk,
        gives={Receipts: receipts, FeedbackService: feedback},
        reload=(reload,),
        background=background,
        close=partial(asyncio.to_thread, receipts.close),
    )


class _Keeping:
    """Current retention times."""

    def __init__(self, section: LearningSection) -> None:
        self.section = section


async def _keep_pruning(database: Database, feedback: FeedbackService, receipts: Receipts, keeping: _Keeping) -> None:
    """Delete old data in small transactions, and data that may no longer be stored."""
    while True:
        try:
            await asyncio.to_thread(_prune, database, receipts.now_ms(), keeping.section)
            await asyncio.to_thread(feedback.drop_withdrawn)
        except AshoreError as fault:
            log.warning("cannot drop old feedback: %s", fault.message)
        await asyncio.sleep(PRUNE_EVERY_S)


def _prune(database: Database, now_ms: int, section: LearningSection) -> None:
    went = (1, 1)
    while any(went):
        with database.write() as connection:
            went = prune(connection, now_ms=now_ms, votes_before_ms=now_ms - int(section.keep_s * 1000))


def _changed(consents: Consents, texts: SealedTexts, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind == CONSENT_EPOCH:
        consents.refresh()
    elif kind == SUBJECTS_EPOCH:
        texts.forget()


ROOM: Final = Room(name="learning", calls=CALLS, metrics=(RECEIPTS, VOTES), section=LearningSection, open=open_learning)
