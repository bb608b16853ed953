"""A node in a bucket of any S3 server: `s3://BUCKET/PATH`. Address and login come from the usual `AWS_*` variables."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from ashore.backup.ports import Part
from ashore.errors import BackupDamaged, InvalidRequest, NodeUnavailable, NotFound

HINT: Final = "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for your S3 server"
PART_BYTES: Final = 8 << 20
"""Sent at once; S3 takes no smaller parts than 5 MiB, and no more than 10,000 of them."""


class BucketNode:
    """Objects appear when their upload is complete. An endpoint may stand in the place: `s3://BUCKET/PATH`."""

    def __init__(self, place: str) -> None:
        """Take the place; nothing is reached yet.

        Raises:
            InvalidRequest: it is malformed.
        """
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket or not prefix.strip("/"):
            raise InvalidRequest(f"the node {place!r} is malformed", hint="expected s3://BUCKET/PATH")
        self.place = place.rstrip("/")
        self._bucket, self._prefix = bucket, prefix.strip("/")
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._made: Any = None

    @property
    def store(self) -> Any:
        if self._made is None:
            from obstore.store import S3Store

            options: dict[str, Any] = {"connect_timeout": "5s", "timeout": "120s"}
            if self._endpoint.startswith("http://"):
                options["allow_http"] = True
            where = {"endpoint": self._endpoint} if self._endpoint else {}
            self._made = S3Store(
                self._bucket,
                client_options=options,
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=15)},
                **where,
            )
        return self._made

    def prepare(self) -> None:
        """See `Node`. A bucket is made by whoever owns the server, and a path needs no making."""

    def filesystem(self) -> str:
        return f"{self._endpoint}/{self._bucket}"

    def put(self, name: str) -> BucketSink:
        return BucketSink(self, name)

    def make(self, name: str, data: bytes) -> bool:
        import obstore
        from obstore import exceptions

        with self.translated(name):
            try:
                obstore.put(self.store, self.key(name), data, mode="create", use_multipart=False)
            except (FileExistsError, exceptions.AlreadyExistsError):
                return False
        return True

    def open(self, name: str) -> BucketSource:
        import obstore

        with self.translated(name):
            return BucketSource(self, name, int(obstore.head(self.store, self.key(name))["size"]))

    def sizes(self, under: str) -> Mapping[str, int]:
        import obstore

        found: dict[str, int] = {}
        with self.translated(under):
            for page in obstore.list(self.store, prefix=self.key(under) + "/"):
                for one in page:
                    found[str(one["path"]).removeprefix(self._prefix + "/")] = int(one["size"])
        return found

    def remove(self, name: str) -> None:
        import obstore

        with contextlib.suppress(NotFound), self.translated(name):
            obstore.delete(self.store, self.key(name))

    def key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @contextmanager
    def translated(self, name: str) -> Iterator[None]:
        """Turn the library's errors into ours."""
        from obstore import exceptions

        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as fault:
            raise NotFound(f"{self.place}/{name} does not exist", hint="check bucket and path") from fault
        except (exceptions.BaseError, OSError) as fault:
            first = str(fault).strip().splitlines()[:1]
            raise NodeUnavailable(
                f"the node {self.place} does not work: {first[0][:300] if first else fault!r}", hint=HINT
            ) from fault


class BucketSink:
    """See `Sink`: parts are sent as they fill; the object shows when the last one is in."""

    def __init__(self, node: BucketNode, name: str) -> None:
        self._node, self._name = node, name
        self._buffer = bytearray()
        self._upload: Any = None

    def write(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._buffer += part
        if len(self._buffer) >= PART_BYTES:
            self._send()

    def finish(self) -> None:
        import obstore

        with self._node.translated(self._name):
            if self._upload is None:
                obstore.put(self._node.store, self._node.key(self._name), bytes(self._buffer), use_multipart=False)
                return
            self._send()
            upload, self._upload = self._upload, None
            upload.close()

    def abort(self) -> None:
        """See `Sink`. An upload that was begun and is not closed never shows; the server drops it by its own rule."""
        self._upload = None
        self._buffer = bytearray()

    def _send(self) -> None:
        import obstore

        with self._node.translated(self._name):
            if self._upload is None:
                self._upload = obstore.open_writer(
                    self._node.store, self._node.key(self._name), buffer_size=PART_BYTES, max_concurrency=2
                )
            self._upload.write(bytes(self._buffer))
            self._buffer = bytearray()


class BucketSource:
    """See `Source`."""

    def __init__(self, node: BucketNode, name: str, num_bytes: int) -> None:
        self._node, self._name, self.num_bytes = node, name, num_bytes

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        import obstore

        wanted = sum(len(part) for part in parts)
        if not wanted:
            return
        if offset + wanted > self.num_bytes:
            raise BackupDamaged(f"{self._node.place}/{self._name} has {self.num_bytes} bytes; more were expected")
        with self._node.translated(self._name):
            data = memoryview(
                obstore.get_range(self._node.store, self._node.key(self._name), start=offset, end=offset + wanted)
            )
        at = 0
        for part in parts:
            part[:] = data[at : at + len(part)]
            at += len(part)

    def close(self) -> None:
        return None
