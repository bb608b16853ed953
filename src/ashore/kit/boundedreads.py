"""A file from outside as archive readers may see it: `tarfile` reads as much at once as a header says it has."""

from __future__ import annotations

from typing import BinaryIO


class BoundedReads:
    """A seekable file that is never read to its end at once, and never more than `most` bytes."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most, self.seek, self.tell = file, most, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises `ValueError` where too many are wanted."""
        if not 0 <= size <= self._most:
            raise ValueError(f"byte {self.tell()}: a header or member of {size:,} bytes")
        return self._file.read(size)
