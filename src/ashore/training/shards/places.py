"""Locations of shards: a folder, or a bucket of any S3 server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import msgspec

from ashore.core import S3_HINT, Bucket, open_given
from ashore.errors import AshoreError, Conflict, InvalidRequest, RemoteRefused, SourceUnreachable
from ashore.store import DATA_SUFFIXES
from ashore.training.shards.naming import FORMS, MOST_SHARDS, Form, check_name, form_of, written_out

SUMS: Final = "SHA256SUMS"
"""Beside shards that `ashore data pack` wrote: a line for each, as `sha256sum` writes and checks them."""
MOST_LISTED: Final = 10 * MOST_SHARDS
"""Objects that a server may list, shards or not: one that lists without end would be listened to for ever."""
_CHUNK_BYTES: Final = 4 << 20
_ASKED_AT_ONCE: Final = 16


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a set."""

    name: str
    """Without the place; unique in its set."""
    form: Form
    num_bytes: int
    stamp: str
    """Changes when the file changes: ETag of an object; time of change and inode of a file."""


class ShardPlace(Protocol):
    """Location of a set's shards. Safe to use from any thread and process."""

    @property
    def name(self) -> str:
        """As the user gave it."""
        ...

    def shards(self) -> tuple[Shard, ...]:
        """Return the shards in the order of their names.

        Raises:
            InvalidRequest: there is none, or a file is of no form that is read. SourceUnreachable, RemoteRefused.
        """
        ...

    def path(self, shard: Shard) -> Path | None:
        """Return the local file of a shard; None if it must be fetched.

        Raises:
            Conflict: it changed since it was listed.
        """
        ...

    def fetch(self, shard: Shard, target: Path) -> None:
        """Fetch the missing part of a shard to `target`, from its current length on. Data received before an error
        stays.

        Raises:
            SourceUnreachable: the server is away, now. Conflict: the shard changed since it was listed.
        """
        ...

    def sums(self) -> bytes:
        """Return the content of `SHA256SUMS`; empty if there is none."""
        ...

    def put(self, name: str, source: Path) -> None:
        """Write a file under an unused name; atomically.

        Raises:
            Conflict: there is something of this name.
        """
        ...


def open_place(name: str) -> ShardPlace:
    """Return the place of a name. Nothing is read yet.

    Raises:
        InvalidRequest: the name is not one of a place; see `check_name`.
    """
    check_name(name)
    return BucketPlace(name) if name.startswith("s3://") else FolderPlace(name)


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
        """See `ShardPlace`."""
        if not self._is_folder:
            return tuple(self._shard(path, form_of(path.name) or "jsonl") for path in self._given)
        files = sorted(path for path in self._given[0].iterdir() if path.is_file() and path.name[0] != ".")
        data = [path for path in files if path.name.endswith(DATA_SUFFIXES)]
        return _some([self._shard(path, form_of(path.name) or "jsonl") for path in data], self.name)

    def _shard(self, path: Path, form: Form) -> Shard:
        try:
            state = path.stat()
        except OSError as error:
            raise InvalidRequest(
                f"the data file {path} cannot be read: {error.strerror}", hint="check its path"
            ) from error
        if path.is_dir():
            raise InvalidRequest(f"the data file {path} cannot be read: it is a directory", hint="check its path")
        return Shard(name=path.name, form=form, num_bytes=state.st_size, stamp=_stamp(state))

    def path(self, shard: Shard) -> Path:
        """See `ShardPlace`."""
        found = self._given[0] / shard.name if self._is_folder else self._of_name(shard.name)
        try:
            state = found.stat()
        except OSError as error:
            raise InvalidRequest(f"{found} cannot be read: {error.strerror}", hint="check its path") from error
        if (state.st_size, _stamp(state)) != (shard.num_bytes, shard.stamp):
            raise _changed(str(found))
        return found

    def _of_name(self, name: str) -> Path:
        return next(path for path in self._given if path.name == name)

    def fetch(self, shard: Shard, target: Path) -> None:
        """See `ShardPlace`."""
        raise NotImplementedError(f"{shard.name} lies on this machine")

    def sums(self) -> bytes:
        """See `ShardPlace`."""
        path = self._folder / SUMS
        if not path.is_file():
            return b""
        with open_given(path) as file:
            return file.read()

    def put(self, name: str, source: Path) -> None:
        """See `ShardPlace`."""
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

    def __init__(self, name: str) -> None:
        bucket, _, path = name.removeprefix("s3://").partition("/")
        self._keys = written_out(path) if form_of(path) else ()
        super().__init__(f"s3://{bucket}/{self._keys[0] if self._keys else path}")
        self.name = name
        self._folder = path.rpartition("/")[0] if self._keys else self.prefix

    def shards(self) -> tuple[Shard, ...]:
        """See `ShardPlace`."""
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

    def path(self, shard: Shard) -> None:
        """See `ShardPlace`."""

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def fetch(self, shard: Shard, target: Path) -> None:
        """See `ShardPlace`."""
        import obstore
        from obstore import exceptions

        key = self._key(shard.name)
        with target.open("ab") as file, self.translated(key):
            have = file.tell()
            if have >= shard.num_bytes:
                return
            options = {"if_match": shard.stamp, **({"range": {"offset": have}} if have else {})}
            try:
                answer = obstore.get(self.store, key, options=options)
                if int(answer.meta["size"]) != shard.num_bytes:
                    raise _changed(f"s3://{self.bucket}/{key}")
                for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)
            except exceptions.PreconditionError as error:
                raise _changed(f"s3://{self.bucket}/{key}") from error

    def sums(self) -> bytes:
        """See `ShardPlace`."""
        import obstore

        try:
            with self.translated(self._key(SUMS)):
                return bytes(obstore.get(self.store, self._key(SUMS)).bytes())
        except InvalidRequest:
            return b""

    def put(self, name: str, source: Path) -> None:
        """See `ShardPlace`."""
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

    def refused(self, key: str) -> AshoreError:
        """See `Bucket`."""
        return RemoteRefused(f"{self.endpoint or 'S3'} denies access to s3://{self.bucket}/{key}", hint=S3_HINT)

    def away(self, key: str, said: str) -> AshoreError:
        """See `Bucket`."""
        return SourceUnreachable(f"cannot reach s3://{self.bucket}/{key}: {said}", hint=S3_HINT)


def _some(found: Sequence[Shard], name: str) -> tuple[Shard, ...]:
    if not found:
        raise InvalidRequest(f"{name} has no data files", hint=f"data files end in {FORMS}")
    return tuple(found)


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_ino}-{state.st_mtime_ns}-{state.st_ctime_ns}"


def _changed(what: str) -> AshoreError:
    return Conflict(f"{what} changed while it was being used", hint="run the command again once nothing writes to it")


def _there(what: str) -> AshoreError:
    return Conflict(f"{what} already exists", hint="name another place, or delete what is there")
