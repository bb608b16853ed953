"""Sealing what is written from front to back, while it is written, by a program that has no clear file of it."""

from __future__ import annotations

import os
import secrets

from ashore.kit.sealing.chunks import HEADER_BYTES, SALT_BYTES, TAG_BYTES, Header, authenticated, cipher_of, nonce_of
from ashore.kit.sealing.datakeys import DataKey


class SealedStream:
    """Writes a sealed file to a descriptor: the same form as `seal_file`. For one thread."""

    def __init__(self, descriptor: int, key: DataKey, clear_bytes: int) -> None:
        """Write the header.

        Args:
            descriptor: Open for writing, at its beginning.
            key: Data key.
            clear_bytes: How much will be written; no more and no less.
        """
        self._header = Header(clear_bytes=clear_bytes, key_id=key.key_id, salt=secrets.token_bytes(SALT_BYTES))
        self._plain, self._cipher = self._header.to_bytes(), cipher_of(key.secret, self._header)
        self._descriptor, self._number, self._used = descriptor, 0, 0
        self._clear = memoryview(bytearray(self._header.chunk_bytes))
        self._sealed = memoryview(bytearray(self._header.chunk_bytes + TAG_BYTES))
        os.pwrite(descriptor, self._plain, 0)

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        while data:
            room = self._header.chunk_bytes - self._used
            part, data = data[:room], data[room:]
            self._clear[self._used : self._used + len(part)] = part
            self._used += len(part)
            if self._used == self._header.chunk_bytes:
                self._flush()

    def finish(self) -> None:
        """Write what is left. The caller syncs. Raises `ValueError` where not all of it came."""
        if self._used or not self._header.clear_bytes:
            self._flush()
        if self._number != self._header.num_chunks:
            raise ValueError(f"{self._number} chunks were written, {self._header.num_chunks} were expected")

    def _flush(self) -> None:
        number, size = self._number, self._used
        bound = authenticated(self._plain, number, self._header.num_chunks)
        self._cipher.encrypt_into(nonce_of(number), self._clear[:size], bound, self._sealed[: size + TAG_BYTES])
        data, offset = self._sealed[: size + TAG_BYTES], HEADER_BYTES + number * (self._header.chunk_bytes + TAG_BYTES)
        while data:
            done = os.pwrite(self._descriptor, data, offset)
            data, offset = data[done:], offset + done
        self._number, self._used = number + 1, 0
