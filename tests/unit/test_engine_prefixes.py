"""Prefixes on disk: found again by who computed them, bounded, purged, and never a reason to fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ashore.core.errors import SealingKeyMissing
from ashore.core.ids import OrderId
from ashore.data.engines import ModelFiles, PrefixPlace, partition_of, sweep_prefixes
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.kept import KeptBlocks
from ashore.data.engines.openvino.scheduler import Scheduler, Sequence
from ashore.data.engines.prefixes import PrefixStore, secret_of

LONG_S = 60.0
SECRET = b"s" * 32
BLOCK = 1000
FILE = 8 + 12 + BLOCK + 16
IDS = list(range(40))
FILES = ModelFiles(name="m", digest="sha256:0", directory="", format="openvino")


def opened(folder: Path, *, max_bytes: int = 1 << 20, secret: bytes = SECRET, content: str = "m") -> PrefixStore:
    place = PrefixPlace(folder=str(folder), max_bytes=max_bytes)
    return PrefixStore(place, secret, content=content, block_bytes=BLOCK, block_tokens=4)


def block(at: int) -> NDArray[np.uint8]:
    return np.full(BLOCK, at, np.uint8)


def kept(folder: Path, partition: str, ids: list[int], *, num_proven: int = 0, max_bytes: int = 1 << 20) -> list[Path]:
    """Write the blocks of `ids`, and return the files there are afterwards."""
    store = opened(folder, max_bytes=max_bytes)
    store.prepare(partition)
    store.keep(partition, store.names(partition, ids), num_proven=num_proven, read=block)
    store.close(within_s=LONG_S)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def age(folder: Path) -> None:
    """Let all files have been used long ago, one after the other."""
    for at, path in enumerate(sorted(folder.rglob("*/*/*/*"))):
        os.utime(path, (at, at))


def found(store: PrefixStore, partition: str, ids: list[int]) -> list[int]:
    """Return the first byte of each block that comes back."""
    read: list[int] = []
    names = store.names(partition, ids)
    chosen = names[: store.num_stored(names)]
    count = store.fetch(partition, chosen, lambda at, data: read.append(data[0])).result(LONG_S)
    assert count == len(read)
    return read


def test_blocks_come_back_to_the_same_tenant_model_and_tokens_alone(tmp_path: Path) -> None:
    files = kept(tmp_path, "a", IDS)
    assert len(files) == 10
    assert {path.stat().st_size for path in files} == {FILE}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not any(bytes([at]) * 50 in path.read_bytes() for at, path in enumerate(files)), "they are encrypted"
    store = opened(tmp_path)
    assert found(store, "a", IDS) == list(range(10))
    assert found(store, "a", [*IDS[:10], 77, *IDS[11:]]) == [0, 1], "from the other token on they are others"
    assert found(store, "b", IDS) == []
    assert found(store, partition_of("a", "", "salt"), IDS) == []
    assert found(opened(tmp_path, content="another model"), "a", IDS) == []
    assert found(opened(tmp_path, secret=b"t" * 32), "a", IDS) == []
    assert store.faults == 0


def test_a_file_that_is_cut_altered_or_of_another_place_does_not_open_and_is_deleted(tmp_path: Path) -> None:
    kept(tmp_path, "a", IDS)
    store = opened(tmp_path)
    names = store.names("a", IDS)
    by_name = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    cut, altered, foreign = (by_name[names[at]] for at in (9, 7, 5))
    cut.write_bytes(cut.read_bytes()[:500])
    altered.write_bytes(altered.read_bytes()[:-1] + b"\0")
    shutil.copyfile(by_name[names[0]], foreign)
    by_name[names[3]].unlink()
    for left, bad in ((3, None), (5, foreign), (7, altered), (9, cut)):
        store = opened(tmp_path)
        assert store.num_stored(names) in (3, 10)
        assert found(store, "a", IDS) == list(range(left))
        assert store.faults == (bad is not None)
        if bad is not None:
            assert not bad.exists()
        kept(tmp_path, "a", IDS[: 4 * (left + 1)])  # what is missing is written again


def test_bytes_are_bounded_and_prefixes_used_once_fill_half_of_them(tmp_path: Path) -> None:
    most = 20 * FILE
    assert len(kept(tmp_path, "a", IDS, max_bytes=most)) == 10
    assert len(kept(tmp_path, "a", [9, *IDS], max_bytes=most)) == 10, "used once: it may not have the other half"
    age(tmp_path)
    assert len(kept(tmp_path, "a", [9, *IDS], num_proven=10, max_bytes=most)) == 20
    age(tmp_path)
    full = kept(tmp_path, "b", IDS, num_proven=10, max_bytes=most)
    assert len(full) <= 20
    store = opened(tmp_path)
    assert found(store, "b", IDS) == list(range(10)), "those used longest ago went"
    assert len(kept(tmp_path, "b", IDS, max_bytes=5 * FILE)) <= 5, "a lower limit holds from the next start on"
    assert found(opened(tmp_path), "b", IDS) == list(range(4)), "a chain loses its end first"


def test_a_purge_hides_deletes_and_keeps_what_was_computed_before_from_being_written(tmp_path: Path) -> None:
    before, after = partition_of("a", "", ""), partition_of("a", "0.1", "")
    kept(tmp_path, before, IDS)
    kept(tmp_path, "b", IDS)
    kept(tmp_path, "", IDS)
    store = opened(tmp_path)
    store.prepare(before)
    assert found(store, after, IDS) == []
    sweep_prefixes(tmp_path, lambda tenant: {"a": "0.1", "b": "", "": ""}[tenant])
    store.keep(before, store.names(before, [7, *IDS]), num_proven=10, read=block)  # of a sequence that ran meanwhile
    store.close(within_s=LONG_S)
    assert [path.name for path in (tmp_path / "of-a").iterdir()] == []
    assert store.faults == 0
    assert found(opened(tmp_path), "b", IDS) == list(range(10))
    assert found(opened(tmp_path), "", IDS) == list(range(10))
    assert len(kept(tmp_path, after, IDS)) == 30


@pytest.mark.parametrize("tenant", ["../../up", "..", "shared", "a/b", "王", "a.b"])
def test_a_tenant_of_any_name_has_a_folder_of_its_own(tmp_path: Path, tenant: str) -> None:
    inside = tmp_path / "prefixes"
    kept(inside, tenant, IDS)
    assert [path.name for path in tmp_path.iterdir()] == ["prefixes"]
    sweep_prefixes(inside, lambda name: "" if name == tenant else "1")
    assert found(opened(inside), tenant, IDS) == list(range(10))
    sweep_prefixes(inside, lambda name: "1")
    assert found(opened(inside), tenant, IDS) == []


def test_a_disk_that_cannot_be_written_costs_the_prefix_alone(tmp_path: Path, small_disk: Path) -> None:
    assert kept(small_disk, "a", IDS) == [], "it has no room to spare"
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = opened(blocked)
    store.prepare("a")
    store.keep("a", store.names("a", IDS), num_proven=0, read=block)
    store.close(within_s=LONG_S)
    assert store.faults >= 1
    assert found(store, "a", IDS) == []


def test_what_a_killed_writer_left_is_deleted(tmp_path: Path) -> None:
    folder = kept(tmp_path, "a", IDS)[0].parent
    half, fresh = folder / ".tmp-x.1", folder / ".tmp-x.2"
    for path in (half, fresh):
        path.write_bytes(b"half")
    os.utime(half, (1, 1))
    store = opened(tmp_path)
    assert (half.exists(), fresh.exists()) == (False, True), "the younger one may be of a host that runs"
    assert store.kept_bytes == 10 * FILE


def test_the_key_is_that_of_the_sealed_home_and_otherwise_beside_the_prefixes(tmp_path: Path) -> None:
    link = tmp_path / "secrets-key"
    place = PrefixPlace(folder=str(tmp_path / "prefixes"), max_bytes=1, secrets_key=str(link))
    clear = secret_of(place, FILES)
    assert secret_of(place, FILES) == clear and len(clear) == 32
    (tmp_path / "held").write_bytes(b"k" * 32)
    link.symlink_to(tmp_path / "held")
    assert secret_of(place, FILES) == b"k" * 32
    assert not (tmp_path / "prefixes" / "key").exists(), "what it opened can be opened no more"
    (tmp_path / "held").unlink()
    with pytest.raises(SealingKeyMissing):
        secret_of(place, FILES)


# --- between the blocks of an engine and the disk


class Disk:
    """A store in memory whose reads end when the test says so."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.done: list[tuple[Future[int], int]] = []
        self.reads: list[Callable[[int], NDArray[np.uint8] | None]] = []

    def names(self, partition: str, ids: list[int]) -> list[str]:
        return [f"{partition}/{ids[: at + 4]}" for at in range(0, len(ids) - 3, 4)]

    def num_stored(self, names: list[str]) -> int:
        return next((at for at, name in enumerate(names) if name not in self.stored), len(names))

    def prepare(self, partition: str) -> None:
        pass

    def fetch(self, partition: str, names: list[str], write: Callable[[int, bytes], None]) -> Future[int]:
        for at in range(len(names)):
            write(at, bytes([at]))
        self.done.append((Future(), len(names)))
        return self.done[-1][0]

    def finish(self, count: int | None = None) -> None:
        future, known = self.done.pop(0)
        future.set_result(known if count is None else count)

    def keep(self, partition: str, names: list[str], *, num_proven: int, read: Callable[[int], object]) -> None:
        self.stored |= set(names)
        self.reads.append(read)  # type: ignore[arg-type]


