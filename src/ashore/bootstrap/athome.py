"""A home as commands find it: its settings, and nobody else at work in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashore.settings import Home, Settings, read_settings


def settings_of(config: Path | None) -> Settings:
    """Return the settings, with those of an ashore.toml where one is given."""
    if config is None:
        return read_settings()
    from ashore.config import read_spec

    return read_settings(table=read_spec(config).settings)


@contextmanager
def home_alone(home: Home, what: str) -> Iterator[None]:
    """Hold the home, so that no server reads what is changed or deleted. Raises `HomeBusy` where one runs."""
    from ashore.processes import Holder, HomeLock

    home.create()
    lock = HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address=what))
    try:
        yield
    finally:
        lock.release()
