"""A copy of the package in which a test may change a file or add a room: links to ours, but for what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ashore.kit.listed import PACKAGE

SUPPORT = Path(__file__).parent


class ScratchPackage:
    """`ashore` below a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "ashore"
        self._open(Path())

    def add(self, folder: Path, name: str) -> None:
        """Add a room."""
        self._own(Path(name))
        shutil.copytree(folder, self.package / name, ignore=shutil.ignore_patterns("__pycache__"))

    def put_before(self, file: str, mark: str, text: str) -> None:
        """Write `text` into a file, before the first line that begins with `mark`."""
        path = Path(file)
        self._own(path)
        lines = (PACKAGE / path).read_text().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if line.startswith(mark))
        (self.package / path).unlink()
        (self.package / path).write_text("".join((*lines[:at], text, *lines[at:])))

    def changed(self) -> list[str]:
        """Return the files of the package that are not ours as they are."""
        files = (Path(at) / name for at, _, names in os.walk(self.package) for name in names)
        return sorted(str(one.relative_to(self.package)) for one in files if not one.is_symlink())

    def run(self, script: str) -> Any:
        """Run a script of `tests/support` with this package and a folder to work in; return the JSON that it prints."""
        home = self.root / "home"
        done = subprocess.run(
            [sys.executable, str(SUPPORT / script), str(self.root / "run")],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, (self.root, SUPPORT, SUPPORT.parents[1]))),
                "PYTHONDONTWRITEBYTECODE": "1",
                "ASHORE_HOME": str(home),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def _own(self, path: Path) -> None:
        """Have folders of our own above a path, where they are links."""
        for folder in reversed(path.parents):
            if (self.package / folder).is_symlink():
                (self.package / folder).unlink()
                self._open(folder)

    def _open(self, folder: Path) -> None:
        """Make a folder of links to what ours has."""
        (self.package / folder).mkdir(parents=True)
        for one in (PACKAGE / folder).iterdir():
            if one.name != "__pycache__":
                (self.package / folder / one.name).symlink_to(one)
