"""Launch files: settings from a supervisor to a child."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ashore.kit.processes.room import room_needed
from ashore.kit.wholefile import write_whole


def write_launch_file(launch: msgspec.Struct | Mapping[str, object], path: Path) -> None:
    """Write it atomically, readable only by its owner: a concurrent reader sees the old file or the new one.

    Raises:
        DiskFull: there is no room; an earlier file is unchanged.
    """
    with room_needed(path):
        write_whole(path, msgspec.json.format(msgspec.json.encode(launch), indent=1), durable=False)
