"""What a supervisor tells a child that it starts, as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ashore.processes.room import room_needed


def write_launch_file(launch: msgspec.Struct | Mapping[str, object], path: Path) -> None:
    """Write it atomically, readable by its owner alone: who reads at that moment sees the old file or the new one.

    Raises:
        DiskFull: there is no room; an earlier file stands as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    try:
        with room_needed(path):
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(launch), indent=1))
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
