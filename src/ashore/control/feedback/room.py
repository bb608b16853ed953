"""The desk of feedback: votes on answers, and what is learned from them; nothing where `[learning]` is off."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Final

from ashore.control.feedback.calls import CALLS, LearningDesk
from ashore.control.feedback.scheduled import LearningSchedule
from ashore.control.jobs.schedule import Schedule
from ashore.core.errors import NotReady
from ashore.core.names import Names
from ashore.data.authority import Authenticator
from ashore.data.background import take_turns
from ashore.data.feedback import LearningSection
from ashore.data.feedback import room as data
from ashore.data.feedback.receipts import WRITTEN, WRITTEN_S, Receipts
from ashore.data.feedback.room import read_consents
from ashore.data.feedback.service import FeedbackService
from ashore.data.feedback.sql import prune
from ashore.data.jobs import NoQuotas, Quotas
from ashore.data.privacy import Privacy
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Workers
from ashore.kit.state import Database

PRUNE_EVERY_S: Final = 60.0
VOTES: Final = Metric("ashore_feedback_votes", "counter", "Votes on answers, by model and rating.", ("model", "rating"))


async def administer_learning(context: Context) -> Opened:
    """Open the desk.

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


async def _written(context: Context) -> None:
    """Wait until receipts of ended answers are on disk: those of this process, and of every worker."""
    if (here := context.find(Receipts)) is not None:
        await here.written()
    if (workers := context.find(Workers)) is not None:
        await workers.ask(WRITTEN, timeout_s=WRITTEN_S + 1.0)


def _opened(context: Context, section: LearningSection, database: Database) -> Opened:
    secret, texts, consents = read_consents(context, section, database)
    keeping = _Keeping(section)
    feedback = FeedbackService(
        database, texts, consents, secret=secret, blacken=context.need(Privacy).blacken, rights=context.rights,
        recorder=context.recorder, clock=context.clock, quotas=context.find(Quotas) or NoQuotas(),
        written=partial(_written, context), ttl_s=lambda: keeping.section.receipt_ttl_s,
    )  # fmt: skip
    schedule, source = context.find(Schedule), LearningSchedule(database, context.need(Authenticator), section)
    if schedule is not None:
        schedule.add(source)
    desk = LearningDesk(
        database=database, consents=consents, feedback=feedback, rights=context.rights, recorder=context.recorder,
        clock=context.clock, names=context.need(Names), when=lambda: keeping.section.when,
    )  # fmt: skip

    async def drop_old() -> None:
        await asyncio.to_thread(_prune, database, feedback.now_ms(), keeping.section)
        await asyncio.to_thread(feedback.drop_withdrawn)

    async def reload(context: Context) -> None:
        said = context.section("learning", LearningSection)
        consents.take_file(said.purpose, said.tenants)
        keeping.section = source.section = said
        if schedule is not None:
            schedule.wake()

    return Opened(
        desk=desk,
        gives={FeedbackService: feedback},
        reload=(reload,),
        background={"old feedback": partial(take_turns, "cannot drop old feedback", drop_old, every_s=PRUNE_EVERY_S)},
    )


class _Keeping:
    """Current retention times."""

    def __init__(self, section: LearningSection) -> None:
        self.section = section


def _prune(database: Database, now_ms: int, section: LearningSection) -> None:
    went = (1, 1)
    while any(went):
        with database.write() as connection:
            went = prune(connection, now_ms=now_ms, votes_before_ms=now_ms - int(section.keep_s * 1000))


ROOM: Final = replace(
    data.ROOM, calls=CALLS, metrics=(data.RECEIPTS, VOTES), section=LearningSection, administer=administer_learning
)