class Memory:
    def __init__(self) -> None:
        self.blocks: dict[int, int] = {}

    def write_block(self, block: int, data: bytes) -> None:
        self.blocks[block] = data[0]

    def read_block(self, block: int) -> NDArray[np.uint8]:
        return np.array([self.blocks.get(block, 0)], np.uint8)


class Bench:
    def __init__(self, num_blocks: int = 32) -> None:
        self.disk, self.memory, self.now_s = Disk(), Memory(), 0.0
        self.scheduler = Scheduler(BlockPool(num_blocks, 4), max_sequences=4, prefix_cache=True)
        self.kept = KeptBlocks(self.disk, self.scheduler.pool, self.memory, clock=lambda: self.now_s)  # type: ignore[arg-type]

    def order(self, ids: list[int], tenant: str = "a") -> Sequence:
        return Sequence(order_id=OrderId(str(ids)), ids=[*ids], num_prompt=len(ids), root=(tenant, ""))

    def compute(self, order: Sequence) -> None:
        self.scheduler.add(order)
        while order.remaining:
            plan = self.scheduler.plan(prompt_budget=64)
            self.scheduler.commit(plan)

    def begin(self, order: Sequence) -> bool:
        return self.kept.begin(order, seconds_per_token=0.01)


def test_an_order_waits_for_its_blocks_and_finds_them() -> None:
    bench = Bench()
    bench.disk.stored |= set(bench.disk.names("a", IDS[:20]))
    assert not bench.begin(bench.order(IDS, "b")), "they are another tenant's"
    first, second = bench.order(IDS), bench.order([*IDS[:30], 7])
    assert bench.begin(first) and bench.begin(second)
    assert len(bench.disk.done) == 1, "both begin with the same blocks, which are read once"
    assert bench.kept.ready() == [] and bench.kept.num_waiting == 2
    bench.disk.finish()
    assert bench.kept.ready() == [first, second]
    bench.compute(first)
    assert first.cached == 20
    assert [bench.memory.blocks[block] for block in first.blocks[:5]] == [0, 1, 2, 3, 4]
    assert bench.kept.restored_tokens == 20
    bench.scheduler.remove(first)
    assert bench.scheduler.pool.num_available == 32, "nothing is held any more"


