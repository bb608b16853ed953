"""Scheduled backup tasks of a server: back up, scrub in slices, repair returning nodes.

Steps run one after the other; `timetable` decides what is due, and results are on disk before the next step. The backup
lock is held for one backup, or one slice of a scrub: a command given meanwhile gets an error, and the server waits for
a command that came first.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Final, Protocol

import msgspec

from ashore.backup.code import could_be_lost
from ashore.backup.contents import HomeContents
from ashore.backup.home import BackupHome
from ashore.backup.model import Finding, RunReport
from ashore.backup.nodes import NodeOpener, open_node
from ashore.backup.section import BackupSection
from ashore.backup.service import BackupService
from ashore.backup.timetable import ScrubSoFar, Timetable, is_due
from ashore.backup.vault import NodeView, glance
from ashore.core import Clock, human_bytes
from ashore.errors import AshoreError, HomeBusy

log = logging.getLogger("ashore.backup")

GLANCE_EVERY_S: Final = 60.0
"""Between two looks at the marks of the nodes."""
SLICE_S: Final = 300.0
"""Of a scrub, after which the lock is let go for a moment."""
BREATH_S: Final = 2.0
"""Between two slices, and between two tries for a lock that somebody else holds."""
LONGEST_REPAIR_WAIT_S: Final = 3600.0
NO_BACKUP: Final = "this home has no backup yet; create one: ashore backup init"


class Work(Protocol):
    """Dependencies of the steps; created for each step, because days may pass in between."""

    def service(self) -> AbstractContextManager[BackupService]:
        """Yield the backup service, with a recorder that commits when the block ends."""
        ...

    def contents(self) -> HomeContents:
        """Return the contents to back up."""
        ...


class Keeper:
    """Runs the scheduled backup of one home. Used by one thread."""

    def __init__(self, home: BackupHome, work: Work, clock: Clock, *, opener: NodeOpener = open_node) -> None:
        """Create the object; does nothing yet.

        Args:
            home: Files of the home that belong to its backup.
            work: See `Work`.
            clock: When turns are due.
            opener: Returns the node at a place.
        """
        self._home = home
        self._work = work
        self._clock = clock
        self._opener = opener
        self._glance_due_s = clock.monotonic_s()
        self._repair_due_s = clock.monotonic_s()
        self._repair_wait_s = GLANCE_EVERY_S
        self._seen: dict[int, str] = {}

    def step(self, rules: BackupSection) -> float:
        """Do the most overdue step, and return the seconds until the next. Errors are logged and stored."""
        table = self._table(rules)
        if not self._home.has_vault:
            if table.run.says != NO_BACKUP:
                log.warning(NO_BACKUP)
                self._keep(table.ended("run", self._clock.now_s(), failed=True, says=NO_BACKUP))
            return min(rules.every_s, GLANCE_EVERY_S)
        try:
            return self._do(table, rules)
        except HomeBusy as busy:
            log.info("%s; continuing after that", busy.message)
            self._keep(table)
            return BREATH_S

    def _do(self, table: Timetable, rules: BackupSection) -> float:
        now_s = self._clock.now_s()
        if is_due(table, "run", now_s):
            table = self._back_up(table, rules)
        elif self._clock.monotonic_s() >= self._glance_due_s:
            table = self._look_after(table)
        elif is_due(table, "scrub", now_s):
            table = self._scrub(table, rules)
        left_s = min(table.due_s("run"), table.due_s("scrub")) - self._clock.now_s()
        left_s = min(left_s, self._glance_due_s - self._clock.monotonic_s())
        return max(BREATH_S if table.so_far.after else 0.0, left_s)

    # --- the steps

    def _back_up(self, table: Timetable, rules: BackupSection) -> Timetable:
        self._keep(table.begun("run", self._clock.now_s()))
        try:
            with self._work.service() as service:
                report = service.run(self._work.contents(), only=rules.models, keep=rules.keep)
                code = service.code
        except HomeBusy:
            raise
        except AshoreError as error:
            log.error("the backup failed: %s", error.in_one_line)
            return self._keep(self._table(rules).ended("run", self._clock.now_s(), failed=True, says=error.in_one_line))
        for note in report.notes:
            log.warning("%s", note)
        says = (
            f"backup {report.generation} on {len(report.nodes)} of {code.n} nodes; {could_be_lost(code, report.worst)}"
        )
        log.info("%s; new: %s", says, human_bytes(report.new_bytes))
        table = self._table(rules).ended("run", self._clock.now_s(), failed=False, says=says)
        lacking = _left_out(report, code.n)
        return self._keep(
            msgspec.structs.replace(table, spare=report.worst - code.k, away=tuple(sorted({*table.away, *lacking})))
        )

    def _scrub(self, table: Timetable, rules: BackupSection) -> Timetable:
        if not table.so_far.after:
            table = self._keep(msgspec.structs.replace(table.begun("scrub", self._clock.now_s()), so_far=ScrubSoFar()))
        end_s = self._clock.monotonic_s() + SLICE_S
        try:
            with self._work.service() as service:
                report = service.scrub(
                    bytes_per_s=rules.scrub_bytes_per_s,
                    after=table.so_far.after,
                    until=lambda: self._clock.monotonic_s() >= end_s,
                )
        except HomeBusy:
            raise
        except AshoreError as error:
            log.error("the scrub failed: %s", error.in_one_line)
            return self._keep(
                self._table(rules).ended("scrub", self._clock.now_s(), failed=True, says=error.in_one_line)
            )
        self._tell(report.findings, report.notes)
        table = _counted(self._table(rules), report.findings)
        so_far = ScrubSoFar(
            after=report.reached,
            num_bytes=table.so_far.num_bytes + report.num_bytes,
            found=table.so_far.found + len(report.findings),
            wrong=table.so_far.wrong + sum(not finding.repaired for finding in report.findings),
        )
        table = msgspec.structs.replace(table, so_far=so_far)
        if not report.reached:
            says = f"{human_bytes(so_far.num_bytes)} read, {so_far.found} faults found"
            says += f", of which {so_far.wrong} could NOT be repaired" if so_far.wrong else ""
            log.info("the scrub ended: %s", says)
            table = table.ended("scrub", self._clock.now_s(), failed=False, says=says)
        return self._keep(table)

    def _look_after(self, table: Timetable) -> Timetable:
        """Check the marks of the nodes; rebuild what returning nodes lack."""
        self._glance_due_s = self._clock.monotonic_s() + GLANCE_EVERY_S
        try:
            vault = self._home.read()
            views = glance(vault, [self._opener(place) for place in vault.places])
        except AshoreError as error:
            log.error("cannot check the nodes: %s", error.in_one_line)
            return table
        self._tell_changes(views)
        gone = {view.index for view in views if not view.is_good}
        away = {*table.away, *gone}
        back = [view.index for view in views if view.index in away and view.condition in ("good", "damaged")]
        if tuple(sorted(away)) != table.away:
            table = self._keep(msgspec.structs.replace(table, away=tuple(sorted(away))))
        if back and self._clock.monotonic_s() >= self._repair_due_s:
            return self._repair(table)
        return table

    def _repair(self, table: Timetable) -> Timetable:
        try:
            with self._work.service() as service:
                report = service.repair()
        except HomeBusy:
            raise
        except AshoreError as error:
            log.error("cannot repair a node that came back: %s", error.in_one_line)
            self._put_off()
            return table
        self._tell(report.findings, report.notes)
        if all(finding.repaired for finding in report.findings):
            self._repair_wait_s = GLANCE_EVERY_S
        else:
            self._put_off()
        done = tuple(finding for finding in report.findings if finding.repaired)  # others are tried again, and again
        return self._keep(msgspec.structs.replace(_counted(table, done), away=report.lacking, spare=report.spare))

    def _put_off(self) -> None:
        """Delay the next attempt: a full disk stays full for a while."""
        self._repair_due_s = self._clock.monotonic_s() + self._repair_wait_s
        self._repair_wait_s = min(LONGEST_REPAIR_WAIT_S, 2 * self._repair_wait_s)

    # --- stored and reported

    def _table(self, rules: BackupSection) -> Timetable:
        """Return the results with the current intervals, so that the status shows them at once."""
        kept = self._home.read_timetable()
        table = kept or Timetable(every_s=0, scrub_every_s=0, since_s=self._clock.now_s())
        table = msgspec.structs.replace(table, every_s=rules.every_s, scrub_every_s=rules.scrub_every_s)
        return table if table == kept else self._keep(table)

    def _keep(self, table: Timetable) -> Timetable:
        self._home.write_timetable(table)
        return table

    def _tell_changes(self, views: tuple[NodeView, ...]) -> None:
        for view in views:
            before, self._seen[view.index] = self._seen.get(view.index, "good"), view.condition
            if view.condition != before:
                level = logging.INFO if view.is_good else logging.WARNING
                log.log(level, "node %d is %s: %s", view.index, view.condition, view.says or view.node.place)

    def _tell(self, findings: tuple[Finding, ...], notes: tuple[str, ...]) -> None:
        for found in findings:
            state, level = ("repaired", logging.WARNING) if found.repaired else ("WRONG", logging.ERROR)
            log.log(level, "%s: %s on %s: %s", state, found.belongs_to, found.place, found.what)
        for note in notes:
            log.warning("%s", note)


def _counted(table: Timetable, findings: tuple[Finding, ...]) -> Timetable:
    repaired = sum(finding.repaired for finding in findings)
    return msgspec.structs.replace(table, found=table.found + len(findings), repaired=table.repaired + repaired)


def _left_out(report: RunReport, n: int) -> set[int]:
    """Return nodes that a backup did not reach completely."""
    return set(range(n)) - set(report.nodes)
