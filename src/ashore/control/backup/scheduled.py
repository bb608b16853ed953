"""What the server queues by itself for the backup of its home: backups, scrubs, and repairs once a node is back.

Nodes are looked at here, by their marks alone: a job for each look would be one a minute. Buckets are not, since the
control process has no login for them: one that lacks something is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from ashore.control.backup.home import BackupHome
from ashore.control.backup.nodes import NodeOpener, open_node
from ashore.control.backup.section import BackupSection
from ashore.control.backup.vault import NodeView, glance
from ashore.control.jobs.schedule import Entry
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.core.timespan import human_seconds
from ashore.data.authority import SYSTEM
from ashore.data.jobs.operations.asks import Asked, BackupRunIn, RepairIn, ScrubIn
from ashore.data.jobs.schedule import AGAIN_S, Next, Turn, every

log = logging.getLogger("ashore.backup")

GLANCE_EVERY_S: Final = 60.0
"""Between two looks at the marks of the nodes."""
LONGEST_REPAIR_WAIT_S: Final = 3600.0
RUN: Final = "backup run"
SCRUB: Final = "backup scrub"
REPAIR: Final = "backup repair"
WHAT: Final = {RUN: "a backup", SCRUB: "a scrub", REPAIR: "a repair"}


class BackupSchedule:
    """Implements `jobs.schedule.Source` for the backup of a home. Used by one thread at a time."""

    operations = (RUN, SCRUB, REPAIR)

    def __init__(self, home: BackupHome, clock: Clock, rules: BackupSection, *, opener: NodeOpener = open_node) -> None:
        """Create it; looks at nothing yet. `rules` may be replaced later."""
        self.rules = rules
        self._home = home
        self._clock = clock
        self._opener = opener
        self._glance_due_s = clock.monotonic_s()
        self._seen: dict[int, NodeView] = {}
        """As looked at last; no buckets."""
        self._bad_ms: dict[int, int] = {}
        """When a node was last seen that was not good."""
        self._is_told = False

    @property
    def away(self) -> frozenset[int]:
        """Nodes that lack something, or are not good."""
        return frozenset((*self._home.read_tally().away, *(n for n, view in self._seen.items() if not view.is_good)))

    def entries(self, now_ms: int) -> Iterable[Entry]:
        """See `Source`."""
        rules = self.rules
        if not rules.every_s:
            return ()
        if not self._home.has_vault:
            if not self._is_told:
                log.warning("this home has no backup yet; create one: ashore backup init")
            self._is_told = True
            return ()
        self._glance(now_ms)
        scrub = ScrubIn(rate=rules.scrub_bytes_per_s / 1e6, unfinished=True)
        return (
            _entry(RUN, BackupRunIn(), rules.every_s, self._run_due),
            _entry(SCRUB, scrub, rules.scrub_every_s, self._scrub_due),
            Entry(
                name=REPAIR, operation=REPAIR, asked=RepairIn(), subject="backup/home", actor=lambda: SYSTEM,
                plan="when a node comes back", due=self._repair_due, ends_anyhow=False,
            ),
        )  # fmt: skip

    def _run_due(self, turn: Turn, now_ms: int) -> Next:
        return every(turn, self.rules.every_s, now_ms=now_ms)

    def _scrub_due(self, turn: Turn, now_ms: int) -> Next:
        if turn.state == "never" and not self._home.read().generation:
            return Next(due_ms=None, why="there is no backup yet")
        every_s = self.rules.scrub_every_s
        return every(turn, every_s, now_ms=now_ms, first_s=every_s)

    def _repair_due(self, turn: Turn, now_ms: int) -> Next:
        """A repair is due once a node is back that lacks something; after one that failed, later and later: a full disk
        stays full for a while."""
        mended_ms = turn.began_ms if turn.state == "done" else 0
        lacking = {*self._home.read_tally().away, *(n for n, bad_ms in self._bad_ms.items() if bad_ms >= mended_ms)}
        back = [
            index for index in sorted(lacking)
            if (view := self._seen.get(index)) is None or view.condition in ("good", "damaged")
        ]  # fmt: skip
        if not back:
            return Next(due_ms=None)
        if turn.state == "done":
            return Next(due_ms=turn.ended_ms + int(AGAIN_S * 1000), why=f"node {back[0]} is back")
        if turn.state == "never":
            return Next(due_ms=now_ms, why=f"node {back[0]} is back")
        return every(turn, LONGEST_REPAIR_WAIT_S, now_ms=now_ms)

    def _glance(self, now_ms: int) -> None:
        """Look at the marks of the nodes, and log what changed."""
        if self._clock.monotonic_s() < self._glance_due_s:
            return
        self._glance_due_s = self._clock.monotonic_s() + GLANCE_EVERY_S
        try:
            vault = self._home.read()
            views = glance(
                vault,
                {n: self._opener(place) for n, place in enumerate(vault.places) if not place.startswith("s3://")},
            )
        except AshoreError as error:
            log.error("cannot check the nodes: %s", error.in_one_line)
            return
        for view in views:
            before = self._seen.get(view.index)
            if view.condition != ("good" if before is None else before.condition):
                level = logging.INFO if view.is_good else logging.WARNING
                log.log(level, "node %d is %s: %s", view.index, view.condition, view.says or view.node.place)
            self._seen[view.index] = view
            if not view.is_good:
                self._bad_ms[view.index] = now_ms


def standing(turns: Iterable[Turn], now_ms: int, *, is_kept: bool) -> tuple[str, ...]:
    """Return, in words, what is scheduled, how the last turns ended, and when the next ones begin.

    Args:
        turns: Of the schedule.
        now_ms: Now.
        is_kept: Whether the server of the home is running.
    """
    found = [turn for turn in turns if turn.operation in WHAT]
    due = is_kept and any(turn.plan for turn in found)
    head = () if due or not found else ("no server is running scheduled backups; from the last one that did:",)
    return (*head, *(_line(turn, now_ms, due=due) for turn in found if turn.operation != REPAIR or turn.began_ms))


def _line(turn: Turn, now_ms: int, *, due: bool) -> str:
    what = f"{WHAT[turn.operation]} {turn.plan}".rstrip()
    match turn.state:
        case "never":
            last = "none yet"
        case "running" if due:
            return f"{what}: under way since {_ago(turn.began_ms, now_ms)} ({turn.job_id})"
        case "running" | "interrupted":
            last = "the last one was interrupted"
        case "done":
            last = f"the last one ended {_ago(turn.ended_ms, now_ms)}: {turn.says}"
        case "failed":
            last = f"the last one FAILED {_ago(turn.ended_ms, now_ms)}: {turn.says}"
    if not due or turn.due_ms is None:
        return f"{what}: {last}"
    left_s = (turn.due_ms - now_ms) / 1000
    return f"{what}: {last}; the next one is due {f'in {human_seconds(left_s)}' if left_s > 0 else 'now'}"


def _ago(then_ms: int, now_ms: int) -> str:
    return f"{human_seconds(max(0.0, (now_ms - then_ms) / 1000))} ago"


def _entry(name: str, asked: Asked, every_s: float, due: Callable[[Turn, int], Next]) -> Entry:
    return Entry(
        name=name, operation=name, asked=asked, subject="backup/home", actor=lambda: SYSTEM,
        plan=f"every {human_seconds(every_s)}", due=due,
    )  # fmt: skip
