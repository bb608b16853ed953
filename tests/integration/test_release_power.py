"""Power fails, or the process is killed, at every moment of a promotion and of a rollback: all of it, or nothing."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memory_workshop import MemoryWorkshop

from ashore.control.releases import ReleaseOffice
from ashore.core.clock import ManualClock
from ashore.data.authority import SYSTEM, Acts
from ashore.data.engines import EngineOptions, Inventory, ModelPlan, Plan
from ashore.data.releases import ReleaseWish, Way, sql
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state

NAMES = ("chat-1", "chat-2")
WAL_HEADER, FRAME_HEADER = 32, 24
"""Bytes. Source: sqlite.org/fileformat2.html, section 4.1."""

Outcome = tuple[tuple[str, ...], dict[str, int]]


class Desk:
    """The releases of one state file."""

    def __init__(self, folder: Path) -> None:
        clock = ManualClock(now_s=1_000_000.0)
        self.database: Database = open_state(
            "", default=folder / "state.db", snapshots=folder / "snapshots", clock=clock
        )
        acts = Acts(self.database, MemoryRecorder(), clock)
        self.office = ReleaseOffice(acts, MemoryWorkshop())
        self.keeper = ReleaseKeeper(acts, MemoryWorkshop())

    def outcome(self) -> Outcome:
        book = self.office.book(SYSTEM)
        assert sum(book.aliases["chat"].weights[0][1:]) == 1000
        return tuple(book.courses[name].state for name in NAMES), dict(book.aliases["chat"].weights)


def promote(desk: Desk) -> None:
    desk.office.roll_out(SYSTEM, "chat-2", Way(goal="live"), override="a trial")


def roll_back(desk: Desk) -> None:
    desk.office.roll_back(SYSTEM, "chat")


SHADOWED: Outcome = (("live", "shadow"), {"chat-1": 1000})
PROMOTED: Outcome = (("standby", "live"), {"chat-2": 1000})
BACK: Outcome = (("live", "standby"), {"chat-1": 1000})
MOVES = [(promote, SHADOWED, PROMOTED), (roll_back, PROMOTED, BACK)]


@pytest.fixture
def before(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with a state in which `chat-2` is a shadow of `chat-1`, or, to go back from, is live."""
    folder = tmp_path / "before"
    folder.mkdir()
    desk = Desk(folder)
    plan = ModelPlan(
        alias="chat", release="", name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    desk.keeper.adopt(desk.keeper.propose(Plan(models=(plan,), inventory=Inventory(cores=2, memory_bytes=0))))
    desk.office.create(SYSTEM, ReleaseWish(model="fake:random", alias="chat"))
    desk.office.roll_out(SYSTEM, "chat-2", Way(goal="shadow", share=100))
    desk.keeper.warmed("chat-2")
    if request.node.callspec.params["move"] is roll_back:
        promote(desk)
    desk.database.close()
    yield folder


@pytest.mark.parametrize(("move", "old", "new"), MOVES, ids=["promote", "roll back"])
def test_a_process_that_is_killed_at_any_statement_leaves_all_or_nothing(
    before: Path, tmp_path: Path, move: Callable[[Desk], None], old: Outcome, new: Outcome
) -> None:
    for dies_at in range(1, 60):
        folder = tmp_path / f"dies-{dies_at}"
        shutil.copytree(before, folder)
        process = multiprocessing.get_context("fork").Process(target=killed_at, args=(folder, move, dies_at))
        process.start()
        process.join()
        desk = Desk(folder)
        try:
            found = desk.outcome()
            if process.exitcode == 0:
                assert found == new
                break
            assert process.exitcode == -signal.SIGKILL and found == old
            move(desk)  # whoever comes back can do it again
            assert desk.outcome() == new
        finally:
            desk.database.close()
    assert dies_at > 5


def killed_at(folder: Path, move: Callable[[Desk], None], dies_at: int) -> None:
    """Make a move in this process, and die before one of its statements."""
    desk, real, count = Desk(folder), sql.execute, 0

    def counted(*args: object, **values: object) -> object:
        nonlocal count
        count += 1
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **values)  # type: ignore[arg-type]

    sql.execute = counted  # type: ignore[assignment]
    move(desk)
    os._exit(0)


@pytest.mark.parametrize(("move", "old", "new"), MOVES, ids=["promote", "roll back"])
def test_power_that_fails_before_the_log_is_on_disk_leaves_all_or_nothing(
    before: Path, tmp_path: Path, move: Callable[[Desk], None], old: Outcome, new: Outcome
) -> None:
    """What was written and not synced reaches the disk in any part: cut off anywhere, torn, or with holes."""
    folder = tmp_path / "moved"
    shutil.copytree(before, folder)
    desk = Desk(folder)
    move(desk)
    with sqlite3.connect(folder / "state.db") as look:
        page = look.execute("PRAGMA page_size").fetchone()[0]
    look.close()
    log = (folder / "state.db-wal").read_bytes()
    frame = FRAME_HEADER + page
    frames = (len(log) - WAL_HEADER) // frame
    assert frames >= 3 and len(log) == WAL_HEADER + frames * frame
    whole = (folder / "state.db").read_bytes()
    desk.database.close()
    crashed = [log[: WAL_HEADER + cut] for at in range(frames) for cut in (at * frame, at * frame + frame // 2)]
    for at in range(frames):
        hole = WAL_HEADER + at * frame
        crashed.append(log[:hole] + bytes(frame) + log[hole + frame :])
    seen = []
    for number, kept in enumerate([*crashed, log]):
        ruin = tmp_path / f"ruin-{number}"
        ruin.mkdir()
        (ruin / "state.db").write_bytes(whole)
        (ruin / "state.db-wal").write_bytes(kept)
        desk = Desk(ruin)
        seen.append(desk.outcome())
        desk.database.close()
    assert all(one in (old, new) for one in seen)
    assert seen[-1] == new and old in seen


def test_a_move_that_was_told_to_be_done_is_on_disk(tmp_path: Path) -> None:
    """SQLite syncs its log at each commit with `synchronous` FULL (2) or more: what the caller was told survives."""
    desk = Desk(tmp_path)
    with desk.database.write() as connection:
        (level,) = connection.exec_driver_sql("PRAGMA synchronous").one()
        (mode,) = connection.exec_driver_sql("PRAGMA journal_mode").one()
    desk.database.close()
    assert (level, mode) == (2, "wal")
