"""Engines whose nodes are listed in a file, as the supervisor writes it for the hosts of a home."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from ashore.data.engines import FLEET_FILE, FLEET_IDENTITY, FleetServer
from ashore.kit.processes.launchfiles import write_launch

_numbers = itertools.count()


def nodes_at(*urls: str, entries: tuple[str, ...] = ()) -> dict[str, str]:
    """List nodes at these addresses, and return the option of an engine that goes by them.

    Args:
        urls: Their addresses.
        entries: The entry of `[egress] allow` for each; empty: no name is held to an address.
    """
    alias = f"model-{next(_numbers)}"
    folder = _folder() / alias
    folder.mkdir()
    listed = [FleetServer(url=url, entry=entry) for url, entry in zip(urls, entries or [""] * len(urls), strict=True)]
    write_launch({alias: listed}, folder / "fleet.json")
    os.environ |= {FLEET_FILE: str(folder / "fleet.json"), FLEET_IDENTITY: str(folder / "none")}
    return {"fleet": alias}


@cache
def _folder() -> Path:
    """Return the folder of all lists of this process, which is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
