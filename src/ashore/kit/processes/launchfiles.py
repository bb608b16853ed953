"""Launch files: settings from a supervisor to a child."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ashore.core.errors import InvalidSpec
from ashore.kit.decode import UNDECODABLE
from ashore.kit.processes.room import room_needed
from ashore.kit.wholefile import write_whole

T = TypeVar("T")


def write_launch(launch: msgspec.Struct | Mapping[str, object], path: Path) -> None:
    """Write it atomically, readable only by its owner: a concurrent reader sees the old file or the new one.

    Raises:
        DiskFull: there is no room; an earlier file is unchanged.
    """
    with room_needed(path):
        write_whole(path, msgspec.json.format(msgspec.json.encode(launch), indent=1), durable=False)


def read_launch(path: Path, kind: type[T]) -> T:
    """Return what a supervisor wrote for a child.

    Raises:
        InvalidSpec: it is missing, or is not such a file; the message names the field.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as fault:
        raise InvalidSpec(f"launch file {path}: {fault.strerror}", hint="`ashore up` writes it") from fault
    except UNDECODABLE as fault:
        raise InvalidSpec(f"launch file {path}: {fault}", hint="stop `ashore up` and start it again") from fault
