"""WebDataset shards: tar files whose members belong together by their name up to the first dot.

Read member by member and never unpacked. Entries that training data never needs are refused: names that leave the
folder, links, devices, pickles, sizes beyond the file. Source: POSIX.1-2024 `pax`, and the form that webdataset 1.0
writes and reads.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from ashore.training.shards.naming import is_pickle

BLOCK: Final = 512
MOST_MEMBER_BYTES: Final = 1 << 30
MOST_PARTS: Final = 64
MOST_SAMPLE_BYTES: Final = MOST_MEMBER_BYTES + (1 << 20)
"""Of all parts with their headers: a sample is read as a whole."""
_MOST_EXTENDED_BYTES: Final = 64 << 10
"""Of a header that carries a long name; a name of that length is an attack."""
_END: Final = bytes(BLOCK)
_LINKS: Final = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSample:
    """Members that belong together."""

    key: str
    """Their name, with its folder, up to the first dot."""
    offset: int
    """Where the first header starts."""
    num_bytes: int
    """From there to the end of the last member, padded."""
    parts: Mapping[str, tuple[int, int]]
    """By what stands behind the first dot, in small letters: where the bytes are in the file, and how many."""


def walk_tar(file: BinaryIO, *, end: int) -> Iterator[TarSample]:
    """Yield the samples of a shard in order, the bytes of their members unread.

    Args:
        file: Open for reading at any place.
        end: Length of the file.

    Raises:
        ValueError: the file is not a whole tar of plain files; says what, and at which byte.
    """
    key, offset, behind, parts = "", 0, 0, dict[str, tuple[int, int]]()
    for name, header_at, data_at, size in _members(file, end):
        stem, part = _split(name)
        if parts and stem != key:
            yield TarSample(key=key, offset=offset, num_bytes=behind - offset, parts=parts)
            parts = {}
        if not parts:
            key, offset = stem, header_at
        if part in parts:
            raise ValueError(f"byte {header_at}: {name!r} is there twice")
        if len(parts) >= MOST_PARTS:
            raise ValueError(f"byte {header_at}: {key!r} has more than {MOST_PARTS} parts")
        parts[part] = (data_at, size)
        behind = data_at + _padded(size)
        if behind - offset > MOST_SAMPLE_BYTES:
            raise ValueError(f"byte {header_at}: {key!r} has more than {MOST_SAMPLE_BYTES:,} bytes in all its parts")
    if parts:
        yield TarSample(key=key, offset=offset, num_bytes=behind - offset, parts=parts)


def write_sample(file: BinaryIO, key: str, parts: Mapping[str, bytes]) -> int:
    """Append a sample and return its bytes. Equal samples give equal bytes: no times, no owners, parts by name."""
    written = 0
    for part, data in sorted(parts.items()):
        info = tarfile.TarInfo(f"{key}.{part}")
        info.size, info.mode = len(data), 0o644
        padding = bytes(_padded(len(data)) - len(data))
        written += sum(map(file.write, (info.tobuf(tarfile.PAX_FORMAT), data, padding)))
    return written


def write_end(file: BinaryIO) -> None:
    """Append what ends a tar file."""
    file.write(_END * 2)


def check_key(key: str) -> str:
    """Return a key of a sample that may be written.

    Raises:
        ValueError: it would leave the folder, or a reader would cut it elsewhere.
    """
    if "." in key.rpartition("/")[2] or key.endswith("/"):
        raise ValueError(f"{key!r} is not a key: a dot ends it")
    _check_path(key)
    return key


def _members(file: BinaryIO, end: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, place of the first header, place of the bytes and their number, of each plain file."""
    at, started, longer = 0, 0, dict[str, str]()
    while True:
        file.seek(at)
        block = file.read(BLOCK)
        if block == _END or not block:
            if not block and at == 0:
                raise ValueError("the file is empty")
            return
        where = f"byte {at}"
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            what = "it ends in the middle of a header" if len(block) < BLOCK else f"not a header of tar ({error})"
            raise ValueError(f"{where}: {what}") from error
        if not longer:
            started = at
        data_at = at + BLOCK
        size = int(longer["size"]) if longer.get("size", "").isdigit() else info.size
        if not 0 <= size <= MOST_MEMBER_BYTES:
            raise ValueError(
                f"{where}: {info.name!r} says it has {size:,} bytes; at most {MOST_MEMBER_BYTES:,} are read"
            )
        if data_at + size > end:
            raise ValueError(f"{where}: {info.name!r} has {size:,} bytes, but the file ends before them")
        at = data_at + _padded(size)
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            if size > _MOST_EXTENDED_BYTES:
                raise ValueError(f"{where}: a header of {size:,} bytes")
            said = file.read(size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                longer["path"] = said.rstrip(b"\0").decode()
            elif info.type == tarfile.XHDTYPE:
                longer |= _pax(said, where)
            continue
        name, longer = longer.get("path", info.name), {}
        if info.type == tarfile.DIRTYPE:
            continue
        if info.type not in _FILES:
            kind = "a link" if info.type in _LINKS else f"not a plain file (type {info.type!r})"
            raise ValueError(f"{where}: {name!r} is {kind}")
        _check_path(name)
        if is_pickle(name):
            raise ValueError(f"{where}: {name!r} is a pickle, which would run code")
        yield name, started, data_at, size


def _pax(said: bytes, where: str) -> dict[str, str]:
    """Return the records of an extended header: `LENGTH KEY=VALUE` and a newline each."""
    found = {}
    while said.strip(b"\0"):
        length, _, _ = said.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(said):
            raise ValueError(f"{where}: an extended header is malformed")
        record, said = said[len(length) + 1 : int(length)], said[int(length) :]
        word, _, value = record.rstrip(b"\n").partition(b"=")
        if word in (b"path", b"size"):
            found[word.decode()] = value.decode()
        if word.startswith(b"GNU.sparse") or word == b"linkpath":
            raise ValueError(f"{where}: {word.decode(errors='replace')} in an extended header")
    return found


def _check_path(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name or not name:
        raise ValueError(f"{name!r} is not a name below the folder of the shard")


def _split(name: str) -> tuple[str, str]:
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, part = base.partition(".")
    return folder + slash + stem, part.lower()


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def parts_of(file: BinaryIO, sample: TarSample, wanted: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the bytes of the parts of a sample; of those `wanted`, where any are named."""
    found = {}
    for part in wanted or sample.parts:
        offset, size = sample.parts[part]
        file.seek(offset)
        found[part] = file.read(size)
    return found
