"""How far each feed has sent the audit log: a file for each below `feeds/` of the audit folder, beside the chains.

They are restored with the chains, so a feed goes on where the log does. A lost file costs duplicates at the receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record, write_record

FOLDER: Final = "feeds"


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where a chain was sent."""

    seq: int = 0
    """Last record that the feed has passed."""
    sent: int = 0
    """Last one that went out; 0: unknown. Others are left out by `only`."""
    segment: int = 0
    offset: int = 0
    """Of the next line in that segment."""


class FeedStanding(msgspec.Struct, frozen=True, kw_only=True):
    """State of a feed."""

    name: str
    to: str
    """Its receiver, without credentials."""
    reached: Mapping[str, Reached] = {}
    """By chain."""
    good_us: int = 0
    """When the receiver last confirmed something, or everything was confirmed; 0: never."""
    silent_us: int = 0
    """Since when the receiver takes nothing; 0: it takes records."""
    failures: int = 0
    """Attempts in a row that failed."""
    error: str = ""
    sent: int = 0
    """Records that were confirmed since the feed began."""
    resent: int = 0
    """Those among them that went out again after a failure or a rewind."""
    skipped: int = 0
    """Records that no longer lay on this machine, or were damaged."""


def read_feeds(root: Path) -> tuple[FeedStanding, ...]:
    """Return the state of every feed, by name; a damaged file counts as missing."""
    found = (read_record(path, FeedStanding) for path in sorted((root / FOLDER).glob("*.json")))
    return tuple(one for one in found if one is not None)


def keep_feed(root: Path, standing: FeedStanding) -> None:
    """Write the state of a feed.

    Raises:
        OSError: the disk is full or failing.
    """
    make_folder(root / FOLDER, mode=0o700)
    write_record(root / FOLDER / f"{standing.name}.json", standing)


def forget_feed(root: Path, name: str) -> None:
    """Remove the state of a feed that is configured no more."""
    (root / FOLDER / f"{name}.json").unlink(missing_ok=True)


def first_needed(root: Path, chain: str) -> int | None:
    """Return the first segment that some feed has not sent whole; None: no feed waits for any."""
    waiting = [one.reached.get(chain, Reached()).segment for one in read_feeds(root)]
    return min(waiting, default=None)
