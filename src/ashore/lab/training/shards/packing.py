"""Writes shards, and inspects existing ones: `ashore data pack` and `verify`."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

import msgspec

from ashore.core.errors import AshoreError, BrokenData, DiskFull
from ashore.kit.folders import make_folder
from ashore.kit.store import set_digest
from ashore.lab.training.shards.naming import Form
from ashore.lab.training.shards.places import SUMS, BucketPlace, FolderPlace, Shard, open_place, sha256_of
from ashore.lab.training.shards.samples import Sample, check_path, read_example, walk
from ashore.lab.training.shards.trainingset import MOST_TOLD

SHARD_BYTES: Final = 64 << 20
_NAME: Final = "shard-{:06d}.tar"

Told = Callable[[str, int, int], None]


class ShardLook(msgspec.Struct, kw_only=True):
    """Summary of a shard."""

    name: str
    form: Form
    num_bytes: int
    digest: str = ""
    """SHA-256, in hexadecimal digits."""
    samples: int = 0
    parts: dict[str, int] = {}
    """Of a tar: how many samples have a part of this name."""
    fault: str = ""
    """Why it cannot be read as a whole, or that it is not what `SHA256SUMS` says."""
    broken: list[str] = []
    """What is wrong with the first samples that cannot be learned from."""
    num_broken: int = 0


class SetLook(msgspec.Struct, kw_only=True):
    """Summary of a set."""

    place: str
    digest: str
    """As it stands in recipes."""
    samples: int
    num_bytes: int
    sums: bool
    """Whether there is a `SHA256SUMS`."""
    shards: list[ShardLook]

    @property
    def faults(self) -> list[str]:
        """The faults, the first of each shard."""
        found = [shard.fault for shard in self.shards if shard.fault]
        return found + [f"{shard.name}, {what}" for shard in self.shards for what in shard.broken]


class Packed(msgspec.Struct, kw_only=True):
    """Result of packing."""

    place: str
    shards: int
    samples: int
    num_bytes: int
    digest: str
    skipped: list[str]
    """The first samples that were left out, with what is wrong."""
    num_skipped: int


def pack(
    names: Sequence[str],
    out: str,
    cache: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    skip_broken: bool = False,
    told: Told = lambda stage, done, total: None,
) -> Packed:
    """Write data of any readable form as WebDataset shards, with `SHA256SUMS`.

    Equal data gives equal bytes. When it returns everything is there; `SHA256SUMS` comes last, so that a set without it
    is not whole. A sample of a tar keeps its parts and its key; lines, rows and texts become `NUMBER.json` and `.txt`.

    Args:
        names: Data, see `naming`.
        out: A folder, made where there is none, or `s3://BUCKET/PATH`.
        cache: Folder of the shard that is fetched.
        shard_bytes: About how large a shard becomes; a sample is never divided.
        skip_broken: Leave out samples that are broken instead of refusing the data.
        told: Called with shards read.

    Raises:
        InvalidRequest: there is no such data. BrokenData: it is not what it must be. Conflict: the place has shards.
    """
    if not out.startswith("s3://"):
        make_folder(Path(out))
    target = open_place(out)
    reading = _Reading(names, cache, skip_broken, told)
    with TemporaryDirectory(prefix="ashore-pack-", dir=None if out.startswith("s3://") else out) as folder:
        writing = _Writing(target, Path(folder), shard_bytes)
        try:
            for key, parts in reading.samples():
                writing.add(key, parts)
            return writing.finish(reading)
        except OSError as error:
            if isinstance(error, AshoreError):
                raise
            raise DiskFull(f"{out} cannot be written: {error}", hint="free some space and try again") from error


def write_sample(file: BinaryIO, key: str, parts: Mapping[str, bytes]) -> int:
    """Append a sample and return its bytes. Equal samples give equal bytes: no times, no owners, parts by name."""
    written = 0
    for part, data in sorted(parts.items()):
        info = tarfile.TarInfo(f"{key}.{part}")
        info.size, info.mode = len(data), 0o644
        padding = bytes(-len(data) % tarfile.BLOCKSIZE)
        written += sum(map(file.write, (info.tobuf(tarfile.PAX_FORMAT), data, padding)))
    return written


def write_end(file: BinaryIO) -> None:
    """Append what ends a tar file."""
    file.write(bytes(2 * tarfile.BLOCKSIZE))


class _Reading:
    """The samples of some sets, in their order."""

    def __init__(self, names: Sequence[str], cache: Path, skip_broken: bool, told: Told) -> None:
        self._sets = [
            (place, shard) for name in names for place in [open_place(name, cache)] for shard in place.shards()
        ]
        self._keys = all(shard.form == "tar" for _, shard in self._sets)
        self._skip_broken, self._told = skip_broken, told
        self.skipped: list[str] = []
        self.num_skipped = 0

    def samples(self) -> Iterator[tuple[str, Mapping[str, bytes]]]:
        """Yield keys and parts."""
        written = 0
        for number, (place, shard) in enumerate(self._sets):
            try:
                with place.open(shard) as file:
                    for sample in walk(file, shard):
                        if fault := "" if shard.form == "tar" else _fault(sample):
                            self._skip(f"{shard.name}, {sample.where}: {fault}")
                            continue
                        yield _checked_key(sample.key) if self._keys else f"{written:08d}", sample.parts
                        written += 1
            except BrokenData as error:
                self._skip(error.message)
            self._told("read", number + 1, len(self._sets))

    def _skip(self, what: str) -> None:
        if not self._skip_broken:
            raise BrokenData(what, hint="correct it, or leave broken ones out with --skip-broken")
        self.num_skipped += 1
        self.skipped += [what] if len(self.skipped) < MOST_TOLD else []


class _Writing:
    """Shards being written in sequence; each is published when it is full."""

    def __init__(self, target: FolderPlace | BucketPlace, folder: Path, shard_bytes: int) -> None:
        self._target, self._folder, self._shard_bytes = target, folder, shard_bytes
        self._file: BinaryIO | None = None
        self._used = self._samples = self._bytes = 0
        self._sums: list[tuple[str, str]] = []

    def add(self, key: str, parts: Mapping[str, bytes]) -> None:
        """Write a sample."""
        if self._file is None:
            self._file, self._used = (self._folder / "shard").open("wb"), 0
        self._used += write_sample(self._file, key, parts)
        self._samples += 1
        if self._used >= self._shard_bytes:
            self._close()

    def finish(self, reading: _Reading) -> Packed:
        """Publish the last shard and `SHA256SUMS`. Raises `BrokenData` if there was no sample."""
        self._close()
        if not self._sums:
            raise BrokenData("there is no sample to pack", hint="name files that have examples")
        sums = self._folder / "sums"
        sums.write_text("".join(f"{digest}  {name}\n" for name, digest in self._sums))
        self._target.put(SUMS, sums)
        return Packed(
            place=self._target.name,
            shards=len(self._sums),
            samples=self._samples,
            num_bytes=self._bytes,
            digest=set_digest(self._sums),
            skipped=reading.skipped,
            num_skipped=reading.num_skipped,
        )

    def _close(self) -> None:
        if self._file is None:
            return
        write_end(self._file)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        path, name = self._folder / "shard", _NAME.format(len(self._sums))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._bytes += path.stat().st_size
        self._target.put(name, path)
        path.unlink(missing_ok=True)
        self._sums.append((name, digest))


def look(name: str, cache: Path, *, told: Told = lambda stage, done, total: None) -> SetLook:
    """Read a whole set, and return its summary and faults.

    Raises:
        InvalidRequest: there is no such data. SourceUnreachable, Conflict.
    """
    place = open_place(name, cache)
    shards = place.shards()
    said = (line.split("  ", 1) for line in place.sums().decode(errors="replace").splitlines() if "  " in line)
    sums = {file: digest for digest, file in said}
    found = []
    for number, shard in enumerate(shards, start=1):
        with place.open(shard) as file:
            found.append(_look(file, shard, sums))
        told("read", number, len(shards))
    there = {shard.name for shard in shards}
    found += [
        ShardLook(name=lost, form="tar", num_bytes=0, fault=f"{lost} is in {SUMS}, but it is not there")
        for lost in sorted(sums.keys() - there)
    ]
    return SetLook(
        place=name,
        digest=set_digest((one.name, one.digest) for one in found),
        samples=sum(one.samples for one in found),
        num_bytes=sum(one.num_bytes for one in found),
        sums=bool(sums),
        shards=found,
    )


def _look(file: BinaryIO, shard: Shard, sums: dict[str, str]) -> ShardLook:
    found = ShardLook(name=shard.name, form=shard.form, num_bytes=shard.num_bytes, digest=sha256_of(file))
    parts: Counter[str] = Counter()
    if sums and found.digest != sums.get(shard.name):
        expected = f"expected {sums[shard.name]}" if shard.name in sums else "and is not in it"
        found.fault = f"{shard.name} is not what {SUMS} says: it has the SHA-256 {found.digest}, {expected}"
    try:
        for sample in walk(file, shard):
            found.samples += 1
            parts.update(sample.parts.keys() if shard.form == "tar" else ())
            if fault := _fault(sample):
                found.num_broken += 1
                found.broken += [f"{sample.where}: {fault}"] if len(found.broken) < MOST_TOLD else []
    except BrokenData as error:
        found.fault = found.fault or error.message
    found.parts = dict(sorted(parts.items()))
    return found


def _fault(sample: Sample) -> str:
    try:
        read_example(sample)
    except ValueError as error:
        return str(error)
    return ""


def _checked_key(key: str) -> str:
    """Return a key that may be written: none that leaves the folder, or that a reader would cut elsewhere."""
    try:
        if not key or key.endswith("/"):
            raise ValueError(f"{key!r} is not a key")
        check_path(key)
    except ValueError as error:
        raise BrokenData(str(error), hint="rename the members of the tar") from error
    return key
