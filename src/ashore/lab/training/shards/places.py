"""Locations of shards: a folder, or a bucket of any S3 server."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from ashore.core.errors import AshoreError, Conflict, InvalidRequest, SourceUnreachable
from ashore.kit.bucket import Bucket
from ashore.kit.folders import make_folder, open_given
from ashore.kit.store import DATA_SUFFIXES
from ashore.lab.training.shards.naming import FORMS, MOST_SHARDS, Form, check_name, form_of, written_out

SUMS: Final = "SHA256SUMS"
"""Beside shards that `ashore data pack` wrote: a line for each, as `sha256sum` writes and checks them."""
MOST_LISTED: Final = 10 * MOST_SHARDS
"""Objects that a server may list, shards or not: one that lists without end would be listened to for ever."""
PATIENCE_S: Final = 600.0
"""How long a server may be away, without one byte, before a run ends."""
_LONGEST_PAUSE_S: Final = 10.0
_CHUNK_BYTES: Final = 4 << 20
_ASKED_AT_ONCE: Final = 16

Say = Callable[[str], None]


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a set."""

    name: str
    """Without the place; unique in its set."""
    form: Form
    num_bytes: int
    stamp: str = ""
    """ETag of an object."""


def open_place(name: str, cache: Path | None = None, *, say: Say = lambda line: None) -> FolderPlace | BucketPlace:
    """Return the place of a name. Nothing is read yet.

    Args:
        name: See `naming`.
        cache: Folder in which a fetched shard lies while it is read; None: the system's temporary folder.
        say: Called when a server is unreachable, and when it is back.

    Raises:
        InvalidRequest: the name is not one of a place; see `check_name`.
    """
    check_name(name)
    return BucketPlace(name, cache, say) if name.startswith("s3://") else FolderPlace(name)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of an open file in hexadecimal digits, and go back to its beginning."""
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return found


class FolderPlace:
    """A file, files with `{000..031}` in their names, or the data files of a folder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._given = tuple(map(Path, written_out(name)))

    @property
    def _is_folder(self) -> bool:
        return len(self._given) == 1 and self._given[0].is_dir()

    @property
    def _folder(self) -> Path:
        return self._given[0] if self._is_folder or not form_of(self.name) else self._given[0].parent

    def shards(self) -> tuple[Shard, ...]:
        """Return the shards in the order of their names.

        Raises:
            InvalidRequest: there is none, or one cannot be read.
        """
        if not self._is_folder:
            return tuple(map(_local_shard, self._given))
        files = sorted(path for path in self._given[0].iterdir() if path.is_file() and path.name[0] != ".")
        return _some([_local_shard(path) for path in files if path.name.endswith(DATA_SUFFIXES)], self.name)

    @contextmanager
    def open(self, shard: Shard) -> Iterator[BinaryIO]:
        """Yield a shard open for reading."""
        path = self._given[0] / shard.name
        if not self._is_folder:
            path = next(path for path in self._given if path.name == shard.name)
        with open_given(path) as file:
            yield file

    def sums(self) -> bytes:
        """Return the content of `SHA256SUMS`; empty if there is none."""
        path = self._folder / SUMS
        if not path.is_file():
            return b""
        with open_given(path) as file:
            return file.read()

    def put(self, name: str, source: Path) -> None:
        """Write a file under an unused name, atomically.

        Raises:
            Conflict: there is something of this name.
        """
        target = self._folder / name
        try:
            os.link(source, target)  # unlike a rename, it never takes the place of a file
        except FileExistsError as error:
            raise _there(str(target)) from error
        source.unlink()


