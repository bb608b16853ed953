"""A home as commands see it: its settings, and exclusive access to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashore.kit.settings import Home, Settings, read_settings


def settings_of(config: Path | None) -> Settings:
    """Return the settings, including those of an ashore.toml if one is given."""
    if config is None:
        return read_settings()
    from ashore.machine.config import read_spec

    return read_settings(table=read_spec(config).settings)


@contextmanager
def home_alone(home: Home, what: str) -> Iterator[None]:
    """Lock the home, so that no server reads what is changed or deleted. Raises `HomeBusy` if one runs."""
    from ashore.kit.processes.lock import Holder, HomeLock

    home.create()
    lock = HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address=what))
    try:
        yield
    finally:
        lock.release()
