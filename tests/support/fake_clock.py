"""libfaketime for tests: the system's, or unpacked from Debian's packages into the cache of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from demo_home import cache_root

PACKAGES = ("faketime", "libfaketime")


def faketime_folder() -> Path | None:
    """Return the folder with the program `faketime`; None where this machine cannot have it."""
    found = shutil.which("faketime")
    if found:
        return Path(found).parent
    folder = cache_root() / "faketime"
    program = folder / "usr" / "bin" / "faketime"
    if not program.is_file() and shutil.which("apt-get") and shutil.which("dpkg"):
        scratch = folder.with_name(f"faketime.{os.getpid()}")
        scratch.mkdir(parents=True)
        try:
            subprocess.run(["apt-get", "download", *PACKAGES], cwd=scratch, capture_output=True, check=True, timeout=60)
            for package in scratch.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(package), str(scratch)], check=True, timeout=60)
            scratch.rename(folder)
        except (OSError, subprocess.SubprocessError):
            shutil.rmtree(scratch, ignore_errors=True)
    return program.parent if program.is_file() else None
