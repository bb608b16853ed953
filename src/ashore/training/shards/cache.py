"""Cache of shards that are remote or not seekable: fetched, unpacked, and limited in size.

A file of the cache is whole or absent. Any number of processes may share the folder, and may be killed at any point.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from ashore.core import make_folder, open_given
from ashore.errors import AshoreError, BrokenData, DiskFull, InvalidRequest, MissingExtra, SourceUnreachable
from ashore.extras import how_to_install
from ashore.training.shards.naming import Form, is_packed
from ashore.training.shards.places import Shard, ShardPlace

PATIENCE_S: Final = 600.0
"""How long a server may be away, without one byte, before a run ends."""
CACHE_BYTES: Final = 4 << 30
_LONGEST_PAUSE_S: Final = 10.0
_TOUCH_S: Final = 5.0
_COPY_BYTES: Final = 1 << 20
_MOST_TIMES: Final = 200
"""A file that unpacks to more than this many times its size was made to fill a disk. Text shrinks to a tenth."""
_ROWS: Final = 256
"""Of a Parquet file that are decoded at once, fewer where they may be long."""
_BATCH_BYTES: Final = 1 << 30

Say = Callable[[str], None]


class ShardCache:
    """Returns shards as seekable files."""

    def __init__(
        self,
        folder: Path,
        place: ShardPlace,
        *,
        max_bytes: int = CACHE_BYTES,
        patience_s: float = PATIENCE_S,
        say: Say = lambda line: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create the object; nothing is written yet.

        Args:
            folder: Where fetched shards are kept; made when the first is.
            place: Where shards come from.
            max_bytes: The least recently used shards go when there are more; the one that is asked for always stays.
            patience_s: How long a server may be away.
            say: Called when a server is unreachable, and when it is back.
            pause: Waits.
        """
        self._folder, self._place, self._max_bytes = folder, place, max_bytes
        self._patience_s, self._say, self._pause = patience_s, say, pause
        self._touched: dict[Path, float] = {}

    def path(self, shard: Shard) -> Path:
        """Return a file with a shard, fetched and unpacked if needed. It may be deleted as soon as it is open.

        Raises:
            SourceUnreachable: the server was away for too long. Conflict: the shard changed. DiskFull, BrokenData.
        """
        local = self._place.path(shard)
        if local is not None and not _unpacked_form(shard):
            return local
        target = self._target(shard)
        if not target.exists():
            self._make(shard, local, target)
        self._touch(target)
        return target

    def used(self, shard: Shard) -> None:
        """Mark an open shard as in use. Raises `Conflict` if a local file changed."""
        if self._place.path(shard) is None or _unpacked_form(shard):
            self._touch(self._target(shard))

    def digest(self, shard: Shard) -> str:
        """Return the SHA-256 of a shard as stored at its source, in hexadecimal digits. Raises as `path`."""
        path = self.path(shard)
        beside = path.with_name(path.name + ".sha256")
        return beside.read_text() if _unpacked_form(shard) and beside.is_file() else _sha256(path)

    def form(self, shard: Shard) -> Form:
        """Return the form that the file of a shard has here."""
        return "jsonl" if shard.form == "parquet" else shard.form

    def _target(self, shard: Shard) -> Path:
        words = (self._place.name, shard.name, str(shard.num_bytes), shard.stamp)
        return self._folder / f"{hashlib.sha256('|'.join(words).encode()).hexdigest()[:32]}.shard"

    def _touch(self, path: Path) -> None:
        now_s = time.monotonic()
        if now_s - self._touched.get(path, float("-inf")) > _TOUCH_S:
            self._touched[path] = now_s
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)

    def _make(self, shard: Shard, local: Path | None, target: Path) -> None:
        try:
            make_folder(self._folder, mode=0o700)
            with self._alone(target):
                if target.exists():
                    return
                raw = local or self._fetched(shard, target.with_suffix(".part"))
                made = target.with_suffix(".new")
                if _unpacked_form(shard):
                    target.with_name(target.name + ".sha256").write_text(_sha256(raw))
                    _unpack(shard, raw, made)
                    if local is None:
                        raw.unlink()
                else:
                    made = raw
                self._make_room(made.stat().st_size)
                os.replace(made, target)
        except OSError as error:
            if isinstance(error, AshoreError):
                raise
            raise DiskFull(
                f"{shard.name} cannot be kept in {self._folder}: {error.strerror or error}",
                hint="free some space, or give a smaller --data-cache",
            ) from error

    @contextmanager
    def _alone(self, target: Path) -> Iterator[None]:
        """Hold a lock for making this file. There are 256; none is ever deleted."""
        with (self._folder / f"{target.name[:2]}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fetched(self, shard: Shard, part: Path) -> Path:
        """Fetch a shard to `part`, retrying while its server is down."""
        if part.exists() and part.stat().st_size > shard.num_bytes:
            part.unlink()
        last_s, pause_s, told = time.monotonic(), 0.25, False
        while True:
            have = part.stat().st_size if part.exists() else 0
            try:
                self._place.fetch(shard, part)
                if part.stat().st_size == shard.num_bytes:
                    break
                have_now = part.stat().st_size
                raise SourceUnreachable(f"{shard.name} ended after {have_now:,} of {shard.num_bytes:,} bytes")
            except SourceUnreachable as error:
                now_s = time.monotonic()
                if part.exists() and part.stat().st_size > have:
                    last_s, pause_s = now_s, 0.25
                elif now_s - last_s > self._patience_s:
                    raise
                elif not told:
                    self._say(f"waiting for {shard.name}: {error.message}")
                    told = True
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if told:
            self._say(f"{shard.name} is here")
        return part

    def _make_room(self, num_bytes: int) -> None:
        kept = []
        for path in self._folder.glob("*.shard"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                kept.append((state.st_mtime, state.st_size, path))
        total = num_bytes + sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)  # readers that have it open continue
            path.with_name(path.name + ".sha256").unlink(missing_ok=True)
            total -= size


def _unpacked_form(shard: Shard) -> bool:
    """Return whether a shard must be unpacked to be seekable."""
    return shard.form == "parquet" or is_packed(shard.name)


def _unpack(shard: Shard, raw: Path, target: Path) -> None:
    hint = "fetch or write it again"
    try:
        with target.open("wb") as out:
            if shard.form == "parquet":
                _write_rows(raw, out)
            else:
                _gunzip(shard, raw, out)
    except (gzip.BadGzipFile, EOFError, ValueError) as error:
        raise BrokenData(f"{shard.name} cannot be unpacked: {error}", hint=hint) from error


def _gunzip(shard: Shard, raw: Path, out: BinaryIO) -> None:
    import zlib

    most = _MOST_TIMES * shard.num_bytes + _COPY_BYTES
    with open_given(raw) as packed, gzip.open(packed) as file:
        try:
            while data := file.read(_COPY_BYTES):
                if (most := most - len(data)) < 0:
                    raise ValueError(f"it unpacks to more than {_MOST_TIMES} times its size")
                out.write(data)
        except zlib.error as error:
            raise ValueError(str(error)) from error


def _write_rows(raw: Path, out: BinaryIO) -> None:
    """Write the rows of a Parquet file as lines of JSONL, with only the training columns."""
    parquet = _pyarrow()
    left = _MOST_TIMES * raw.stat().st_size + _COPY_BYTES
    with open_given(raw) as data, parquet.ParquetFile(data) as file:
        there = set(file.schema_arrow.names)
        columns = [name for name in ("messages", "tools", "prompt", "completion", "text") if name in there]
        if not columns:
            raise ValueError(f"it has no column messages, prompt or text, only {', '.join(sorted(there))[:200]}")
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        sizes = [one.column(at).total_uncompressed_size for one in groups for at in range(one.num_columns)]
        # One long value of a dictionary may stand in every row: a batch is at most so many times a column as it lies.
        rows = max(1, min(_ROWS, _BATCH_BYTES // max(1, *sizes, 1)))
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            for row in batch.to_pylist():
                line = msgspec.json.encode(_without_nulls(row)) + b"\n"
                if (left := left - len(line)) < 0:
                    raise ValueError(f"it unpacks to more than {_MOST_TIMES} times its size")
                out.write(line)


def _without_nulls(value: Any) -> Any:
    """Return a row without nulls: Parquet gives every message all fields that any of them has."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _pyarrow() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet needs pyarrow, which is not installed", hint=how_to_install("train")) from error
    return parquet


def _sha256(path: Path) -> str:
    try:
        with open_given(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", hint="check its path") from error
