"""The form of a sealed file: a header, then the bytes in chunks, each encrypted and authenticated by itself.

    offset  bytes
    0       8      magic, `ASHSEAL` and the version, 1
    8       4      bytes of a chunk before encryption: 1, 2 or 4 MiB
    12      4      zero
    16      8      bytes of the file before encryption
    24      16     id of the data key
    40      32     salt of this file
    72             chunks: as many encrypted bytes as clear ones, then a tag of 16

Every file has a key of its own, derived from the data key and a fresh random salt (HKDF-SHA256), and the nonce of a
chunk is its number: no pair of key and nonce comes twice, however often a file is sealed. Authenticated with each chunk
are the header, its number, and whether it is the last. So a chunk that is altered, moved, left out, repeated, added or
taken from another file does not open, and neither does a header that was changed.
Source: STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015); NIST SP 800-38D for AES-256-GCM; RFC 5869.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ashore.core.errors import CorruptBlob

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"ASHSEAL\x01"
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
SALT_BYTES: Final = 32
CHUNK_BYTES: Final = 2 << 20
"""What is written. Measured: pieces of 1 to 4 MiB decrypt at the same speed, and larger ones fall out of the cache."""
CHUNK_SIZES: Final = (1 << 20, 2 << 20, 4 << 20)
MAX_CLEAR_BYTES: Final = 1 << 46
_HEADER: Final = struct.Struct(f">8sIIQ{KEY_ID_BYTES}s{SALT_BYTES}s")
HEADER_BYTES: Final = _HEADER.size
_PLACE: Final = struct.Struct(">QB")
_INFO: Final = b"ashore sealed file 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header of a sealed file."""

    clear_bytes: int
    key_id: str
    """Of the data key; 32 hexadecimal digits."""
    salt: bytes
    chunk_bytes: int = CHUNK_BYTES

    @property
    def num_chunks(self) -> int:
        """At least one: an empty file is one empty chunk, so that its end is authenticated too."""
        return max(1, -(-self.clear_bytes // self.chunk_bytes))

    @property
    def sealed_bytes(self) -> int:
        """Size of the whole sealed file."""
        return HEADER_BYTES + self.clear_bytes + TAG_BYTES * self.num_chunks

    def clear_size(self, number: int) -> int:
        """Return the clear bytes of a chunk; all but the last are full."""
        return min(self.chunk_bytes, self.clear_bytes - number * self.chunk_bytes)

    def offset(self, number: int) -> int:
        """Return where a chunk begins in the sealed file."""
        return HEADER_BYTES + number * (self.chunk_bytes + TAG_BYTES)

    def to_bytes(self) -> bytes:
        return _HEADER.pack(MAGIC, self.chunk_bytes, 0, self.clear_bytes, bytes.fromhex(self.key_id), self.salt)


def read_header(data: bytes, num_bytes: int, *, what: str) -> Header:
    """Return the header of a sealed file.

    Nothing is allocated by what it says before its sizes agree with those of the file.

    Args:
        data: The first `HEADER_BYTES` of the file, or all of it where it is shorter.
        num_bytes: Size of the whole file on disk.
        what: Names the file in messages.

    Raises:
        CorruptBlob: it is not a sealed file, of a version that is not known, or shorter or longer than it says.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptBlob(f"{what} has {num_bytes} bytes; a sealed file has at least {HEADER_BYTES}", hint=_HINT)
    magic, chunk_bytes, zero, clear_bytes, key_id, salt = _HEADER.unpack(data[:HEADER_BYTES])
    if magic[:7] == MAGIC[:7] and magic != MAGIC:
        raise CorruptBlob(
            f"{what} is sealed in version {magic[7]} of the format; this ashore reads version {MAGIC[7]}",
            hint="open it with the ashore version that sealed it, or a newer one",
        )
    if magic != MAGIC:
        raise CorruptBlob(f"{what} is not a sealed file: it begins with {magic!r}", hint=_HINT)
    if chunk_bytes not in CHUNK_SIZES or zero or clear_bytes > MAX_CLEAR_BYTES:
        raise CorruptBlob(
            f"{what} says that it has {clear_bytes} bytes in chunks of {chunk_bytes}; no sealed file has", hint=_HINT
        )
    header = Header(clear_bytes=clear_bytes, key_id=key_id.hex(), salt=salt, chunk_bytes=chunk_bytes)
    if header.sealed_bytes != num_bytes:
        raise CorruptBlob(
            f"{what} has {num_bytes} bytes; its header says {header.sealed_bytes}: it was cut short or added to",
            hint=_HINT,
        )
    return header


def nonce_of(number: int) -> bytes:
    """Return the nonce of a chunk. Unique because no two files share a key."""
    return number.to_bytes(12, "big")


def authenticated(header: bytes, number: int, num_chunks: int) -> bytes:
    """Return the associated data of a chunk."""
    return header + _PLACE.pack(number, number == num_chunks - 1)


def cipher_of(data_key: bytes, header: Header) -> AESGCM:
    """Return the cipher with the file's own key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(derive(data_key, salt=header.salt, info=_INFO))


def derive(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """Return a key for one purpose from a secret (HKDF-SHA256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


_HINT: Final = "restore the file from a backup, or pull or import the model again"
