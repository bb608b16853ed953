"""Sealing a file, and opening one: chunk by chunk, in threads, without a second copy in memory.

Reading, decrypting and writing let go of the interpreter lock, so a few threads overlap what the disk, the cipher and
the memory take. Each thread keeps its two buffers for the whole file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.errors import CorruptBlob
from ashore.kit.sealing.chunks import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Header,
    authenticated,
    cipher_of,
    nonce_of,
    read_header,
)
from ashore.kit.sealing.datakeys import DataKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Told = Callable[[int], None]
"""Called with the clear bytes that are done; from any thread, one at a time."""
MAX_THREADS: Final = 4
"""Measured with two cores: the second thread gave from nothing to 1.6 times the speed, by what else ran; more gave
nothing."""


def nobody(done_bytes: int) -> None:
    """A callback that ignores progress."""


def seal_file(source: Path, target: Path, key: DataKey, *, sha256: str, what: str, told: Told = nobody) -> Header:
    """Write `source` sealed to `target` (0600) and force it to the disk; return its header.

    Overwrites an existing `target`. On return, `target` is complete, and its plaintext had the hash `sha256`.

    Args:
        source: Clear file; never written.
        target: Where to; its folder exists.
        key: Data key.
        sha256: Hash, hexadecimal, that the clear bytes must have.
        what: Names the file in messages.
        told: Called with the progress.

    Raises:
        CorruptBlob: the clear bytes are not those of that hash, or changed meanwhile.
    """
    hasher = hashlib.sha256()
    with source.open("rb", buffering=0) as reading, open(target, "wb", buffering=0, opener=_private) as writing:
        header = Header(
            clear_bytes=os.fstat(reading.fileno()).st_size, key_id=key.key_id, salt=secrets.token_bytes(SALT_BYTES)
        )
        plain_header = header.to_bytes()
        writing.write(plain_header)
        cipher = cipher_of(key.secret, header)
        clear = memoryview(bytearray(CHUNK_BYTES))
        sealed = memoryview(bytearray(CHUNK_BYTES + TAG_BYTES))
        for number in range(header.num_chunks):
            size = header.clear_size(number)
            _read_exactly(reading.fileno(), clear[:size], number * CHUNK_BYTES, what)
            hasher.update(clear[:size])
            bound = authenticated(plain_header, number, header.num_chunks)
            cipher.encrypt_into(nonce_of(number), clear[:size], bound, sealed[: size + TAG_BYTES])
            _write_all(writing.fileno(), sealed[: size + TAG_BYTES], header.offset(number))
            told(number * CHUNK_BYTES + size)
        os.fsync(writing.fileno())
    if hasher.hexdigest() != sha256:
        target.unlink()
        raise CorruptBlob(
            f"{what} has the hash {hasher.hexdigest()}, expected {sha256}: it was altered, so it was not sealed",
            hint="pull the model again, or restore the file from a backup",
        )
    return header


def open_file(
    source: Path,
    target: int,
    key: DataKey,
    *,
    salt: bytes | None,
    what: str,
    threads: int | None = None,
) -> Header:
    """Write the clear bytes of a sealed file to the descriptor `target`; return the header.

    If this raises, discard the written data: chunks are verified while decrypting.

    Args:
        source: Sealed file.
        target: Descriptor open for writing at any place.
        key: Data key.
        salt: The file's salt from the model's sheet; None: unknown, and swapping whole files of the same key is not
            detected.
        what: Names the file in messages.
        threads: Default: one a core, at most `MAX_THREADS`.

    Raises:
        CorruptBlob: a chunk or the header was altered; names the file and the chunk.
    """
    with source.open("rb", buffering=0) as reading:
        return _Opening(reading.fileno(), key, salt, what).into(target, threads or default_threads())


def hash_of_sealed(source: Path, key: DataKey, *, salt: bytes | None, what: str) -> str:
    """Return the SHA-256 (hexadecimal) of the clear bytes of a sealed file. Raises as `open_file` does."""
    hasher = hashlib.sha256()
    with source.open("rb", buffering=0) as reading:
        opening = _Opening(reading.fileno(), key, salt, what)
        buffers = opening.buffers()
        for number in range(opening.header.num_chunks):
            hasher.update(opening.chunk(number, *buffers))
    return hasher.hexdigest()


def read_sealed_header(source: Path, *, what: str) -> Header:
    """Return the header of a sealed file; needs no key, so it is not yet verified."""
    with source.open("rb", buffering=0) as reading:
        return read_header(os.pread(reading.fileno(), HEADER_BYTES, 0), os.fstat(reading.fileno()).st_size, what=what)


class _Opening:
    """One sealed file that is being opened."""

    def __init__(self, descriptor: int, key: DataKey, salt: bytes | None, what: str) -> None:
        self._descriptor = descriptor
        self._what = what
        self.header = read_header(os.pread(descriptor, HEADER_BYTES, 0), os.fstat(descriptor).st_size, what=what)
        if self.header.key_id != key.key_id or (salt is not None and self.header.salt != salt):
            raise CorruptBlob(
                f"{what} is not the sealed file that the model expects (key {self.header.key_id}): files were swapped",
                hint="restore the file from a backup, or pull or import the model again",
            )
        self._plain_header = self.header.to_bytes()
        self._cipher: AESGCM = cipher_of(key.secret, self.header)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def buffers(self) -> tuple[memoryview, memoryview]:
        """Return what one thread needs."""
        size = self.header.chunk_bytes
        return memoryview(bytearray(size + TAG_BYTES)), memoryview(bytearray(size))

    def chunk(self, number: int, sealed: memoryview, clear: memoryview) -> memoryview:
        """Return the clear bytes of a chunk; they lie in `clear`."""
        from cryptography.exceptions import InvalidTag

        size = self.header.clear_size(number)
        _read_exactly(self._descriptor, sealed[: size + TAG_BYTES], self.header.offset(number), self._what)
        bound = authenticated(self._plain_header, number, self.header.num_chunks)
        try:
            self._cipher.decrypt_into(nonce_of(number), sealed[: size + TAG_BYTES], bound, clear[:size])
        except InvalidTag as error:
            raise CorruptBlob(
                f"{self._what}: chunk {number} of {self.header.num_chunks} was altered, or the key is not the one that "
                "it was sealed with",
                hint="`ashore model verify` lists every bad file; restore it from a backup or pull the model again",
            ) from error
        return clear[:size]

    def into(self, target: int, threads: int) -> Header:
        """Write every chunk to `target`, thread `n` every `threads`-th from `n` on; the first error stops all."""
        failed = threading.Event()

        def work(first: int) -> None:
            buffers = self.buffers()
            try:
                for number in range(first, self.header.num_chunks, threads):
                    if failed.is_set():
                        return
                    _write_all(target, self.chunk(number, *buffers), number * self.header.chunk_bytes)
            except BaseException:
                failed.set()
                raise

        threads = min(threads, self.header.num_chunks)
        if threads == 1:
            work(0)
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="unseal") as pool:
                for future in [pool.submit(work, first) for first in range(threads)]:
                    future.result()
        return self.header


def default_threads() -> int:
    """Return the default number of threads to open a file."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_THREADS, cores)


def _read_exactly(descriptor: int, into: memoryview, offset: int, what: str) -> None:
    done = 0
    while done < len(into):
        read = os.preadv(descriptor, [into[done:]], offset + done)
        if not read:
            raise CorruptBlob(
                f"{what} became shorter while it was read", hint="check whether another program is writing it"
            )
        done += read


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
