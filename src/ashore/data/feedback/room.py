"""Receipts of answers, which may be voted on; nothing where `[learning]` is off."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from ashore.core.errors import NotReady
from ashore.data.audit import SUBJECTS_EPOCH, SqlSubjectKeys
from ashore.data.feedback.consent import CONSENT_EPOCH, Consents
from ashore.data.feedback.receipts import Receipts
from ashore.data.feedback.section import LearningSection
from ashore.data.feedback.texts import SealedTexts
from ashore.data.jobs import NoQuotas, Quotas
from ashore.data.privacy import Privacy
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import Database, kept_secret

SECRET: Final = "feedback"
RECEIPTS: Final = Metric(
    "ashore_feedback_receipts",
    "counter",
    "Answers that may be voted on: `kept`, or `dropped` because too many were waiting to be written, or without room "
    "for them: the reserve of the disk or the budget of the tenant.",
    ("result",),
)


async def serve_receipts(context: Context) -> Opened:
    """Write receipts of answers; nothing where feedback is off.

    Raises:
        AshoreError: the state cannot be read.
    """
    section, database = context.section("learning", LearningSection), context.database
    if not section.feedback:
        return Opened()
    if database is None:
        raise NotReady("[learning] feedback needs a state database", hint="start the server with `ashore up`")
    return await asyncio.to_thread(_opened, context, section, database)


def _opened(context: Context, section: LearningSection, database: Database) -> Opened:
    secret, texts, consents = read_consents(context, section, database)
    metrics = context.metrics

    def counted(number: int, result: str) -> None:
        metrics.add(RECEIPTS.name, number, result)

    receipts = Receipts(
        database, texts, consents, secret=secret, ttl_s=section.receipt_ttl_s, blacken=context.need(Privacy).blacken,
        counted=counted, clock=context.clock, quotas=context.find(Quotas) or NoQuotas(),
    )  # fmt: skip

    async def reload(context: Context) -> None:
        said = context.section("learning", LearningSection)
        consents.take_file(said.purpose, said.tenants)
        receipts.ttl_s = said.receipt_ttl_s

    return Opened(gives={Receipts: receipts}, reload=(reload,), close=partial(asyncio.to_thread, receipts.close))


def read_consents(
    context: Context, section: LearningSection, database: Database
) -> tuple[bytes, SealedTexts, Consents]:
    """Return the secret of the digests, the sealed texts and what tenants consent to; the last two follow the state."""
    with database.write() as connection:
        secret = kept_secret(connection, SECRET)
    texts = SealedTexts(SqlSubjectKeys(database))
    consents = Consents(section.purpose, section.tenants, database)
    if context.watch is not None:
        context.watch.on_change(partial(_changed, consents, texts))
        consents.refresh()  # after the line above, so that no change is missed in between
    return secret, texts, consents


def _changed(consents: Consents, texts: SealedTexts, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind == CONSENT_EPOCH:
        consents.refresh()
    elif kind == SUBJECTS_EPOCH:
        texts.forget()


ROOM: Final = Room(name="learning", metrics=(RECEIPTS,), serve=serve_receipts)
