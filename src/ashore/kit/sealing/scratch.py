"""Scratch space for named plaintext files: on a tmpfs, so that they never reach a disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import EnvironmentFault, MemoryFull
from ashore.kit.processes import free_memory_bytes
from ashore.kit.sealing.ownfolder import OwnFolder, sweep

PREFIX: Final = "ashore-scratch-"


@contextmanager
def memory_scratch(
    num_bytes: int, *, what: str, places: Sequence[Path] | None = None, mounts: Path = Path("/proc/self/mountinfo")
) -> Iterator[Path]:
    """Yield an empty folder (0700) on a tmpfs with room for so many bytes; deleted at the end of the block.

    What a killed process of this user left in the same place is deleted first.

    Args:
        num_bytes: Most bytes that will lie there at once.
        what: Names the work in messages.
        places: Where to look; default: `$XDG_RUNTIME_DIR` and `/dev/shm`.
        mounts: The table of mounts.

    Raises:
        EnvironmentFault: none of the places is on a tmpfs.
        MemoryFull: none has enough room; the message has both numbers.
    """
    looked = tuple(places) if places is not None else _usual_places()
    usable = [p for p in looked if p.is_dir() and os.access(p, os.W_OK | os.X_OK) and is_on_tmpfs(p, mounts)]
    if not usable:
        raise EnvironmentFault(
            f"{what} needs a directory in memory; none of {', '.join(map(str, looked))} is on a writable tmpfs",
            hint="mount one: mount -t tmpfs tmpfs /dev/shm",
        )
    for place in usable:
        sweep(place, PREFIX)
    best = max(usable, key=lambda p: shutil.disk_usage(p).free)
    free = min(shutil.disk_usage(best).free, free_memory_bytes())
    if free < num_bytes:
        raise MemoryFull(
            f"{what} needs {human_bytes(num_bytes)} in memory; {best} has {human_bytes(free)}",
            hint=f"enlarge it (mount -o remount,size=… {best}), or use a machine with more memory",
        )
    with closing(OwnFolder(best, PREFIX)) as folder:
        yield folder.path


def is_on_tmpfs(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a folder, after following links, is on a memory-only file system."""
    real = os.path.realpath(path)
    kind, longest = "", -1
    for line in mounts.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace("\\040", " ")
        if len(point) >= longest and (real == point or real.startswith(point.rstrip("/") + "/")):
            kind, longest = after.split()[0], len(point)
    return kind in ("tmpfs", "ramfs")


def _usual_places() -> tuple[Path, ...]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return (*((Path(runtime),) if runtime.startswith("/") else ()), Path("/dev/shm"))
