"""A prefix in a bucket of any S3 server, as anchors and the archive use it: objects are made once and never replaced.

Address and login come from the usual `AWS_*` variables. What makes it safe against an administrator is the bucket's own
object lock with a default retention, set by whoever owns the bucket.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ashore.errors import InvalidRequest, NotFound, RemoteRefused, SourceUnreachable, TamperedAudit

HINT: Final = "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for your S3 server"
CHUNK_BYTES: Final = 4 << 20


class BucketFolder:
    """`s3://BUCKET/PATH`."""

    def __init__(self, place: str) -> None:
        """Take the place; nothing is reached yet.

        Raises:
            InvalidRequest: it is malformed.
        """
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket or not prefix.strip("/"):
            raise InvalidRequest(f"{place!r} is malformed", hint="expected s3://BUCKET/PATH")
        self.place = place
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._made: Any = None

    @property
    def _store(self) -> Any:
        if self._made is None:
            from datetime import timedelta

            from obstore.store import S3Store

            options: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s"}
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

    def make(self, name: str, data: bytes) -> None:
        """Make an object. May be called twice with the same bytes.

        Raises:
            TamperedAudit: there is one with other bytes.
        """
        import obstore
        from obstore import exceptions

        with self._translated(name):
            try:
                obstore.put(self._store, self._key(name), data, mode="create", use_multipart=False)
                return
            except (FileExistsError, exceptions.AlreadyExistsError):
                seen = bytes(obstore.get(self._store, self._key(name)).bytes())
        if seen != data:
            raise TamperedAudit(
                f"{self.place}/{name} exists and holds something else", hint="run `ashore audit verify`"
            )

    def read(self, name: str) -> bytes:
        """Return an object.

        Raises:
            NotFound: there is none of this name.
        """
        import obstore

        with self._translated(name):
            return bytes(obstore.get(self._store, self._key(name)).bytes())

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield an object piece by piece."""
        import obstore

        with self._translated(name):
            for chunk in obstore.get(self._store, self._key(name)).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def names(self, under: str) -> Iterator[str]:
        """Yield the names of the objects under a folder, in the order of the alphabet as S3 lists them."""
        import obstore

        with self._translated(under):
            for page in obstore.list(self._store, prefix=self._key(under) + "/"):
                for one in page:
                    yield str(one["path"]).removeprefix(self._prefix + "/")

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        from obstore import exceptions

        where = f"{self.place}/{name}"
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as fault:
            raise NotFound(f"{where} does not exist", hint="check bucket and path") from fault
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as fault:
            raise RemoteRefused(f"{self._endpoint or 'S3'} does not let us at {where}", hint=HINT) from fault
        except exceptions.BaseError as fault:
            first = str(fault).strip().splitlines()[:1]
            raise SourceUnreachable(
                f"cannot reach {where}: {first[0][:300] if first else fault!r}", hint=HINT
            ) from fault
