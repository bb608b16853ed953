"""Tars that attack whoever unpacks them: each must be refused before anything of it is."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    member.size = 4 if kind == tarfile.REGTYPE else 0
    if kind == tarfile.CHRTYPE:
        member.devmajor, member.devminor = 1, 3
    return member


def hostile_members(outside: Path) -> dict[str, list[tarfile.TarInfo]]:
    """Return the members of each tar. `outside` is where an attacker wants to write."""
    return {
        "dotdot": [_entry("ashore/../../outside")],
        "absolute": [_entry(f"{outside}/outside")],
        "symlink-out": [_entry("ashore/lib", tarfile.SYMTYPE, str(outside)), _entry("ashore/lib/outside")],
        "symlink-up": [_entry("ashore/lib", tarfile.SYMTYPE, "../.."), _entry("ashore/lib/outside")],
        "hardlink-out": [_entry("ashore/key", tarfile.LNKTYPE, f"{outside}/secret"), _entry("ashore/key")],
        "device": [_entry("ashore/null", tarfile.CHRTYPE)],
        "setuid": [_entry("ashore/sh", mode=0o4755)],
    }


NAMES = tuple(hostile_members(Path("/outside")))


def write_hostile(name: str, outside: Path, tar: Path) -> None:
    """Write one of them, packed by gzip."""
    with tarfile.open(tar, "w:gz") as made:
        for member in hostile_members(outside)[name]:
            made.addfile(member, io.BytesIO(b"evil"))
