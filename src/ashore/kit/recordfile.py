"""Records of ashore's own in files of JSON: each is replaced whole, and read as one type."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ashore.core.errors import CorruptBlob
from ashore.kit.decode import UNDECODABLE
from ashore.kit.wholefile import write_whole

T = TypeVar("T")


def read_record(path: Path, kind: type[T], *, if_damaged: str = "") -> T | None:
    """Return the record in a file; None where there is none.

    Args:
        path: The file.
        kind: What it holds.
        if_damaged: What to do about a file that cannot be read as one. Empty: it counts as none.

    Raises:
        CorruptBlob: it cannot be read as one, and `if_damaged` says what to do.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *UNDECODABLE) as fault:
        if not if_damaged:
            return None
        raise CorruptBlob(f"{path} is damaged: {fault}", hint=if_damaged) from fault


def write_record(path: Path, record: object, *, durable: bool = True) -> None:
    """Replace the record in a file, whose folder exists. Raises `OSError` as `write_whole`."""
    write_whole(path, msgspec.json.encode(record), durable=durable)
