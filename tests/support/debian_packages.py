"""Programs from Debian's packages for tests, unpacked into the cache of the tests: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from demo_home import cache_root


def unpacked(name: str, packages: Sequence[str]) -> Path | None:
    """Return the folder with the packages' files; None where this machine cannot have them."""
    folder = cache_root() / name
    if not folder.is_dir() and shutil.which("apt-get") and shutil.which("dpkg"):
        scratch = folder.with_name(f"{name}.{os.getpid()}")
        scratch.mkdir(parents=True)
        try:
            subprocess.run(["apt-get", "download", *packages], cwd=scratch, capture_output=True, check=True, timeout=60)
            for package in scratch.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(package), str(scratch)], check=True, timeout=60)
            scratch.rename(folder)
        except (OSError, subprocess.SubprocessError):
            shutil.rmtree(scratch, ignore_errors=True)
    return folder if folder.is_dir() else None
