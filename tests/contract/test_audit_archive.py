"""Every archive keeps whole segments and gives them back; a server brings its own there by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from audit_notes import a_note
from crash_steps import run_crashes
from memory_archive import MemoryArchive
from s3_server import KEYS

from ashore.control.audit import Archive, Archivist, AuditService, open_archive, verify_folder
from ashore.control.audit.archive import ArchiveShelf
from ashore.control.audit.archivist import ARCHIVED, read_standing
from ashore.core.clock import ManualClock
from ashore.core.errors import NotFound, SourceUnreachable, TamperedAudit
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.audit import ChainName, ChainWriter, Checkpoints, Query
from ashore.data.audit.search import search
from ashore.data.audit.segments import segment_path, segments_of
from ashore.data.audit.writer import DAY_US, Draft
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder

CHAIN = ChainName("api-0")
RECORDS = 90
CRASHES = Path(__file__).parents[1] / "support" / "archive_crashes.py"


@pytest.fixture(params=["memory", "folder", "s3"])
def make_archive(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Archive]:
    """Return what opens the same archive again and again."""
    if request.param == "memory":
        archive = MemoryArchive()
        return lambda: archive
    if request.param == "folder":
        return lambda: open_archive(str(tmp_path / "archive"))
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3_url")}.items():
        monkeypatch.setenv(name, value)
    return lambda: open_archive(f"s3://models/{tmp_path.name}")


class Home:
    """A home with nine days of records in many small segments, and what archives it."""

    def __init__(self, folder: Path, archive: Archive, *, day: int = 9, round_bytes: int = 1 << 20) -> None:
        self.root = folder / "audit"
        writer = ChainWriter(self.root, CHAIN, segment_bytes=4_000)
        for number in range(RECORDS):
            writer.append([Draft(number * DAY_US // 10, number, a_note(number))])
        writer.close()
        self.keys = folder / "keys"
        self.checkpoints = Checkpoints(self.root, self.keys)
        self.checkpoints.make(1)
        self.archive = archive
        self.recorder = MemoryRecorder()
        self.clock = ManualClock(now_s=day * DAY_US / 1e6)
        self.before = segments_of(self.root, CHAIN)
        self.archivist = Archivist(
            self.root, self.checkpoints, archive, recorder=self.recorder, clock=self.clock, after_days=5,
            every_s=3600, round_bytes=round_bytes,
        )  # fmt: skip

    @property
    def left(self) -> list[int]:
        return segments_of(self.root, CHAIN)

    def found(self) -> int:
        """Verify here and across the archive, and return how many requests are found across it."""
        trusted = AuditService(self.root, self.keys, self.recorder).public_keys()
        assert verify_folder(self.root, trusted=trusted).ok
        shelf = ArchiveShelf(self.root, self.checkpoints.home, self.archive)
        report = verify_folder(self.root, trusted=trusted, shelf=shelf)
        assert report.ok and report.chains[0].first_seq == 1, report.problems
        count = len(search(shelf, Query(kind="request", limit=1000)))
        shelf.close()
        return count


def test_what_is_kept_comes_back_and_is_never_another(make_archive: Callable[[], Archive]) -> None:
    archive = make_archive()
    with pytest.raises(NotFound):
        archive.read("home/api-0/00000001.log")
    for number in (2, 1):
        archive.keep(f"home/api-0/0000000{number}.log", b"bytes" * number)
    archive.keep("home/api-0/00000001.log", b"bytes")
    with pytest.raises(TamperedAudit):
        make_archive().keep("home/api-0/00000001.log", b"others")
    assert make_archive().read("home/api-0/00000002.log") == b"bytesbytes"
    assert list(make_archive().names("home")) == ["home/api-0/00000001.log", "home/api-0/00000002.log"]
    assert list(make_archive().names("elsewhere")) == []


def test_by_itself_it_copies_all_and_removes_the_old(make_archive: Callable[[], Archive], tmp_path: Path) -> None:
    home = Home(tmp_path, make_archive())
    assert not home.archivist.tick()
    assert 1 < len(home.left) < len(home.before)
    assert home.found() == RECORDS
    standing = read_standing(home.root)
    assert standing is not None and standing.copied == {CHAIN: home.before[-2]}
    assert (standing.good_us, standing.failures, standing.error) == (9 * DAY_US, 0, "")
    status = AuditService(home.root, home.keys, home.recorder).status()
    assert status.archive == standing and status.unarchived == 0
    (told,) = home.recorder.acts
    assert (told.action, told.actor, told.outcome) == ("audit:archive", "system", "done")
    assert told.detail["segments"] == len(home.before) - 1
    assert told.detail["removed"] == len(home.before) - len(home.left)
    assert not home.archivist.tick() and len(home.recorder.acts) == 1, "nothing was left to do, and nothing is told"
    home.clock.advance(30 * 86_400)
    assert not home.archivist.tick() and len(home.left) == 1
    assert home.found() == RECORDS
    assert (
        AuditService(home.root, home.keys, home.recorder).archive(
            home.archive.place if home.archive.place.startswith("s3://") else str(tmp_path / "other"),
            after_days=5,
            reader=Actor(principal=Principal(id="root", tenant=TenantId(""))),
        )
        == []
    ), "the command finds nothing to do after it"


def test_a_round_is_bounded_and_the_next_goes_on(make_archive: Callable[[], Archive], tmp_path: Path) -> None:
    home = Home(tmp_path, make_archive(), round_bytes=9_000)
    rounds = 1
    while home.archivist.tick():
        rounds += 1
        assert home.found() == RECORDS
    copied = home.recorder.acts
    assert rounds > 3 and len(copied) in (rounds - 1, rounds)
    assert all(int(act.detail["bytes"]) < 9_000 + 5_000 for act in copied)
    assert len(home.left) < len(home.before) and home.found() == RECORDS


class Broken(MemoryArchive):
    """Cannot be reached, from its n-th segment on; or gives back other bytes."""

    def __init__(self, *, after: int = 0, bends: bool = False) -> None:
        super().__init__()
        self.after, self.bends = after, bends

    def keep(self, name: str, data: bytes) -> None:
        if self.after <= 0:
            raise SourceUnreachable("no route to the archive")
        self.after -= 1
        super().keep(name, data)

    def read(self, name: str) -> bytes:
        return super().read(name)[: -1 if self.bends else None]


def test_an_archive_that_fails_is_told_once_and_nothing_is_lost(tmp_path: Path) -> None:
    archive = Broken(after=2)
    home = Home(tmp_path, archive)
    for failures in (1, 2, 3):
        assert not home.archivist.tick()
        standing = read_standing(home.root)
        assert standing is not None and standing.failures == failures and "no route" in standing.error
        assert standing.copied == {CHAIN: home.before[1]} and not standing.good_us
    assert home.left == home.before[2:], "what had come back whole could leave"
    (told,) = home.recorder.acts
    assert told.outcome == "failed" and "no route" in told.reason
    status = AuditService(home.root, home.keys, home.recorder).status()
    assert status.unarchived == len(home.before) - 3
    archive.after = 1000
    assert not home.archivist.tick()
    standing = read_standing(home.root)
    assert standing is not None and (standing.failures, standing.error) == (0, "")
    assert [act.outcome for act in home.recorder.acts] == ["failed", "done"]
    assert home.found() == RECORDS


def test_nothing_leaves_before_its_copy_came_back_whole(tmp_path: Path) -> None:
    archive = Broken(after=1000, bends=True)
    home = Home(tmp_path, archive)
    home.archivist.tick()
    standing = read_standing(home.root)
    assert home.left == home.before and standing is not None and "reads back different" in standing.error
    archive.bends = False
    home.archivist.tick()
    for name in list(archive.kept):  # what was copied before, and is old only now, is read back once more
        archive.kept[name] = archive.kept[name] + b"x"
    young = home.left
    home.clock.advance(30 * 86_400)
    home.archivist.tick()
    standing = read_standing(home.root)
    assert home.left == young and standing is not None and standing.failures == 1


def test_segments_of_a_clock_that_was_set_back_leave_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryArchive(), day=2)
    home.archivist.tick()
    assert home.left == home.before
    writer = ChainWriter(home.root, CHAIN, segment_bytes=4_000)
    for number in range(40):  # older than what is before them
        writer.append([Draft(-30 * DAY_US + number, 10_000 + number, a_note(number))])
    writer.close()
    home.archivist.tick()
    assert home.left[: len(home.before)] == home.before


def test_another_place_and_a_file_that_is_damaged_begin_anew(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryArchive(), day=1)
    home.archivist.tick()
    other = MemoryArchive()
    other.place = "elsewhere"  # type: ignore[misc]
    again = Archivist(
        home.root, home.checkpoints, other, recorder=home.recorder, clock=home.clock, after_days=5, every_s=1
    )
    again.tick()
    assert other.kept == home.archive.kept  # type: ignore[attr-defined]
    (home.root / ARCHIVED).write_bytes(b"{")
    assert read_standing(home.root) is None
    again.tick()
    assert read_standing(home.root) is not None


def test_it_runs_by_itself_and_stops(tmp_path: Path) -> None:
    home = Home(tmp_path, MemoryArchive(), round_bytes=5_000)
    archivist = Archivist(
        home.root, home.checkpoints, home.archive, recorder=home.recorder, clock=home.clock, after_days=5,
        every_s=0.01, round_bytes=5_000,
    )  # fmt: skip
    archivist.start()
    for _ in range(500):
        standing = read_standing(home.root)
        if standing is not None and standing.copied.get(CHAIN) == home.before[-2]:
            break
        archivist._stop.wait(0.01)
    archivist.close()
    archivist.close()
    assert home.found() == RECORDS and len(home.left) < len(home.before)
    assert not segment_path(home.root, CHAIN, home.before[0]).exists()


def test_nothing_is_lost_at_whichever_step_it_is_killed() -> None:
    assert run_crashes(CRASHES) > 12
