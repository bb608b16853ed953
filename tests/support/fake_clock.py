"""libfaketime for tests: the system's, or unpacked from Debian's packages into the cache of the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from debian_packages import unpacked

PACKAGES = ("faketime", "libfaketime")


def faketime_folder() -> Path | None:
    """Return the folder with the program `faketime`; None where this machine cannot have it."""
    if found := shutil.which("faketime"):
        return Path(found).parent
    folder = unpacked("faketime", PACKAGES)
    return folder / "usr" / "bin" if folder is not None else None
