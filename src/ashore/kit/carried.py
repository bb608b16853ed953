"""Whether this ashore is a tree: a directory with its own Python that was made elsewhere. pip never changes it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_RELEASE: Final = re.compile(r"ashore (\d[A-Za-z0-9.+]*) (linux-[a-z0-9_]+) (\d{1,12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a tree, or the stick that it came on, is: the file RELEASE, and the first line of a SHA256SUMS."""

    version: str
    system: str
    """`linux-x86_64`."""
    made_s: int
    """When its sources were committed, in seconds of Unix: of two releases the later one is newer."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what a line says, or None if it is not the line of a release."""
        if (match := _RELEASE.fullmatch(text.strip())) is None:
            return None
        return cls(version=match[1], system=match[2], made_s=int(match[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The tree that this process runs from."""

    root: Path
    release: Release

    @property
    def key(self) -> Path:
        """Public key that signs its successors. Absent where the tree was made without one."""
        return self.root / "release.pub"


def carried(prefix: Path | None = None) -> Tree | None:
    """Return the tree that this Python belongs to, or None in a virtual environment or a checkout.

    Args:
        prefix: Where Python lies; default: this one.
    """
    root = prefix or Path(sys.prefix)
    try:
        release = Release.parse((root / "RELEASE").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return Tree(root=root, release=release) if release else None