def test_an_order_goes_on_without_blocks_that_come_too_late_or_in_part() -> None:
    bench = Bench()
    bench.disk.stored |= set(bench.disk.names("a", IDS[:20]))
    first = bench.order(IDS)
    assert bench.begin(first)
    bench.now_s = 0.19
    assert bench.kept.ready() == []
    bench.now_s = 0.21  # 20 tokens would be computed by now
    assert bench.kept.ready() == [first]
    assert not bench.begin(bench.order(IDS)), "the disk is slower than computing"
    bench.disk.finish(2)
    assert bench.kept.ready() == []
    bench.compute(first)
    assert first.cached == 8, "the blocks that came stay, and no other"
    bench.scheduler.remove(first)
    assert bench.scheduler.pool.num_available == 32


def test_a_cancelled_order_leaves_no_block_held() -> None:
    bench = Bench()
    bench.disk.stored |= set(bench.disk.names("a", IDS[:20]))
    first = bench.order(IDS)
    assert bench.begin(first)
    bench.kept.drop(first)
    bench.disk.finish()
    assert bench.kept.ready() == []
    assert bench.scheduler.pool.num_available == 32


def test_a_small_cache_is_not_filled_from_the_disk() -> None:
    bench = Bench(num_blocks=8)
    bench.disk.stored |= set(bench.disk.names("a", IDS[:20]))
    assert not bench.begin(bench.order(IDS))
    assert bench.scheduler.pool.num_available == 8


def test_a_block_that_was_overwritten_while_it_was_copied_does_not_count() -> None:
    bench = Bench(num_blocks=10)
    first = bench.order(IDS[:20])
    bench.compute(first)
    bench.kept.keep(first)
    bench.scheduler.remove(first)
    (read,) = bench.disk.reads
    assert read(0) is not None
    bench.compute(bench.order([50 + one for one in IDS]))  # takes every block
    assert [read(at) for at in range(5)] == [None] * 5
