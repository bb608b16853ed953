"""Brings a model to a site: what is missing, by the cheapest way, over a link that may break anywhere.

What is on the disk is the only state. A segment that has arrived whole is not fetched again; of one that has not, the
bytes that arrived are kept. Steps that are done, `delta/apply.py` counts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ashore.control.sites.delta import Plan, finish, making, read_index, unpack, whole
from ashore.control.sites.model import Delta, ModelParts, PartFile, Segment
from ashore.control.sites.ports import CentreLink, WrongBytes
from ashore.core.bytesize import human_bytes
from ashore.core.errors import DiskFull, SourceUnreachable
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.store import BlobCopy, ModelCopy, ModelStore, disk_errors
from ashore.kit.throttle import Throttle
from ashore.kit.wholefile import sync_folder

log = logging.getLogger("ashore.sites")

PARALLEL: Final = 4
"""Segments that are fetched at once."""
AHEAD: Final = 16
"""Segments that may lie on the disk before they are used."""
SPARE_BYTES: Final = 64 << 20
"""What a fetch leaves free on the disk."""
FRUITLESS: Final = 4
"""Tries in a row that bring no byte, after which there is no link."""
PAUSE_S: Final = 0.5

OnProgress = Callable[[float], None]


class NotNow(SourceUnreachable):
    """The hours in which this site fetches models have ended.

    It goes on in the next ones, with what has arrived. Change `[sites] hours` to fetch at other times.
    """


def is_open(hours: str, at: datetime) -> bool:
    """Return whether a local time lies in `22:00-06:00`; always if there are no hours."""
    start, _, end = hours.partition("-")
    minute = at.strftime("%H:%M")
    return not hours or (start <= minute < end if start <= end else minute >= start or minute < end)


@dataclass(frozen=True, slots=True)
class Have:
    """What a site has, and need not fetch."""

    models: frozenset[str]
    """Digests of whole models, `sha256:…`."""
    files: Mapping[str, Path]
    """By the SHA-256 of their clear bytes; to be read only."""

    def file(self, sha256: str) -> Path | None:
        """Return a file, unless it was deleted since."""
        found = self.files.get(sha256)
        return found if found is not None and found.is_file() else None

    def also(self, parts: ModelParts, folder: Path) -> Have:
        """Return what the site has with a model that was fetched into a folder."""
        files = {one.sha256: folder / one.sha256 for one in parts.files}
        return Have(self.models | {parts.digest}, {**self.files, **files})


def have_in(store: ModelStore) -> Have:
    """Return what a store has. Sealed models do not count: their clear bytes are on no disk."""
    sealed = {one.digest for one in store.list() if one.sealed is not None}
    copies = [one for one in store.copies() if one.digest not in sealed]
    blobs = {blob.digest for one in copies for blob in one.blobs}
    files = {one.removeprefix("sha256:"): store.blob_path(one) for one in blobs}
    return Have(frozenset(str(one.digest) for one in copies), files)


def model_copy(parts: ModelParts, *, name: str, created_s: int) -> ModelCopy:
    """Return what `ModelStore.put_back` takes; its staged files are `into / hex` of `Puller.fetch`."""
    blobs = tuple(BlobCopy(digest=Digest(f"sha256:{one.sha256}"), num_bytes=one.size) for one in parts.files)
    bare, _, variant = name.partition("@")
    digest = Digest(parts.digest)
    return ModelCopy(name=bare, variant=variant, digest=digest, tagged=True, created_s=created_s, blobs=blobs)


class Puller:
    """Fetches models over one link."""

    def __init__(
        self,
        link: CentreLink,
        *,
        throttle: Throttle | None = None,
        may_fetch: Callable[[], bool] = lambda: True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create it.

        Args:
            link: Where segments are read.
            throttle: The limit of the rate.
            may_fetch: Returns whether the hours allow it; asked before each segment.
            sleep: Waits between tries that bring nothing.
        """
        self._link, self._throttle, self._may_fetch, self._sleep = link, throttle or Throttle(0), may_fetch, sleep
        self.wrong: list[str] = []
        """What was not as the signed list says, for the site's report."""

    @property
    def fetched(self) -> int:
        """Bytes that have come over the link."""
        return self._throttle.taken

    def fetch(
        self,
        parts: ModelParts,
        *,
        have: Have,
        into: Path,
        on_progress: OnProgress = lambda _: None,
    ) -> Path:
        """Return a folder with every file of a model, whole and verified, named by its SHA-256.

        May be called again after a kill or an error, and goes on where it was. A second call for the same folder waits
        for the first. The files may be hard links of the store's: never write to them.

        Args:
            parts: The signed list.
            have: What need not be fetched.
            into: Folder for this model, on the file system of the store.
            on_progress: Called as segments arrive, with the share of finished ones, also of those of earlier runs.

        Raises:
            DiskFull: before the first byte. SourceUnreachable, NotNow: later again. NotFound, RemoteRefused.
            WrongBytes: neither a delta nor the segments give what the signed list says.
        """
        with disk_errors(into):
            make_folder(into)
            with locked(into / "lock"):
                self._fetch(parts, have, into, on_progress)
        return into

    def _fetch(self, parts: ModelParts, have: Have, into: Path, on_progress: OnProgress) -> None:
        missing = [one for one in _unique(parts) if not _link(one, have, into)]
        for delta in _ways(parts, missing, have) if missing else ():
            bad = into / f"{delta.index.sha256}.bad" if delta else None
            if bad is not None and bad.exists():
                continue
            try:
                self._make(missing, delta, have, into, on_progress)
                break
            except WrongBytes as fault:
                self.wrong.append(fault.message)
                _clear(into, "*.part", "*.done")
                if delta is None or bad is None:
                    raise
                log.warning("the delta from %s is of no use: %s", delta.base, fault)
                bad.touch()
        _clear(into, "*.bad", "*.part", "*.done")
        shutil.rmtree(into / "segments", ignore_errors=True)

    def _make(
        self,
        files: Sequence[PartFile],
        delta: Delta | None,
        have: Have,
        into: Path,
        on_progress: OnProgress,
    ) -> None:
        """Make files of a model out of a delta, or out of their segments."""
        segments = into / "segments"
        make_folder(segments)
        _check_room(files, into)
        if delta is None:
            plan = whole(files)
        else:
            arrived = self._arrive(delta.index, segments, threading.Event())
            plan = read_index(unpack(delta.index, arrived.read_bytes()), delta.index.sha256[:16], files)
        bases = [have.file(one) for one in plan.bases]

        def base(number: int) -> Path:
            found = bases[number]
            if found is None:
                raise WrongBytes(f"the base {plan.bases[number][:16]} of a delta is not in the store")
            return found

        with self._arriving(plan, into, on_progress) as take:
            for file, steps in plan.files:
                if (into / file.sha256).exists():
                    continue
                with making(file, into, plan.key, base) as one:
                    for placed in steps[one.done :]:
                        if placed.segment >= 0:
                            payload = take(placed.segment, one.commit)[placed.start : placed.start + placed.length]
                        else:
                            payload = memoryview(b"")
                        one.apply(placed.step, payload)
                    one.commit()
                finish(file, into, plan.key)
                sync_folder(into)
        if delta is not None:
            (segments / delta.index.sha256).unlink(missing_ok=True)

    @contextmanager
    def _arriving(
        self, plan: Plan, into: Path, on_progress: OnProgress
    ) -> Iterator[Callable[[int, Callable[[], None]], memoryview]]:
        """Yield what returns the clear bytes of a segment, in the order in which the plan needs them; some are fetched
        ahead. Before one is left for the next, the steps that read it are forced to the disk, and then it is deleted.
        """
        folder, stop = into / "segments", threading.Event()
        order = [plan.segments[number] for number in _still_needed(plan, into)]
        last = {one.sha256: number for number, one in enumerate(order)}
        total = sum(plan.segments[number].stored for number in plan.needed())
        done = total - sum(one.stored for one in order)
        coming: dict[str, Future[Path]] = {}
        at, now, clear = -1, -1, memoryview(b"")
        pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="segments")

        def take(number: int, commit: Callable[[], None]) -> memoryview:
            nonlocal at, now, clear, done
            if number == now:
                return clear
            commit()
            if at >= 0 and last[order[at].sha256] == at:
                (folder / order[at].sha256).unlink(missing_ok=True)
            at, now = at + 1, number
            for one in order[at : at + AHEAD]:
                if one.sha256 not in coming:
                    coming[one.sha256] = pool.submit(self._arrive, one, folder, stop)
            arrived = coming[order[at].sha256].result()
            try:
                clear = memoryview(unpack(order[at], arrived.read_bytes()))
            except WrongBytes:
                arrived.unlink()
                raise
            done += order[at].stored
            on_progress(done / total)
            return clear

        try:
            yield take
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _arrive(self, segment: Segment, folder: Path, stop: threading.Event) -> Path:
        """Return the file of a segment, verified; fetched where it is not there."""
        target, part = folder / segment.sha256, folder / f"{segment.sha256}.part"
        fruitless, again = 0, True
        while not target.exists():
            before = part.stat().st_size if part.exists() else 0
            try:
                if before < segment.stored:
                    self._read(segment, part, before, stop)
                seen = hashlib.sha256(part.read_bytes()).hexdigest()
                if seen != segment.sha256:
                    raise WrongBytes(f"segment {segment.sha256[:16]} arrived with the SHA-256 {seen[:16]}")
            except SourceUnreachable:
                gained = part.exists() and part.stat().st_size > before
                fruitless = 0 if gained else fruitless + 1
                if stop.is_set() or fruitless >= FRUITLESS or not self._may_fetch():
                    raise
                self._sleep(0 if gained else PAUSE_S * 2**fruitless)
            except WrongBytes:
                part.unlink(missing_ok=True)
                if not again:
                    raise
                again = False
            else:
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(target)
        return target

    def _read(self, segment: Segment, part: Path, start: int, stop: threading.Event) -> None:
        if not self._may_fetch():
            raise NotNow("the hours in which this site fetches models have ended")
        with disk_errors(part), part.open("ab", buffering=0) as file:
            for piece in self._link.read(segment.path, start=start, limit=segment.stored):
                file.write(piece)
                self._throttle.take(len(piece))
                if stop.is_set():
                    raise SourceUnreachable("the fetch was stopped")
        if part.stat().st_size < segment.stored:
            raise SourceUnreachable(
                f"segment {segment.sha256[:16]} ended after {part.stat().st_size} of {segment.stored} bytes"
            )


