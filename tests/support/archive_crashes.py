"""Kills a process that archives segments at every single step it takes on the file system.

Run as a process of its own: `archive_crashes.py FOLDER`. Prints the number of steps; ends with a traceback where a
death left a record that is not whole, here and across the archive, or that the next round does not go on with.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from audit_notes import a_note
from crash_steps import comes_through

from ashore.control.audit import Archivist, AuditService, verify_folder
from ashore.control.audit.archive import ArchiveShelf, FolderArchive
from ashore.core.clock import ManualClock
from ashore.data.audit import ChainName, ChainWriter, Checkpoints, Query
from ashore.data.audit.search import search
from ashore.data.audit.segments import segments_of
from ashore.data.audit.writer import DAY_US, Draft
from ashore.kit.recorder import MemoryRecorder

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")
CHAIN = ChainName("api-0")


def main(folder: Path) -> int:
    pristine, work = folder / "pristine", folder / "home"
    writer = ChainWriter(pristine / "audit", CHAIN, segment_bytes=4_000)
    for number in range(40):
        writer.append([Draft(number * DAY_US // 10, number, a_note(number))])
    writer.close()
    Checkpoints(pristine / "audit", pristine / "keys").make(1)
    before = segments_of(pristine / "audit", CHAIN)
    step = 0
    while True:
        step += 1
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)
        came_through = comes_through(_archivist(work).tick, EVENTS, step)
        _check(work)
        _archivist(work).tick()
        assert segments_of(work / "audit", CHAIN) == before[-1:], f"after step {step} the next round did not go on"
        _check(work)
        if came_through:
            return step


def _archivist(home: Path) -> Archivist:
    return Archivist(
        home / "audit", Checkpoints(home / "audit", home / "keys"), FolderArchive(home / "archive"),
        recorder=MemoryRecorder(), clock=ManualClock(now_s=99 * DAY_US / 1e6), after_days=5, every_s=1,
    )  # fmt: skip


def _check(home: Path) -> None:
    """Nothing is lost: all records are found across the archive, and both verify."""
    root = home / "audit"
    trusted = AuditService(root, home / "keys", MemoryRecorder()).public_keys()
    here = verify_folder(root, trusted=trusted)
    assert here.ok, here.problems
    shelf = ArchiveShelf(root, Checkpoints(root, home / "keys").home, FolderArchive(home / "archive"))
    across = verify_folder(root, trusted=trusted, shelf=shelf)
    assert across.ok and across.chains[0].first_seq == 1, across.problems
    assert len(search(shelf, Query(kind="request", limit=1000))) == 40
    shelf.close()


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
