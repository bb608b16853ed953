"""A prefix in a bucket of any S3 server, as anchors and the archive use it: objects are made once and never replaced.

Object lock with a default retention, set by the owner of the bucket, protects it against an administrator.
"""

from __future__ import annotations

from collections.abc import Iterator

from ashore.core.errors import TamperedAudit
from ashore.kit.bucket import Bucket


class BucketFolder(Bucket):
    """`s3://BUCKET/PATH`."""

    def make(self, name: str, data: bytes) -> bool:
        """Create an object. May be called twice with the same bytes.

        Raises:
            TamperedAudit: there is one with other bytes.
        """
        if not super().make(name, data) and self.read(name) != data:
            raise TamperedAudit(
                f"{self.place}/{name} already exists with different content", hint="run `ashore audit verify`"
            )
        return True

    def names(self, under: str) -> Iterator[str]:
        """Yield the names of the objects in a folder, in S3's alphabetical order."""
        return (name for name, _ in self.sizes(under))
