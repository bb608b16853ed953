"""Launch files: settings from a supervisor to a child."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ashore.core import UNDECODABLE, write_whole
from ashore.errors import InvalidSpec
from ashore.processes.room import room_needed

LaunchT = TypeVar("LaunchT", bound=msgspec.Struct)


def write_launch_file(launch: msgspec.Struct | Mapping[str, object], path: Path) -> None:
    """Write it atomically, readable only by its owner: a concurrent reader sees the old file or the new one.

    Raises:
        DiskFull: there is no room; an earlier file is unchanged.
    """
    with room_needed(path):
        write_whole(path, msgspec.json.format(msgspec.json.encode(launch), indent=1), durable=False)


def read_launch_file(path: Path, kind: type[LaunchT]) -> LaunchT:
    """Return the content of a launch file.

    Raises:
        InvalidSpec: it is missing or malformed.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, *UNDECODABLE) as fault:
        raise InvalidSpec(f"{path} cannot be read: {fault}", hint="`ashore up` writes it") from fault
