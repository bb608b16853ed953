"""Copies of checkpoints in a bucket, in case the machine is lost. They never delay a run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from ashore.core import S3_HINT, Bucket, human_seconds
from ashore.errors import AshoreError, InvalidRequest, NotFound, RemoteRefused, SourceUnreachable
from ashore.training.checkpointing.form import NAME

LONGEST_PAUSE_S: Final = 30.0
LAST_WAIT_S: Final = 120.0
"""How long the end of a run waits for its last copy."""


class CheckpointBucket(Bucket):
    """`s3://BUCKET/PATH`: the checkpoints of one run."""

    def __init__(self, place: str) -> None:
        """Store the place; connects to nothing yet. Raises `InvalidRequest` if it is not in a bucket."""
        if not place.startswith("s3://"):
            raise InvalidRequest(f"{place!r} is not a place in a bucket", hint="expected s3://BUCKET/PATH")
        super().__init__(place)

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the newest first."""
        return sorted((name for name, _ in self.sizes("") if NAME.fullmatch(name)), reverse=True)

    def put(self, name: str, file: BinaryIO) -> None:
        """Write an object whole, or not at all."""
        import obstore

        with self.translated(self.key(name)):
            obstore.put(self.store, self.key(name), file)

    def fetch(self, name: str, target: Path) -> None:
        """Bring an object to `target`."""
        import obstore

        with self.translated(self.key(name)), target.open("wb") as file:
            for chunk in obstore.get(self.store, self.key(name)).stream(min_chunk_size=4 << 20):
                file.write(chunk)

    def delete(self, name: str) -> None:
        """Delete an object. May be called twice."""
        import obstore

        with contextlib.suppress(NotFound), self.translated(self.key(name)):
            obstore.delete(self.store, self.key(name))

    def missing(self, key: str) -> AshoreError:
        """See `Bucket`."""
        return NotFound(f"s3://{self.bucket}/{key} does not exist", hint="check the bucket and the path")

    def refused(self, key: str) -> AshoreError:
        """See `Bucket`."""
        return RemoteRefused(f"{self.endpoint or 'S3'} denies access to s3://{self.bucket}/{key}", hint=S3_HINT)

    def away(self, key: str, said: str) -> AshoreError:
        """See `Bucket`."""
        return SourceUnreachable(f"cannot reach s3://{self.bucket}/{key}: {said}", hint=S3_HINT)


class Mirror:
    """Copies the newest checkpoint into a bucket, in a thread; superseded ones are skipped."""

    def __init__(self, bucket: CheckpointBucket, *, kept: int, say: Callable[[str], None] = lambda line: None) -> None:
        """Create the object; the thread starts with the first checkpoint.

        Args:
            bucket: Destination.
            kept: How many stay there.
            say: Called when the bucket is unreachable, and when it is back.
        """
        self.bucket, self._kept, self._say = bucket, kept, say
        self._changed = threading.Condition()
        self._waiting: tuple[str, BinaryIO] | None = None
        self._busy = self._closed = self._is_late = False
        self._thread: threading.Thread | None = None
        self.copied = 0

    def offer(self, path: Path) -> None:
        """Queue a checkpoint for copying. The file may be deleted at once, because it is open."""
        with self._changed:
            if self._waiting is not None:
                self._waiting[1].close()
            self._waiting = (path.name, path.open("rb"))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def finish(self, wait_s: float = LAST_WAIT_S) -> bool:
        """Wait for queued copies, and return whether they are complete; log it if not. May be called twice."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._waiting is None and not self._busy, timeout=wait_s)
            self._closed = True
            self._changed.notify_all()
        if not done:
            self._say(f"the last checkpoint was not copied to {self.bucket.place} within {human_seconds(wait_s)}")
        return done

    def clear(self) -> None:
        """Drop queued copies, and delete the copies of this run. An unreachable bucket is reported, not awaited."""
        with self._changed:
            if self._waiting is not None:
                self._waiting[1].close()
            self._waiting, self._closed = None, True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        try:
            for name in self.bucket.names():
                self.bucket.delete(name)
        except AshoreError as error:
            self._say(f"checkpoints of this run are left in {self.bucket.place}: {error.message}")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting is not None)
                if self._waiting is None:
                    return
                (name, file), self._waiting, self._busy = self._waiting, None, True
            with file:
                self._copy(name, file)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _copy(self, name: str, file: BinaryIO) -> None:
        """Copy a file, waiting for an unreachable bucket, unless a newer one is offered meanwhile."""
        pause_s = 1.0
        while True:
            try:
                file.seek(0)
                self.bucket.put(name, file)
                for old in self.bucket.names()[self._kept :]:
                    self.bucket.delete(old)
            except AshoreError as error:
                if not self._is_late:
                    self._is_late = True
                    self._say(f"checkpoints are not copied: {error.message}; training goes on, and it is tried again")
            else:
                self.copied += 1
                if self._is_late:
                    self._is_late = False
                    self._say(f"checkpoints are copied to {self.bucket.place} again")
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting is not None, timeout=pause_s)
                if self._closed or self._waiting is not None:
                    return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
