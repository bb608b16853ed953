"""Fingerprints of blobs at write time, so that a load can cheaply detect changes.

A full hash of 14 GB takes seconds; opening a model must not. At ingest we record size, modification time, inode and a
BLAKE3 over sampled blocks. A write to the file moves the time; a replacement moves the inode; a restored copy moves
both and is then hashed in full once. Bit rot in place changes neither: the samples probably find a zeroed page or torn
region, and only `verify` finds every flipped bit.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ashore.core.ids import Digest
from ashore.kit.store.progress import Progress, silent

SAMPLE_BYTES = 4096
NUM_SAMPLES = 64
"""First and last block and 62 between at equal distances: 256 KiB read for any size."""
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Facts about one file at one moment."""

    num_bytes: int
    mtime_ns: int
    inode: int
    sampled_blake3: str


def sampled_blake3(path: Path) -> str:
    """Return the BLAKE3 (hex) over the length and up to 64 sampled blocks of the file."""
    from blake3 import blake3

    hasher = blake3()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        hasher.update(str(size).encode())
        if size <= SAMPLE_BYTES * NUM_SAMPLES:
            hasher.update(file.read())
            return hasher.hexdigest()
        last = size - SAMPLE_BYTES
        for index in range(NUM_SAMPLES):
            file.seek(last * index // (NUM_SAMPLES - 1))
            hasher.update(file.read(SAMPLE_BYTES))
    return hasher.hexdigest()


def take_fingerprint(path: Path) -> Fingerprint:
    """Return the current facts of the file."""
    stat = path.stat()
    return Fingerprint(
        num_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, inode=stat.st_ino, sampled_blake3=sampled_blake3(path)
    )


def sha256_file(path: Path, *, stage: str = "", progress: Progress = silent) -> Digest:
    """Return `sha256:…` of the whole file."""
    hasher = hashlib.sha256()
    done = 0
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while read := file.readinto(buffer):
            hasher.update(buffer[:read])
            done += read
            if stage:
                progress(stage, done, total)
    return Digest(f"sha256:{hasher.hexdigest()}")
