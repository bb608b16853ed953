"""One sync of one directory: read everything, decide, then change. Nothing is changed by half of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from ashore.control.directory import sql
from ashore.control.directory.deciding import Decided, Person, Step, changes_of, decide, state_of
from ashore.control.directory.reading import Snapshot, opened, read_known, read_marks, read_whole
from ashore.control.directory.section import DirectorySection
from ashore.control.directory.wire import Ldap
from ashore.core.clock import Clock
from ashore.core.counted import counted
from ashore.core.errors import AshoreError, Conflict, NotFound, SourceUnreachable
from ashore.data.authority import SYSTEM, Actor, Acts, Group, is_officer
from ashore.data.authority import sql as access_sql
from ashore.kit.egress import Allowed
from ashore.kit.recorder import Act, Recorder
from ashore.kit.state import Database

READ_S: Final = 600.0
"""Longest whole read."""
LOOK_S: Final = 25.0
"""Longest look."""
AT_ONCE: Final = 200
"""Accounts of one transaction: others write between two of them."""

Told = Callable[[str, int, int], None]
"""Takes the stage, and how many of how many are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a sync did, or would do."""

    directory: str
    people: int
    groups: int
    added: int = 0
    changed: int = 0
    disabled: int = 0
    enabled: int = 0
    held: tuple[str, ...] = ()
    """Accounts that should be disabled and were not, and why."""
    left_out: tuple[str, ...] = ()
    """People who get no account, and why."""
    references: int = 0
    """Places elsewhere that the directory named; they are not followed."""
    changes: tuple[str, ...] = field(default=())
    """In words."""

    @property
    def says(self) -> str:
        """The report in one line."""
        some = (f"{getattr(self, what)} {what}" for what in ("added", "changed", "disabled", "enabled"))
        line = f"{counted(self.people, 'person', 'people')} in the mapped groups: {', '.join(some)}"
        return line + (f"; NOT disabled: {'; '.join(self.held)}" if self.held else "")


class Syncing:
    """Syncs directories with the accounts of a state. May be called again at any time: what is done is not repeated."""

    def __init__(self, database: Database, recorder: Recorder, clock: Clock, allow: Sequence[Allowed]) -> None:
        self._database = database
        self._recorder = recorder
        self._clock = clock
        self._acts = Acts(database, recorder, clock)
        self._allow = tuple(allow)

    def sync(
        self, section: DirectorySection, *, actor: str, dry_run: bool = False, even_so: bool = False,
        told: Told = lambda *_: None,
    ) -> Report:  # fmt: skip
        """Read a directory, and change accounts as it says.

        Args:
            section: The directory.
            actor: Who asked, for the audit log.
            dry_run: Report what would be done, and do nothing.
            even_so: Disable more people than `most_gone` allows.
            told: Called with progress.

        Raises:
            SourceUnreachable, RemoteRefused: it did not answer everything. Nothing was changed.
            Conflict: more people would be disabled than `most_gone` allows. Nothing was changed.
        """
        try:
            told("reading the directory", 0, 0)
            snapshot, decided = self._look(section, 1.0 if even_so else section.most_gone)
            report = _report(section.name, snapshot, decided)
            if dry_run:
                return report
            held = self._do(section, decided, snapshot, actor, told)
        except AshoreError as fault:
            if not dry_run:
                self._note_failure(section.name, actor, fault)
            raise
        return replace(report, held=held, disabled=report.disabled - len(held))

    def _look(self, section: DirectorySection, most_gone: float) -> tuple[Snapshot, Decided]:
        with self._database.read() as connection:
            if access_sql.find_tenant(connection, section.tenant) is None:
                raise NotFound(
                    f"the tenant {section.tenant!r} of the directory {section.name} does not exist",
                    hint=f"create it: ashore access tenant create {section.tenant}",
                )
            known = sql.load_people(connection, section.name)
            bound, _ = sql.load_groups(connection, section.name)
            accounts = access_sql.accounts_of_issuer(connection, section.name)
            taken = sql.taken_ids(connection, section.name)
            taken |= {one.id for one in accounts.values() if one.kind != "user"}
        kept = {name: one.guid for name, one in bound.items() if one.written == section.map.get(name)}
        snapshot = asyncio.run(self._read(section, kept, known))
        now_s = int(self._clock.now_s())
        return snapshot, decide(
            section.name, section.tenant, known, accounts, taken, snapshot, most_gone=most_gone, now_s=now_s
        )

    async def _read(self, section: DirectorySection, bound: dict[str, str], known: dict[str, Person]) -> Snapshot:
        async with self._opened(section, READ_S) as connection:
            return await read_whole(connection, section, bound, tuple(known), self._clock.now_s())

    @asynccontextmanager
    async def _opened(self, section: DirectorySection, most_s: float) -> AsyncIterator[Ldap]:
        """Give a bound connection that ends after a time, however slowly the directory answers."""
        try:
            async with asyncio.timeout(most_s), opened(section, self._allow) as connection:
                yield connection
        except TimeoutError as fault:
            raise SourceUnreachable(
                f"the directory {section.name} did not answer within {most_s:.0f} s", hint="check its load"
            ) from fault

    def _do(
        self, section: DirectorySection, decided: Decided, snapshot: Snapshot, actor: str, told: Told
    ) -> tuple[str, ...]:
        """Do what was decided, and return which accounts could not be disabled, and why."""
        who = Actor(principal=replace(SYSTEM.principal, id=actor))
        held: list[str] = []
        for done, steps in _batches(decided.steps):
            officers: list[Step] = []
            with self._acts.quiet_write(who) as desk:
                accounts = []
                for step in steps:
                    there = access_sql.find_account(desk.connection, step.account.id)
                    if there is None and step.word != "add":
                        continue  # removed meanwhile
                    if there is not None and step.word == "disable" and is_officer(desk.compiled, there):
                        officers.append(step)
                        continue
                    given, shut_s = step.account.given_groups, step.account.shut_s
                    after = replace(there or step.account, title=step.account.title, given_groups=given, shut_s=shut_s)
                    accounts.append(after)
                    self._acts.tell(who, f"directory:{step.word}", after.resource, _detail(section, step),
                                    on=desk.connection)  # fmt: skip
                access_sql.save_accounts(desk.connection, accounts)
                sql.save_people(desk.connection, section.name, [step.person for step in steps])
            held += filter(None, (self._disable_officer(section, step, who) for step in officers))
            told("changing accounts", done, len(decided.steps))
        with self._database.write() as connection:
            there_are = {group.name for group in access_sql.list_groups(connection)}
            now_s = int(self._clock.now_s())
            for name in sorted(section.map.keys() - there_are):
                title = f"from the directory {section.name}"
                access_sql.save_group(connection, Group(name=name, title=title, created_s=now_s))
            sql.save_groups(connection, section.name, snapshot, section.map)
            says = replace(_report(section.name, snapshot, decided), held=tuple(held)).says
            standing = sql.Standing(synced_s=now_s, says=says, held=tuple(held))
            sql.save_standing(connection, section.name, standing)
            act = Act(action="directory:sync", actor=actor, resource=f"directory/{section.name}", reason=says)
            self._recorder.record(act, on=connection)
        return tuple(held)

    def _disable_officer(self, section: DirectorySection, step: Step, who: Actor) -> str:
        """Disable an account that holds an office; return why not, where nobody could undo it or an auditor would lose
        the office without consent: a directory must not take the last officer, nor an auditor, by itself."""
        try:
            with self._acts.write(who, "directory:disable", step.account.resource) as desk:
                there = access_sql.find_account(desk.connection, step.account.id)
                if there is not None:
                    desk.detail.update(_detail(section, step))
                    after = replace(there, given_groups=step.account.given_groups, shut_s=step.account.shut_s)
                    access_sql.save_account(desk.connection, after)
        except Conflict as fault:
            return f"{step.account.id} ({step.why}): {fault.message}"
        return ""

    async def look(self, section: DirectorySection) -> str:
        """Return what changed in a directory of the people and groups that ashore knows; empty: nothing. Costs one
        question for some hundred of them. A directory that does not answer counts as failed from the first look on.

        Raises:
            SourceUnreachable, RemoteRefused: the directory did not answer.
        """

        def load() -> tuple[dict[str, Person], dict[str, str]]:
            with self._database.read() as connection:
                return sql.load_people(connection, section.name), sql.load_groups(connection, section.name)[1]

        known, marks = await asyncio.to_thread(load)
        changed: list[str] = []
        try:
            async with self._opened(section, LOOK_S) as connection:
                if await read_marks(connection, section, tuple(marks)) != marks:
                    return "a group changed"
                async for one in read_known(connection, section, known, self._clock.now_s()):
                    person = known.pop(one.guid, None)
                    if person is not None and (state_of(one), one.login) != (person.state, person.login):
                        changed.append(person.account)
        except AshoreError as fault:
            await asyncio.to_thread(self._note_failure, section.name, SYSTEM.principal.id, fault, again=False)
            raise
        changed += [person.account for person in known.values() if person.state != state_of(None)]
        return f"{changed[0]} changed" if changed else ""

    def _note_failure(self, name: str, actor: str, fault: AshoreError, *, again: bool = True) -> None:
        """Note that a directory does not answer. `again`: also where that is known already."""
        with self._database.write() as connection:
            before = sql.load_standing(connection, name)
            if before.failed_s and not again:
                return
            since_s = before.failed_s or int(self._clock.now_s())
            sql.save_standing(connection, name, replace(before, failed_s=since_s, says=fault.in_one_line))
            act = Act(
                action="directory:sync", actor=actor, resource=f"directory/{name}", outcome="failed",
                reason=f"{fault.code}: {fault.message}",
            )  # fmt: skip
            self._recorder.record(act, on=connection)


def _report(name: str, snapshot: Snapshot, decided: Decided) -> Report:
    words = [step.word for step in decided.steps]
    return Report(
        directory=name,
        people=sum(bool(one.groups) for one in snapshot.people.values()),
        groups=len(snapshot.groups),
        added=words.count("add"),
        changed=words.count("change"),
        disabled=words.count("disable"),
        enabled=words.count("enable"),
        left_out=decided.left_out,
        references=snapshot.references,
        changes=tuple(changes_of(decided)),
    )


def _detail(section: DirectorySection, step: Step) -> dict[str, str | int]:
    detail: dict[str, str | int] = {"directory": section.name, "guid": step.person.guid}
    detail["groups"] = ", ".join(sorted(step.account.given_groups))[:1000]
    return detail | ({"why": step.why} if step.why else {})


def _batches(steps: Sequence[Step]) -> Iterator[tuple[int, Sequence[Step]]]:
    """Yield steps in portions, each with how many are done with it."""
    for at in range(0, len(steps), AT_ONCE):
        yield min(len(steps), at + AT_ONCE), steps[at : at + AT_ONCE]
