"""A model comes to a site whole or not at all, however the link breaks, and no byte that arrived is fetched again."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from site_centre import MemoryTree

from ashore.control.sites import fetch
from ashore.control.sites.delta import ModelFiles, cut_file, make, make_delta, regions
from ashore.control.sites.fetch import Have, NotNow, Puller, is_open
from ashore.control.sites.model import ModelParts, Segment
from ashore.control.sites.ports import WrongBytes
from ashore.core.errors import DiskFull, SourceUnreachable
from ashore.kit.throttle import Throttle

NO_WAIT: Callable[[float], None] = lambda _: None  # noqa: E731


class CutTree(MemoryTree):
    """A link that breaks at random bytes, and counts what it has sent."""

    def __init__(self, files: dict[str, bytes], *, share: float = 0.0, seed: int = 1) -> None:
        super().__init__(files)
        self.random, self.share, self.sent, self.cuts = random.Random(seed), share, 0, 0
        self.finished: list[str] = []
        self.left = 1 << 40
        self.lock = threading.Lock()

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        body = self.files[path][start:]
        with self.lock:
            cut = self.random.randrange(len(body) + 1) if self.random.random() < self.share else None
        for at in range(0, len(body) if cut is None else cut, 4096):
            piece = body[at : min(at + 4096, cut if cut is not None else len(body))]
            with self.lock:
                piece = piece[: self.left]
                self.sent += len(piece)
                self.left -= len(piece)
            if not piece:
                raise SourceUnreachable("there is no link")
            yield piece
        if cut is not None:
            with self.lock:
                self.cuts += 1
            raise SourceUnreachable("the link was cut")
        self.finished.append(path)


def _having(*models: ModelFiles) -> Have:
    files = {one.sha256[path]: file for one in models for path, file in one.files.items()}
    return Have(frozenset(one.digest for one in models), files)


def _model(folder: Path, number: int, files: dict[str, bytes]) -> ModelFiles:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o444)
    return ModelFiles(
        digest=f"sha256:{number:064x}",
        files={name: folder / name for name in files},
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )


def _publish(tree: MemoryTree, new: ModelFiles, *bases: ModelFiles) -> ModelParts:
    def keep(segment: Segment, frame: bytes) -> None:
        tree.files[segment.path] = frame

    return ModelParts(
        digest=new.digest,
        name="m",
        files=tuple(cut_file(path, new, keep) for path in new.files),
        deltas=tuple(make_delta(base, new, keep) for base in bases),
    )


@dataclass
class World:
    """Three versions of a model, each published with a delta from the one before."""

    tree: CutTree
    files: list[ModelFiles]
    parts: list[ModelParts]
    into: Path

    def check(self, number: int) -> None:
        model = self.files[number]
        for path, digest in model.sha256.items():
            assert (self.into / digest).read_bytes() == model.files[path].read_bytes()
        assert {one.name for one in self.into.iterdir()} == {"lock", *model.sha256.values()}

    def stored(self, number: int) -> int:
        return self.parts[number].stored


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(regions, "SEGMENT_BYTES", 100_000)  # so that a file has many
    monkeypatch.setattr(make, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(make, "STEP_BYTES", 100_000)
    rng = np.random.default_rng(4)
    weights = rng.integers(0, 256, 1_200_000, np.uint8)
    tree, files, parts = CutTree({}), [], []
    for number in range(3):
        weights = weights.copy()
        weights[rng.integers(0, weights.size, 8000)] += np.uint8(1)
        model = {
            "manifest": b"%d" % number,
            "config": b"c",
            "weights": weights.tobytes(),
            "empty": b"",
            "text": b"t" * 99,
        }
        files.append(_model(tmp_path / str(number), number + 1, model))
        parts.append(_publish(tree, files[-1], *files[-2:-1]))
    return World(tree=tree, files=files, parts=parts, into=tmp_path / "into")


def test_a_model_comes_by_its_segments_or_by_the_cheapest_delta(world: World) -> None:
    seen: list[float] = []
    Puller(world.tree).fetch(world.parts[1], have=_having(), into=world.into, on_progress=seen.append)
    world.check(1)
    assert world.tree.sent == world.stored(1) and seen == sorted(seen) and seen[-1] == 1.0

    world.tree.sent, world.into = 0, world.into.with_name("by delta")
    have = _having(world.files[0])
    Puller(world.tree).fetch(world.parts[1], have=have, into=world.into, on_progress=seen.append)
    world.check(1)
    assert seen[-1] == 1.0 and world.tree.sent == world.parts[1].deltas[0].size < world.stored(1) / 10

    Puller(world.tree).fetch(world.parts[1], have=have, into=world.into)
    assert world.tree.sent == world.parts[1].deltas[0].size  # there already


def test_a_model_that_was_just_fetched_is_a_base_for_the_next(world: World) -> None:
    have = _having(world.files[0])
    folder = Puller(world.tree).fetch(world.parts[1], have=have, into=world.into.with_name("between"))
    Puller(world.tree).fetch(world.parts[2], have=have.also(world.parts[1], folder), into=world.into)
    world.check(2)
    assert world.tree.sent == world.parts[1].deltas[0].size + world.parts[2].deltas[0].size


def test_what_the_store_has_is_linked_and_never_written(world: World) -> None:
    have = _having(world.files[1])
    Puller(world.tree).fetch(world.parts[1], have=have, into=world.into)
    world.check(1)
    assert world.tree.sent == 0
    weights = world.files[1].files["weights"]
    assert (world.into / world.files[1].sha256["weights"]).samefile(weights)
    before = weights.read_bytes()
    world.into = world.into.with_name("next")
    Puller(world.tree).fetch(world.parts[2], have=have, into=world.into)
    world.check(2)
    assert weights.read_bytes() == before


@pytest.mark.parametrize("way", ["full", "delta"])
def test_hundreds_of_cuts_cost_no_byte(world: World, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FRUITLESS", 1000)
    world.tree.share = 0.97
    have = _having(*world.files[:1]) if way == "delta" else _having()
    rounds = 0
    while world.tree.cuts < 500:
        rounds += 1
        Puller(world.tree, sleep=NO_WAIT).fetch(world.parts[1], have=have, into=world.into)
        world.check(1)
        for one in world.into.iterdir():
            one.unlink()
    cost = world.parts[1].deltas[0].size if way == "delta" else world.stored(1)
    assert world.tree.sent == rounds * cost
    assert all(world.tree.finished.count(path) <= rounds for path in set(world.tree.finished))


def test_a_link_that_stays_away_ends_the_fetch_and_keeps_what_arrived(world: World) -> None:
    world.tree.left = 300_000
    for _ in range(2):
        with pytest.raises(SourceUnreachable):
            Puller(world.tree, sleep=NO_WAIT).fetch(world.parts[1], have=_having(), into=world.into)
    assert world.tree.sent == 300_000
    world.tree.left = 1 << 40
    Puller(world.tree).fetch(world.parts[1], have=_having(), into=world.into)
    world.check(1)
    assert world.tree.sent == world.stored(1)


class Slow(CutTree):
    """Counts what it sends where a killed process leaves the count."""

    def __init__(self, files: dict[str, bytes], counter: mmap.mmap) -> None:
        super().__init__(files)
        self.counter = counter

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        for piece in super().read(path, start=start, limit=limit):
            with self.lock:
                before = int.from_bytes(self.counter[:8], "little")
                self.counter[:8] = (before + len(piece)).to_bytes(8, "little")
            yield piece


@pytest.mark.parametrize("way", ["full", "delta"])
def test_a_kill_at_any_moment_costs_what_was_in_flight(world: World, way: str) -> None:
    have = _having(*world.files[:1]) if way == "delta" else _having()
    chance, kills, rounds = random.Random(7), 0, 0
    with mmap.mmap(-1, 8) as counter:
        while kills < 40:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process at once, wherever it is
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.08))
                    Puller(Slow(world.tree.files, counter)).fetch(world.parts[1], have=have, into=world.into)
                    code = 0
                finally:
                    os._exit(code)
            chance.random()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, -signal.SIGALRM)
            if code == 0:
                rounds += 1
                world.check(1)
                for one in world.into.iterdir():
                    one.unlink()
            else:
                kills += 1
        Puller(Slow(world.tree.files, counter)).fetch(world.parts[1], have=have, into=world.into)
        world.check(1)
        cost = world.parts[1].deltas[0].size if way == "delta" else world.stored(1)
        sent = int.from_bytes(counter[:8], "little")
    assert 0 <= sent - (rounds + 1) * cost <= kills * fetch.PARALLEL * 4096


def test_other_bytes_are_thrown_away_and_another_way_is_taken(world: World) -> None:
    have = _having(world.files[0])
    index = world.parts[1].deltas[0].index
    good = world.tree.files[index.path]
    for bad in (good[:-1] + b"x", b"x" * len(good)):
        world.tree.files[index.path] = bad
        puller = Puller(world.tree)
        puller.fetch(world.parts[1], have=have, into=world.into)
        world.check(1)
        assert len(puller.wrong) == 1 and index.sha256[:16] in puller.wrong[0]
        for one in world.into.iterdir():
            one.unlink()


def test_a_delta_that_gives_another_file_is_left_for_the_segments_and_not_tried_again(world: World) -> None:
    world.files[0].files["weights"].chmod(0o644)
    changed = bytearray(world.files[0].files["weights"].read_bytes())
    changed[5] ^= 1
    world.files[0].files["weights"].write_bytes(changed)  # a base that is not what it was
    have = _having(world.files[0])
    puller = Puller(world.tree)
    puller.fetch(world.parts[1], have=have, into=world.into)
    world.check(1)
    assert len(puller.wrong) == 1 and "SHA-256" in puller.wrong[0]
    cost = world.stored(1) + world.parts[1].deltas[0].size
    assert cost - 100 < world.tree.sent <= cost  # what the delta had made by then stays


def test_segments_that_do_not_give_the_file_end_the_fetch(world: World) -> None:
    files = [
        msgspec.structs.replace(one, sha256="0" * 64) if one.path == "weights" else one for one in world.parts[1].files
    ]
    lying = msgspec.structs.replace(world.parts[1], files=tuple(files), deltas=())
    with pytest.raises(WrongBytes, match="expected 0000"):
        Puller(world.tree).fetch(lying, have=_having(), into=world.into)
    assert not (world.into / ("0" * 64)).exists()
    for path in [one for one in world.tree.files if one.startswith("segments")]:
        world.tree.files[path] = b"?" * len(world.tree.files[path])
    with pytest.raises(WrongBytes, match="arrived with"):
        Puller(world.tree).fetch(world.parts[1], have=_having(), into=world.into.with_name("other"))


def test_a_disk_without_room_is_said_before_the_first_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SPARE_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match=r"needs 1e\+06 TiB|TiB at .*into; .* are free"):
        Puller(world.tree).fetch(world.parts[1], have=_having(), into=world.into)
    assert world.tree.sent == 0


def test_the_rate_is_kept_over_all_segments(world: World) -> None:
    now, slept = [0.0], []

    def sleep(span_s: float) -> None:
        slept.append(span_s)
        now[0] += span_s

    throttle = Throttle(100_000, now=lambda: now[0], sleep=sleep)
    for _ in range(10):
        throttle.take(50_000)
    assert now[0] == pytest.approx(5.0)
    assert Throttle(0, sleep=sleep).take(1 << 40) is None and len(slept) == 10


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        ("", "03:00", True),
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("09:00-17:00", "12:00", True),
        ("09:00-17:00", "17:00", False),
    ],
)
def test_hours(hours: str, at: str, expected: bool) -> None:
    assert is_open(hours, datetime.strptime(at, "%H:%M")) is expected


def test_outside_of_its_hours_a_site_keeps_what_it_has_and_fetches_no_more(world: World) -> None:
    may = iter([True, False])
    with pytest.raises(NotNow):
        Puller(world.tree, may_fetch=lambda: next(may, False), sleep=NO_WAIT).fetch(
            world.parts[1], have=_having(), into=world.into
        )
    first = world.tree.sent
    assert 0 < first < world.stored(1)
    Puller(world.tree).fetch(world.parts[1], have=_having(), into=world.into)
    assert world.tree.sent == world.stored(1)


def test_two_fetches_into_one_folder_do_not_mix(world: World) -> None:
    pullers = [Puller(world.tree) for _ in range(2)]
    threads = [
        threading.Thread(target=one.fetch, args=(world.parts[1],), kwargs={"have": _having(), "into": world.into})
        for one in pullers
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    world.check(1)
    assert world.tree.sent == world.stored(1)
