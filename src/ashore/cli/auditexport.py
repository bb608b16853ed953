"""Unpacks an audit export from a remote, possibly hostile server: files are taken out of the tar one by one.
`extractall` writes outside of its folder with some Pythons that ashore runs on (CVE-2025-4517), and reads as much as a
header claims.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, get_args

import msgspec

from ashore.cli.calls import Errand
from ashore.cli.target import MOST_FILE_BYTES
from ashore.control.audit.export import BLOCK_BYTES, MANIFEST, SIGNATURE, Format, Manifest
from ashore.core.errors import Conflict, RemoteRefused
from ashore.core.foreign import foreign_errors
from ashore.kit.folders import make_folder

FOLDER: Final = "audit-export"
SMALL_BYTES: Final = 1 << 20
RECORDS: Final = tuple(f"records.{form}" for form in get_args(Format))
LONGEST: Final[Mapping[str, int]] = {
    MANIFEST: SMALL_BYTES,
    SIGNATURE: SMALL_BYTES,
    **dict.fromkeys(RECORDS, MOST_FILE_BYTES),
}
"""The files that an export may have, and the most bytes of each."""
_SIZE: Final = re.compile(rb"(?:\A|\n)\d+ size=(\d{1,20})\n")
"""Where an extended header says how long the file behind it is, from 8 GiB on."""


def receive_export(errand: Errand, asked: msgspec.Struct, into: Path) -> Manifest:
    """Ask a server for an export, write it as a new folder, and return its manifest. The tar lies beside the folder
    meanwhile, under no name; what fails leaves nothing.

    Args:
        errand: Whom to ask.
        asked: Which records.
        into: The folder; those above it are made.

    Raises:
        Conflict: `into` is there already.
        RemoteRefused: what came is not an export.
        AshoreError: the server refused, in its own words, or does not answer.
    """
    if into.exists() or into.is_symlink():
        raise Conflict(f"{into} already exists", hint="name a new directory")
    make_folder(into.parent)
    with tempfile.TemporaryFile(dir=into.parent) as tar:
        errand.server.save(errand.call, asked, tar)
        tar.seek(0)
        with foreign_errors(f"{errand.server.url} did not send an export", RemoteRefused, hint="check the address"):
            return unpack_export(tar, into)


def unpack_export(tar: BinaryIO, into: Path) -> Manifest:
    """Write the three files of an export for their owner alone, and return its manifest.

    Raises:
        ValueError: it is not an export.
    """
    with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=into.parent) as scratch:
        folder = Path(scratch, FOLDER)
        folder.mkdir(mode=0o700)
        taken: set[str] = set()
        for name, num_bytes in _files(tar):
            if name in taken:
                raise ValueError(f"it has {name} twice")
            taken.add(name)
            with open(folder / name, "xb", opener=_for_the_owner) as file:
                for piece in _pieces(tar, num_bytes):
                    file.write(piece)
        if not {MANIFEST, SIGNATURE} < taken:
            raise ValueError(f"it lacks {MANIFEST}, {SIGNATURE} or the records")
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        if taken != {MANIFEST, SIGNATURE, manifest.file}:
            raise ValueError(f"its manifest speaks of {manifest.file!r} alone")
        folder.rename(into)
    return manifest


def _files(tar: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield name and length of each file. The caller must read one file fully before the next."""
    stated: int | None = None
    while any(block := _exactly(tar, tarfile.BLOCKSIZE)):
        try:
            head = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError as fault:
            raise ValueError(f"it is not a tar: {fault}") from fault
        folder, _, name = head.name.rpartition("/")
        num_bytes = head.size
        if head.type == tarfile.XHDTYPE:
            found = _SIZE.search(_exactly(tar, _at_most(SMALL_BYTES, num_bytes, head.name)))
            stated = int(found[1]) if found else None
        else:
            num_bytes, stated = num_bytes if stated is None else stated, None
            if head.type == tarfile.REGTYPE and folder == FOLDER and name in LONGEST:
                yield name, _at_most(LONGEST[name], num_bytes, name)
            elif head.type != tarfile.DIRTYPE or head.name != FOLDER or num_bytes:
                raise ValueError(f"it has {head.name!r} of the type {head.type!r}, which no export has")
        _exactly(tar, -num_bytes % tarfile.BLOCKSIZE)


def _at_most(limit: int, num_bytes: int, name: str) -> int:
    if not 0 <= num_bytes <= limit:
        raise ValueError(f"{name!r} has {num_bytes:,} bytes, and may have {limit:,}")
    return num_bytes


def _pieces(tar: BinaryIO, num_bytes: int) -> Iterator[bytes]:
    while num_bytes:
        piece = tar.read(min(num_bytes, BLOCK_BYTES))
        if not piece:
            raise ValueError("it ends too early")
        num_bytes -= len(piece)
        yield piece


def _exactly(tar: BinaryIO, num_bytes: int) -> bytes:
    return b"".join(_pieces(tar, num_bytes))


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
