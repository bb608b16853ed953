"""A node in a bucket of any S3 server: `s3://BUCKET/PATH`. Address and credentials come from the usual `AWS_*`
variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ashore.control.backup.ports import Part
from ashore.core.errors import AshoreError, BackupDamaged, NodeUnavailable
from ashore.kit.bucket import S3_HINT, Bucket

PART_BYTES: Final = 8 << 20
"""Sent at once; S3 takes no smaller parts than 5 MiB, and no more than 10,000 of them."""


class _Objects(Bucket):
    connect_s = 5
    also = (OSError,)

    def refused(self, key: str) -> AshoreError:
        return self.away(key, "the server denies access to it")

    def away(self, key: str, said: str) -> AshoreError:
        return NodeUnavailable(f"the node {self.place} does not work: {said}", hint=S3_HINT)


class BucketNode:
    """Objects appear when their upload is complete. An endpoint may stand in the place: `s3://BUCKET/PATH`."""

    def __init__(self, place: str) -> None:
        """Store the place; connects to nothing yet.

        Raises:
            InvalidRequest: it is malformed.
        """
        self.objects = _Objects(place)
        self.place = self.objects.place

    def prepare(self) -> None:
        """See `Node`. The owner of the server creates the bucket, and a path needs no creation."""

    def filesystem(self) -> str:
        return f"{self.objects.endpoint}/{self.objects.bucket}"

    def put(self, name: str) -> BucketSink:
        return BucketSink(self.objects, name)

    def make(self, name: str, data: bytes) -> bool:
        return self.objects.make(name, data)

    def open(self, name: str) -> BucketSource:
        size = self.objects.size(name)
        if size is None:
            raise self.objects.missing(name)
        return BucketSource(self.objects, name, size)

    def sizes(self, under: str) -> dict[str, int]:
        return dict(self.objects.sizes(under))

    def remove(self, name: str) -> None:
        self.objects.remove(name)


class BucketSink:
    """See `Sink`: parts are sent when full; the object appears after the last one."""

    def __init__(self, objects: _Objects, name: str) -> None:
        self._objects, self._key = objects, objects.key(name)
        self._buffer = bytearray()
        self._upload: Any = None

    def write(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._buffer += part
        if len(self._buffer) >= PART_BYTES:
            self._send()

    def finish(self) -> None:
        import obstore

        with self._objects.translated(self._key):
            if self._upload is None:
                obstore.put(self._objects.store, self._key, bytes(self._buffer), use_multipart=False)
                return
            self._send()
            upload, self._upload = self._upload, None
            upload.close()

    def abort(self) -> None:
        """See `Sink`. An unfinished upload never appears; the server deletes it by its own rule."""
        self._upload = None
        self._buffer = bytearray()

    def _send(self) -> None:
        import obstore

        with self._objects.translated(self._key):
            if self._upload is None:
                self._upload = obstore.open_writer(
                    self._objects.store, self._key, buffer_size=PART_BYTES, max_concurrency=2
                )
            self._upload.write(bytes(self._buffer))
            self._buffer = bytearray()


class BucketSource:
    """See `Source`."""

    def __init__(self, objects: _Objects, name: str, num_bytes: int) -> None:
        self._objects, self._key, self.num_bytes = objects, objects.key(name), num_bytes

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        import obstore

        wanted = sum(len(part) for part in parts)
        if not wanted:
            return
        if offset + wanted > self.num_bytes:
            raise BackupDamaged(f"s3://{self._objects.bucket}/{self._key} has {self.num_bytes} bytes; expected more")
        with self._objects.translated(self._key):
            data = memoryview(obstore.get_range(self._objects.store, self._key, start=offset, end=offset + wanted))
        at = 0
        for part in parts:
            part[:] = data[at : at + len(part)]
            at += len(part)

    def close(self) -> None:
        return None
