"""The format of a shard: a header, then the shard's fragment of each stripe with its checksum. Pure; no disk, no key.

What is coded is a sealed file (`sealing`): its chunks, each as many encrypted bytes as clear ones and a tag of 16. Each
chunk is a stripe: filled with zeros to `k` fragments of equal length, a multiple of 64 bytes; `m` parities of the same
length come beside them. Shard `i` has fragment `i` of every stripe; those from `k` on are parities.

    offset  bytes
    0       8      magic, `ASHBACK` and the version, 1
    8       1      k
    9       1      m
    10      1      number of this shard, from 0
    11      1      zero
    12      4      zero
    16      16     id of the backup
    32      16     name of the object
    48      72     header of the sealed file (see `sealing`): its size, its key, the salt of this write
    120     32     BLAKE3 of the 120 bytes before
    152            blocks: a fragment, then 32 bytes of BLAKE3 over the header's checksum, the stripe's number in 8
                   bytes, and the fragment

So a reader without a key detects a block that was flipped, moved, repeated, or taken from another shard or write of the
object. Forgeries by an adversary on a node are detected by the chunk's tag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ashore.control.backup.code import Code
from ashore.core.errors import BackupDamaged
from ashore.kit.sealing import SEALED_HEADER_BYTES, TAG_BYTES, Header, read_header

MAGIC: Final = b"ASHBACK\x01"
HASH_BYTES: Final = 32
ALIGN: Final = 64
_HEADER: Final = struct.Struct(f">8sBBBBI16s16s{SEALED_HEADER_BYTES}s")
HEADER_BYTES: Final = _HEADER.size + HASH_BYTES
_NUMBER: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHeader:
    """Header of a shard."""

    code: Code
    index: int
    vault_id: str
    """32 hexadecimal digits."""
    name: str
    """Of the object; 32 hexadecimal digits."""
    sealed: Header

    def to_bytes(self) -> bytes:
        """Return the header with its checksum."""
        plain = _HEADER.pack(
            MAGIC,
            self.code.k,
            self.code.m,
            self.index,
            0,
            0,
            bytes.fromhex(self.vault_id),
            bytes.fromhex(self.name),
            self.sealed.to_bytes(),
        )
        return plain + checksum(plain)

    @property
    def num_stripes(self) -> int:
        return self.sealed.num_chunks

    def fragment_bytes(self, stripe: int) -> int:
        """Return the length of each fragment of a stripe."""
        return fragment_bytes(self.code, self.sealed.clear_size(stripe))

    def offset(self, stripe: int) -> int:
        """Return the offset of a stripe's block; all blocks but the last have the same length."""
        full = fragment_bytes(self.code, self.sealed.chunk_bytes) + HASH_BYTES
        return HEADER_BYTES + stripe * full

    @property
    def shard_bytes(self) -> int:
        last = self.num_stripes - 1
        return self.offset(last) + self.fragment_bytes(last) + HASH_BYTES


def fragment_bytes(code: Code, clear_bytes: int) -> int:
    """Return the fragment length of a stripe with so many plaintext bytes."""
    return -(-(clear_bytes + TAG_BYTES) // (code.k * ALIGN)) * ALIGN


def checksum(data: bytes | memoryview) -> bytes:
    """Return the BLAKE3 of bytes."""
    from blake3 import blake3

    return blake3(data).digest()


def block_checksum(header_hash: bytes, stripe: int, fragment: memoryview) -> bytes:
    """Return the checksum of a block, bound to its shard, its write and its position."""
    from blake3 import blake3

    hasher = blake3(header_hash + _NUMBER.pack(stripe))
    hasher.update(fragment)
    return hasher.digest()


def parse_shard_header(data: bytes, *, what: str) -> ShardHeader:
    """Return the header at the beginning of a shard.

    Args:
        data: The first `HEADER_BYTES` of the shard, or all of it where it is shorter.
        what: Names the shard in messages.

    Raises:
        BackupDamaged: it is not a shard, has another version, or was altered.
    """
    if len(data) < HEADER_BYTES:
        raise BackupDamaged(f"{what} has {len(data)} bytes; a shard has at least {HEADER_BYTES}", hint=HINT)
    plain = bytes(data[: _HEADER.size])
    if plain[:7] == MAGIC[:7] and plain[7] != MAGIC[7] and checksum(plain) == bytes(data[_HEADER.size : HEADER_BYTES]):
        raise BackupDamaged(
            f"{what} is of version {plain[7]} of the format; this ashore reads version {MAGIC[7]}",
            hint="read it with the ashore version that wrote it, or a newer one",
        )
    if checksum(plain) != bytes(data[_HEADER.size : HEADER_BYTES]) or not plain.startswith(MAGIC):
        raise BackupDamaged(f"the header of {what} was altered: its checksum does not match", hint=HINT)
    _, k, m, index, _, _, vault_id, name, sealed = _HEADER.unpack(plain)
    size = _sealed_bytes(sealed)
    return ShardHeader(
        code=Code(k, m),
        index=index,
        vault_id=vault_id.hex(),
        name=name.hex(),
        sealed=read_header(sealed, size, what=what),
    )


def _sealed_bytes(sealed: bytes) -> int:
    """Return the size of the sealed file from its header, so that only the header is judged."""
    chunk_bytes, _, clear_bytes = struct.unpack_from(">IIQ", sealed, 8)
    num_chunks = max(1, -(-clear_bytes // max(1, chunk_bytes)))
    return int(SEALED_HEADER_BYTES + clear_bytes + TAG_BYTES * num_chunks)


HINT: Final = "rebuild it from the other nodes with `ashore backup scrub`"