def _still_needed(plan: Plan, into: Path) -> Iterator[int]:
    """Yield the segments of steps that are not done, in the order in which they are taken."""
    before = -1
    for file, steps in plan.files:
        ledger = into / f"{file.sha256}.{plan.key}.done"
        done = len(steps) if (into / file.sha256).exists() else ledger.stat().st_size if ledger.exists() else 0
        for placed in steps[done:]:
            if placed.segment not in (-1, before):
                before = placed.segment
                yield before


def _ways(parts: ModelParts, missing: Sequence[PartFile], have: Have) -> list[Delta | None]:
    """Return the deltas to a model that cost less than its segments, the cheapest first; None: its segments."""
    full = sum({segment.sha256: segment.stored for one in missing for segment in one.segments}.values())
    deltas = [one for one in parts.deltas if one.base in have.models and one.size < full]
    return [*sorted(deltas, key=lambda one: one.size), None]


def _unique(parts: ModelParts) -> Iterable[PartFile]:
    return {one.sha256: one for one in parts.files}.values()


def _clear(into: Path, *patterns: str) -> None:
    for left in (one for pattern in patterns for one in into.glob(pattern)):
        left.unlink()


def _link(file: PartFile, have: Have, into: Path) -> bool:
    """Return whether a file is in the folder, whole; put it there if the site has it."""
    target, mine = into / file.sha256, have.file(file.sha256)
    if target.exists():
        return True
    if mine is None or mine.stat().st_size != file.size:
        return False
    with suppress(WrongBytes):
        part = into / f"{file.sha256}.have.part"
        part.unlink(missing_ok=True)
        try:
            os.link(mine, part)
        except OSError:
            shutil.copyfile(mine, part)
        (into / f"{file.sha256}.have.done").touch()
        finish(file, into, "have")
    return target.exists()


def _check_room(files: Sequence[PartFile], into: Path) -> None:
    """Raise `DiskFull` unless the new files fit on the disk beside what is there."""
    here = sum(one.stat().st_blocks * 512 for one in into.glob("*.part"))
    needed = sum(one.size for one in files if not (into / one.sha256).exists()) + SPARE_BYTES - here
    free = shutil.disk_usage(into).free
    if needed > free:
        raise DiskFull(
            f"the new version needs {human_bytes(needed)} at {into}; {human_bytes(free)} are free",
            hint=f"free {human_bytes(needed - free)} (`ashore model gc` may help); nothing was fetched",
        )
