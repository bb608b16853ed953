"""Alerts at work: ask what is wrong, note it, and bring it to people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.control.alerts.channels import beat, deliver, words_of
from ashore.control.alerts.model import TEST, Alert, Book, Message, Wrong, dead_channels, due, looked, sent
from ashore.control.alerts.section import AlertSection, ChannelTable
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.core.timespan import human_seconds
from ashore.data.authority import sql as access_sql
from ashore.data.authority.budgets import SqlAuthority
from ashore.data.background import take_turns
from ashore.kit.egress import Allowed
from ashore.kit.recorder import Act, Recorder
from ashore.kit.state import Database, execute, row_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

_decode: Final = msgspec.json.Decoder(Book).decode
log = logging.getLogger("ashore.alerts")

TURN_S: Final = 5.0
"""Between two turns, which ask the quick sources and send what is due."""
SILENT_S: Final = 180.0
"""A home that has not looked for so long is dead, or cut off from the state."""
FORGOTTEN_S: Final = 7 * 86_400.0
"""After so long nobody is told of it any more."""
NOTED_S: Final = 30.0
"""The state says at least so often that this home looks."""
NEWS_S: Final = 86_400.0
"""How long it is news that a directory disabled somebody: longer than quiet hours."""
MOST_NEWS: Final = 200
NAMED: Final = 5
"""Accounts that such news names; the rest is counted."""
LEVELS: Final = ((1.0, "warning"), (0.95, "warning"), (0.8, "advice"))
"""Used share of a budget from which on there is an alert, with its severity."""
_BEAT: Final = "(heartbeat)"
"""Stands for it among channels."""
Source = Callable[[], Awaitable[Sequence[Wrong]]]


class BookStore:
    """The book of one home. Thread-safe; blocks."""

    def __init__(self, database: Database, home: str) -> None:
        self.database = database
        self._home = home

    def read(self) -> Book:
        """Return the book; an empty one where there is none."""
        with self.database.read() as connection:
            return self._read(connection, lock=False)

    def change(self, how: Callable[[Book, Connection], Book], *, looked_s: float | None = None) -> Book:
        """Replace the book by `how(book, transaction)`, and return it. `how` may record an act in the transaction.

        Args:
            how: Returns the new book. What it raises leaves the old one.
            looked_s: When the home looked, in seconds since 1970; 0: it is stopped; None: as it was.
        """
        with self.database.write() as connection:
            book = how(self._read(connection, lock=True), connection)
            execute(
                connection,
                "INSERT INTO alert_book (home, looked_s, body) VALUES (:home, :looked_s, :body) ON CONFLICT (home) "
                "DO UPDATE SET body = excluded.body, looked_s = CASE WHEN :keeps = 1 THEN alert_book.looked_s "
                "ELSE excluded.looked_s END",
                home=self._home, looked_s=int(looked_s or 0), keeps=int(looked_s is None),
                body=msgspec.json.encode(book).decode(),
            )  # fmt: skip
            return book

    def homes(self) -> dict[str, float]:
        """Return when each home of the state last looked; those that were stopped are left out."""
        with self.database.read() as connection:
            rows = execute(connection, "SELECT home, looked_s FROM alert_book WHERE looked_s > 0").all()
        return {str(row.home): float(row.looked_s) for row in rows}

    def _read(self, connection: Connection, *, lock: bool) -> Book:
        select = "SELECT body FROM alert_book WHERE home = :home" + (row_lock(connection) if lock else "")
        body = execute(connection, select, home=self._home).scalar_one_or_none()
        return Book() if body is None else _decode(body)


@dataclass(slots=True, kw_only=True)
class AlertOffice:
    """The alerts of one home."""

    store: BookStore
    recorder: Recorder
    clock: Clock
    node: str
    """Name of this machine in messages."""
    home: str
    """Name of this home among those that share the state."""
    rules: AlertSection
    """In force; replaced by a reload."""
    allow: Sequence[Allowed] = ()
    slow: Source | None = None
    """The doctor: asked every `look_s`, beside the turns."""
    found: Sequence[Wrong] = ()
    """What it said last."""
    _noted_s: float = field(default=float("-inf"))
    _beaten_s: float = field(default=float("-inf"))
    _sending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """What goes out now, one message for each channel: a server that hangs delays no other one."""

    async def keep_looking(self) -> None:
        """Ask the doctor until cancelled."""
        while True:
            if self.slow is not None and self.rules.channels:
                try:
                    self.found = await self.slow()
                except AshoreError as fault:
                    self.found = [Wrong(rule="doctor", severity="warning", what=fault.message, remedy=fault.hint)]
            await asyncio.sleep(self.rules.look_s)

    async def keep_sending(self) -> None:
        """Take turns until cancelled."""
        try:
            await take_turns("cannot send alerts", self.turn, every_s=TURN_S, level=logging.ERROR)
        finally:
            for task in self._sending.values():
                task.cancel()

    async def turn(self) -> None:
        """Note what is wrong now, and send what is due. Returns when it is sent, or after `TURN_S`: what takes longer
        goes on beside the next turns.

        Raises:
            AshoreError: the state cannot be used; the next turn tries again.
        """
        if not self.rules.channels:
            return
        now_s = self.clock.now_s()
        book = await asyncio.to_thread(self._look, now_s)
        channels = {one.name: one for one in self.rules.channels}
        self._settle()
        for message in due(book, self.rules, now_s):
            if message.channel not in self._sending:
                self._sending[message.channel] = asyncio.create_task(self._bring(channels[message.channel], message))
        if _BEAT not in self._sending:
            self._sending[_BEAT] = asyncio.create_task(self._beat())
        await asyncio.wait(self._sending.values(), timeout=TURN_S)
        self._settle()

    def _settle(self) -> None:
        """Forget what has gone out. Raises as `turn` if it could not be noted."""
        for name in [name for name, task in self._sending.items() if task.done()]:
            self._sending.pop(name).result()

    def _look(self, now_s: float) -> Book:
        names = [one.name for one in self.rules.channels]
        before = self.store.read()
        wrong = [*self.found, *dead_channels(before, names), *self._shared(now_s)]
        book = looked(before, wrong, self.rules, now_s)
        if book != before or now_s - self._noted_s >= NOTED_S:
            self._noted_s = now_s
            book = self.store.change(lambda book, _: looked(book, wrong, self.rules, now_s), looked_s=now_s)
        return book

    def _shared(self, now_s: float) -> list[Wrong]:
        """Return what all homes of the state see; the first one by name that is alive says it."""
        homes = self.store.homes()
        alive = [home for home, at in homes.items() if now_s - at < SILENT_S]
        if min([*alive, self.home]) != self.home:
            return []
        database = self.store.database
        return [
            *silent_homes(homes, now_s, own=self.home),
            *spent_budgets(database, now_s),
            *shut_people(database, now_s),
        ]

    async def _bring(self, channel: ChannelTable, message: Message) -> None:
        fault = await self._deliver(channel, message)
        await asyncio.to_thread(self._note, message, fault)

    async def _deliver(self, channel: ChannelTable, message: Message) -> str:
        """Send a message; return why it failed, empty if it did not."""
        try:
            await deliver(
                channel, message, allow=self.allow, node=self.node, console=self.rules.console.rstrip("/"),
                now_s=self.clock.now_s(),
            )  # fmt: skip
        except AshoreError as fault:
            log.warning("the channel %s took no alert: %s", channel.name, fault.in_one_line)
            return words_of(fault)
        return ""

    def _note(self, message: Message, fault: str) -> None:
        now_s, before = self.clock.now_s(), self.store.read()
        self.store.change(lambda book, _: sent(book, message, self.rules, now_s, fault))
        failed_before = message.channel in before.channels and before.channels[message.channel].failures > 0
        if not fault or not failed_before:
            self.recorder.record(act_of(message, fault))

    async def _beat(self) -> None:
        now_s = self.clock.monotonic_s()
        if not self.rules.heartbeat_hook or now_s - self._beaten_s < self.rules.heartbeat_s:
            return
        self._beaten_s = now_s
        try:
            await beat(self.rules.heartbeat_hook, allow=self.allow)
        except AshoreError as fault:
            log.warning("the heartbeat was not taken: %s", fault.in_one_line)

    async def test(self, channel: ChannelTable) -> str:
        """Send a test over a channel; return why it failed, empty if it did not."""
        wrong = Wrong(rule=TEST, severity="advice", what="this is a test of the channel; nothing is wrong")
        return await self._deliver(
            channel, Message(channel=channel.name, firing=(Alert(wrong=wrong, since_s=self.clock.now_s()),))
        )

    def stop(self) -> None:
        """Say in the state that this home stops on purpose. Blocks."""
        if self._noted_s > float("-inf"):
            self.store.change(lambda book, _: book, looked_s=0)


def act_of(message: Message, fault: str) -> Act:
    """Return the record of a message that was sent, or could not be."""
    ids = [one.wrong.id for one in (*message.firing, *message.ended)]
    return Act(
        action="alert:send", actor="system", resource=f"channel/{message.channel}", reason=fault,
        outcome="failed" if fault else "done",
        detail={"firing": len(message.firing), "ended": len(message.ended), "alerts": ", ".join(ids[:20])},
    )  # fmt: skip


def silent_homes(homes: dict[str, float], now_s: float, *, own: str) -> list[Wrong]:
    """Return the homes beside the `own` one that have not looked for a while."""
    return [
        Wrong(
            rule="node", about=home, severity="critical",
            what=f"the server {home} has not been heard of for {human_seconds(now_s - at)}",
            remedy="look whether that machine runs and reaches the state",
        )
        for home, at in homes.items() if home != own and SILENT_S <= now_s - at < FORGOTTEN_S
    ]  # fmt: skip


def shut_people(database: Database, now_s: float) -> list[Wrong]:
    """Return whom directories and provisioners disabled of late: one sync, or one second of SCIM, is one of them."""
    together: dict[tuple[str, int], list[str]] = {}
    with database.read() as connection:
        for account, at_s in access_sql.shut_since(connection, max(1, int(now_s - NEWS_S)), int(now_s)):
            together.setdefault((account.partition(":")[0], at_s), []).append(account)
    return [
        Wrong(
            rule="directory", area="access", about=f"{issuer} {at_s}", severity="advice", news=True,
            what=f"the directory of {issuer} disabled {_named(accounts)}",
            remedy="nothing, if they left; else enable them in the directory",
        )
        for (issuer, at_s), accounts in list(together.items())[:MOST_NEWS]
    ]  # fmt: skip


def _named(accounts: Sequence[str]) -> str:
    return ", ".join(accounts[:NAMED]) + (f" (+{len(accounts) - NAMED:,})" if len(accounts) > NAMED else "")


def spent_budgets(database: Database, now_s: float) -> list[Wrong]:
    """Return the budgets of which much is used, each at the highest level that it has reached."""
    authority, found = SqlAuthority(database), []
    for rule in authority.rules():
        least = LEVELS[-1][0] * rule.cap
        for count in authority.counts(rule.rule_id, int(1000 * now_s), least=least):
            share = (count.settled + count.open) / rule.cap if rule.cap else 0.0
            level = next(((at, severity) for at, severity in LEVELS if share >= at), None)
            if level is None:
                continue
            found.append(
                Wrong(
                    rule="budget", area="access", about=f"{rule.rule_id} {count.subject} {level[0]}",
                    severity="warning" if level[1] == "warning" else "advice",
                    what=f"{share:.0%} of the {rule.kind} per {rule.window} of {rule.about_count(count)} are used",
                    remedy="raise the budget, or wait until its window ends", commands=("ashore access budget list",),
                )
            )  # fmt: skip
    return found
