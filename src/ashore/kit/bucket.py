"""A prefix in a bucket of any S3 server. Endpoint and credentials come from the usual `AWS_*` variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar, Final

from ashore.core.errors import AshoreError, InvalidRequest, NotFound, RemoteRefused, SourceUnreachable

S3_HINT: Final = "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for your S3 server"
CHUNK_BYTES: Final = 4 << 20
LOGIN_SERVICE: Final = "169.254.169.254"
"""Where Amazon gives its machines a login; the client asks there when none is set."""


class Bucket:
    """`s3://BUCKET/PATH`, with the errors that its user gets for its faults."""

    connect_s: ClassVar[int] = 10
    timeout_s: ClassVar[int] = 120
    also: ClassVar[tuple[type[Exception], ...]] = ()
    """Further errors, besides the client's, that mean that the server is unreachable."""

    def __init__(self, place: str) -> None:
        """Parse the place; the server is not contacted yet.

        Raises:
            InvalidRequest: it is malformed.
        """
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket or not prefix.strip("/"):
            raise InvalidRequest(f"{place!r} is malformed", hint="expected s3://BUCKET/PATH")
        self.place = place.rstrip("/")
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._made: Any = None

    def missing(self, key: str) -> AshoreError:
        """Return the error for a missing object."""
        return NotFound(f"s3://{self.bucket}/{key} does not exist", hint="check the bucket and the path")

    def refused(self, key: str) -> AshoreError:
        """Return the error for denied access."""
        return RemoteRefused(f"{self.endpoint or 'S3'} denies access to s3://{self.bucket}/{key}", hint=S3_HINT)

    def away(self, key: str, said: str) -> AshoreError:
        """Return the error for an unreachable server; `said`: the first line of the cause."""
        return SourceUnreachable(f"cannot reach s3://{self.bucket}/{key}: {said}", hint=S3_HINT)

    @property
    def store(self) -> Any:
        """The client, created on first use."""
        if self._made is None:
            from obstore.store import S3Store

            options: dict[str, Any] = {"connect_timeout": f"{self.connect_s}s", "timeout": f"{self.timeout_s}s"}
            if self.endpoint.startswith("http://"):
                options["allow_http"] = True
            where = {"endpoint": self.endpoint} if self.endpoint else {}
            retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=15)}
            self._made = S3Store(self.bucket, client_options=options, retry_config=retries, **where)
        return self._made

    def key(self, name: str) -> str:
        """Return the whole name of an object; of the place itself for an empty one."""
        return f"{self.prefix}/{name}" if name else self.prefix

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; None if there is none."""
        import obstore
        from obstore import exceptions

        key = self.key(name)
        with self.translated(key):
            try:
                return int(obstore.head(self.store, key)["size"])
            except (FileNotFoundError, exceptions.NotFoundError):
                return None

    def chunks(self, name: str, *, start: int = 0, least_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield an object from `start` on, in pieces of at least so many bytes but for the last."""
        import obstore

        key = self.key(name)
        with self.translated(key):
            answer = obstore.get(self.store, key, options={"range": {"offset": start}} if start else {})
            for chunk in answer.stream(min_chunk_size=least_bytes):
                yield bytes(chunk)

    def read(self, name: str) -> bytes:
        """Return an object."""
        import obstore

        key = self.key(name)
        with self.translated(key):
            return bytes(obstore.get(self.store, key).bytes())

    def write(self, name: str, data: bytes | Iterator[bytes]) -> None:
        """Create or replace an object. May be called twice."""
        import obstore

        key = self.key(name)
        with self.translated(key):
            obstore.put(self.store, key, data)

    def remove(self, name: str) -> None:
        """Delete an object. May be called twice."""
        import obstore
        from obstore import exceptions

        key = self.key(name)
        with self.translated(key), suppress(FileNotFoundError, exceptions.NotFoundError):
            obstore.delete(self.store, key)

    def make(self, name: str, data: bytes) -> bool:
        """Create an object; returns False if one of this name exists, which is not changed."""
        import obstore
        from obstore import exceptions

        key = self.key(name)
        with self.translated(key):
            try:
                obstore.put(self.store, key, data, mode="create", use_multipart=False)
            except (FileExistsError, exceptions.AlreadyExistsError):
                return False
        return True

    def sizes(self, under: str) -> Iterator[tuple[str, int]]:
        """Yield name and size of the objects under a folder, in S3's lexical order."""
        import obstore

        key = self.key(under)
        with self.translated(key):
            for page in obstore.list(self.store, prefix=key + "/"):
                for one in page:
                    yield str(one["path"]).removeprefix(self.prefix + "/"), int(one["size"])

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Translate the client's errors to ashore's."""
        from obstore import exceptions

        faults: tuple[type[Exception], ...] = (exceptions.BaseError, *self.also)
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as fault:
            raise self.missing(key) from fault
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as fault:
            raise self.refused(key) from fault
        except faults as fault:
            raise self.away(key, _short(fault)) from fault


def _short(fault: Exception) -> str:
    """Return the first line of a long message."""
    if LOGIN_SERVICE in str(fault):
        return f"no credentials are set, and {LOGIN_SERVICE} gives this machine none"
    return str(fault).strip().splitlines()[0][:300] if str(fault).strip() else type(fault).__name__
