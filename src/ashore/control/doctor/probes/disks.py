"""The folders that a server writes to, the file systems below them, and how long a write takes."""

from __future__ import annotations

import errno
import itertools
import os
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ashore.control.doctor.look import Between
from ashore.control.doctor.probes import writes
from ashore.control.doctor.probes.machine import text_of
from ashore.control.doctor.readings import Place

PROBE: Final = ".doctor-write"


def mounts(root: Path) -> dict[str, tuple[str, str, bool]]:
    """Return kind, device and whether it is read-only, of each mount, by its path. A later mount hides an earlier "
    "one."""
    found = {}
    for line in text_of(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        own, rest = before.split(), after.split()
        if len(own) > 5 and len(rest) > 1:
            path = own[4].replace("\\040", " ")
            options = {*own[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
            found[path] = (rest[0], rest[1], "ro" in options)
    return found


def mount_of(path: Path, known: Mapping[str, tuple[str, str, bool]]) -> tuple[str, str, bool]:
    """Return the mount that a folder lies on."""
    for folder in (path, *path.parents):
        if str(folder) in known:
            return known[str(folder)]
    return "", "", False


def count_place(name: str, path: Path) -> Iterator[tuple[str, float]]:
    """Yield the free bytes of a place. Waits for as long as its disk does not answer."""
    with suppress(OSError):
        yield f"place.{name}.free", float(_free(os.statvfs(path)))


def _free(told: os.statvfs_result) -> int:
    return told.f_bavail * told.f_frsize


def read_places(root: Path, places: Mapping[str, Path], between: Between) -> tuple[Place, ...]:
    """Return the places that are there."""
    known = mounts(root)
    found = []
    for name, path in places.items():
        try:
            told = os.statvfs(path)
            device = path.stat().st_dev
        except OSError:
            continue
        kind, _, read_only = mount_of(path.resolve(), known)
        free = _free(told)
        lost_per_s = -_change(between, f"place.{name}.free")
        found.append(
            Place(
                name=name,
                path=str(path),
                device=f"{os.major(device)}:{os.minor(device)}",
                kind=kind,
                total_bytes=told.f_blocks * told.f_frsize,
                free_bytes=free,
                free_files_share=told.f_favail / told.f_files if told.f_files else 1.0,
                read_only=read_only,
                fills_in_s=free / lost_per_s if lost_per_s > 0 and between.span_s >= 600 else 0.0,
            )
        )
    return tuple(found)


def _change(between: Between, name: str) -> float:
    if between.before is None or name not in between.before.numbers or not between.span_s:
        return 0.0
    return (between.now(name) - between.before.numbers[name]) / between.span_s


class Writes:
    """Small writes to a home, made by a child: see `writes.py`."""

    def __init__(self, home: Path) -> None:
        """Begin them."""
        self._home = home
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", writes.__file__, str(home / PROBE)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def end(self, until_s: float, missing: dict[str, str]) -> tuple[float, str]:
        """Return the milliseconds until one of several writes was safe, and what the system said of one that failed.

        Of the times it is the median: one that waited for the work of another program says nothing of the disk. A write
        that has not ended counts with the time until now. Time without a processor is left out.

        Args:
            until_s: Of the monotonic clock: the child is not waited for any longer. It ends and tidies up by itself.
            missing: Is told what could not be measured.
        """
        told, is_over = self._said(until_s)
        threading.Thread(target=self._child.wait, daemon=True).start()
        codes = [int(code) for code, _, _ in told]
        moments_s = [float(moment) - float(queued) for _, moment, queued in told]
        if codes and (code := codes[-1]):
            if code in (errno.ENOENT, errno.EACCES, errno.EPERM):
                missing["disk.fsync_ms"] = missing["disk.write_error"] = f"{self._home}: {os.strerror(code)}"
                return 0.0, ""
            return 0.0, os.strerror(code)
        if not is_over and moments_s:
            moments_s.append(time.monotonic() - float(told[-1][2]))
        took_s = [after - before for before, after in itertools.pairwise(moments_s)]
        if not took_s:
            missing["disk.fsync_ms"] = missing["disk.write_error"] = "not read in time"
            return 0.0, ""
        return 1e3 * statistics.median_high(took_s), ""

    def _said(self, until_s: float) -> tuple[list[list[str]], bool]:
        """Return the lines of the child, each in its words, and whether it ended."""
        assert self._child.stdout is not None
        data, is_over = b"", False
        with self._child.stdout as pipe:
            ready = select.poll()  # select(2) knows no descriptor above 1,023
            ready.register(pipe, select.POLLIN)
            while not is_over and ready.poll(max(0.0, 1e3 * (until_s - time.monotonic()))):
                part = os.read(pipe.fileno(), 4096)
                data, is_over = data + part, not part
        return [line.split() for line in data.decode().splitlines()], is_over