class BucketPlace(Bucket):
    """`s3://BUCKET/FOLDER/`, or the names of shards in a bucket."""

    timeout_s = 60
    """Of one request, its body included; what came by then stays, and the next request goes on from there."""
    patience_s = PATIENCE_S

    def __init__(self, name: str, cache: Path | None, say: Say) -> None:
        bucket, _, path = name.removeprefix("s3://").partition("/")
        self._keys = written_out(path) if form_of(path) else ()
        super().__init__(f"s3://{bucket}/{self._keys[0] if self._keys else path}")
        self.name, self._cache, self._say = name, cache, say
        self._folder = path.rpartition("/")[0] if self._keys else self.prefix

    def shards(self) -> tuple[Shard, ...]:
        """Return the shards in the order of their names.

        Raises:
            InvalidRequest: there is none, or too many. SourceUnreachable, RemoteRefused.
        """
        if self._keys:
            with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
                return tuple(pool.map(self._head, self._keys))
        import obstore

        found, seen = [], 0
        with self.translated(self.prefix):
            for page in obstore.list(self.store, prefix=self.prefix + "/"):
                found += [one for one in page if str(one["path"]).endswith(DATA_SUFFIXES)]
                seen += len(page)
                most = MOST_SHARDS if len(found) > MOST_SHARDS else MOST_LISTED
                if max(len(found), seen) > most:
                    raise InvalidRequest(
                        f"{self.name} has more than {most:,} objects",
                        hint="name a folder with fewer, or the shards themselves: {000..031}",
                    )
        return _some(tuple(sorted(map(self._shard, found), key=lambda shard: shard.name)), self.name)

    def _head(self, key: str) -> Shard:
        import obstore

        with self.translated(key):
            return self._shard(obstore.head(self.store, key))

    def _shard(self, meta: object) -> Shard:
        path, size, tag = (meta[word] for word in ("path", "size", "e_tag"))  # type: ignore[index]
        name = str(path).removeprefix(self._folder + "/" if self._folder else "")
        return Shard(name=name, form=form_of(str(path)) or "jsonl", num_bytes=int(size), stamp=str(tag))

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    @contextmanager
    def open(self, shard: Shard) -> Iterator[BinaryIO]:
        """Yield a shard as a file without a name, fetched whole; a server that is away is waited for.

        Raises:
            SourceUnreachable: it was away for too long. Conflict: the object changed since it was listed.
        """
        if self._cache is not None:
            make_folder(self._cache, mode=0o700)
        last_s, pause_s, waiting = time.monotonic(), 0.25, False
        with tempfile.TemporaryFile(dir=self._cache) as file:
            while (have := file.tell()) < shard.num_bytes:
                try:
                    self._fetch(shard, file, have)
                except SourceUnreachable as error:
                    if file.tell() > have:
                        last_s, pause_s = time.monotonic(), 0.25
                    elif time.monotonic() - last_s > self.patience_s:
                        raise
                    elif not waiting:
                        self._say(f"waiting for {shard.name}: {error.message}")
                        waiting = True
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if waiting:
                self._say(f"{shard.name} is here")
            file.seek(0)
            yield file

    def _fetch(self, shard: Shard, file: BinaryIO, have: int) -> None:
        import obstore
        from obstore import exceptions

        key = self._key(shard.name)
        with self.translated(key):
            options = {"if_match": shard.stamp, **({"range": {"offset": have}} if have else {})}
            try:
                answer = obstore.get(self.store, key, options=options)
                if int(answer.meta["size"]) != shard.num_bytes:
                    raise _changed(f"s3://{self.bucket}/{key}")
                for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)
            except exceptions.PreconditionError as error:
                raise _changed(f"s3://{self.bucket}/{key}") from error
        if file.tell() == have:
            raise SourceUnreachable(f"{shard.name} ended after {have:,} of {shard.num_bytes:,} bytes")

    def sums(self) -> bytes:
        """Return the content of `SHA256SUMS`; empty if there is none."""
        import obstore

        try:
            with self.translated(self._key(SUMS)):
                return bytes(obstore.get(self.store, self._key(SUMS)).bytes())
        except InvalidRequest:
            return b""

    def put(self, name: str, source: Path) -> None:
        """Write a file under an unused name, atomically.

        Raises:
            Conflict: there is something of this name.
        """
        import obstore
        from obstore import exceptions

        key = self._key(name)
        with self.translated(key), source.open("rb") as file:
            try:
                obstore.head(self.store, key)
            except (FileNotFoundError, exceptions.NotFoundError):
                obstore.put(self.store, key, file)
                return
        raise _there(f"s3://{self.bucket}/{key}")

    def missing(self, key: str) -> AshoreError:
        """See `Bucket`."""
        return InvalidRequest(f"s3://{self.bucket}/{key} does not exist", hint="check the bucket and the path")


def _local_shard(path: Path) -> Shard:
    why = "it is a directory" if path.is_dir() else ""
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        why = str(error.strerror)
    if why:
        raise InvalidRequest(f"the data file {path} cannot be read: {why}", hint="check its path")
    return Shard(name=path.name, form=form_of(path.name) or "jsonl", num_bytes=num_bytes)


def _some(found: Sequence[Shard], name: str) -> tuple[Shard, ...]:
    if not found:
        raise InvalidRequest(f"{name} has no data files", hint=f"data files end in {FORMS}")
    return tuple(found)


def _changed(what: str) -> AshoreError:
    return Conflict(f"{what} changed while it was being used", hint="run the command again once nothing writes to it")


def _there(what: str) -> AshoreError:
    return Conflict(f"{what} already exists", hint="name another place, or delete what is there")
