"""Looks that are kept in the home, so that `--since 1h` compares with what was counted then."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.doctor.journal import FOLDER
from ashore.control.doctor.look import Look
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.wholefile import write_whole

MOST_LOOKS: Final = 400
APART_S: Final = 30.0
"""Looks closer together than this are not kept."""


class History:
    """`doctor/looks/` of a home: the last looks, some minutes or hours of them. Each is a few kilobytes."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER / "looks"

    def keep(self, look: Look) -> bool:
        """Keep a look, and forget the oldest; return whether it was kept. One that comes soon after another is not."""
        names = self._names()
        if names and look.at_s - float(names[-1]) < APART_S:
            return False
        make_folder(self._folder, mode=0o700)
        path = self._folder / f"{look.at_s:014.3f}"
        write_whole(path, zlib.compress(msgspec.json.encode(look), 1), durable=False)
        for name in names[: max(0, len(names) + 1 - MOST_LOOKS)]:
            (self._folder / name).unlink(missing_ok=True)
        return True

    def at(self, moment_s: float) -> Look | None:
        """Return the kept look that is nearest to a moment; None where none is kept."""
        names = self._names()
        for name in sorted(names, key=lambda name: abs(float(name) - moment_s)):
            try:
                return msgspec.json.decode(zlib.decompress((self._folder / name).read_bytes()), type=Look)
            except (OSError, zlib.error, *UNDECODABLE):
                continue
        return None

    def _names(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if path.name.replace(".", "", 1).isdigit())
