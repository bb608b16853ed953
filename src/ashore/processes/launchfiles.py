"""What a supervisor tells a child that it starts, as a file."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


def write_launch_file(launch: msgspec.Struct, path: Path) -> None:
    """Write it atomically, readable by its owner alone."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(launch), indent=1))
    scratch.replace(path)
