"""Checkpoints: periodic signed lines with the length of every chain of a home.

A line is `SIGNATURE SPACE JSON NEWLINE`. Each contains the hash of the line before it, so that none can be omitted, and
the heads of all chains, so that records they cover cannot be rewritten without the key.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ashore.data.audit.canonical import MAX_LINE_BYTES
from ashore.data.audit.chain import merkle_root
from ashore.data.audit.model import FORMAT, ChainName, Head
from ashore.data.audit.segments import chains_in, is_closing, last_record, segment_path, segments_of
from ashore.data.audit.signing import (
    PUBLIC_KEYS,
    PublicKey,
    SigningKey,
    keep_next_key,
    load_signing_key,
    new_signing_key,
    read_public_keys,
    take_next_key,
    write_copy,
)
from ashore.data.audit.writer import disk_faults
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.sealing import OpenEnvelope, SecretFolder
from ashore.kit.wholefile import opened

CHECKPOINTS: Final = "checkpoints.log"
SIGNED: Final = f"ashore audit checkpoint {FORMAT}\n".encode()
"""Prefix of signed data, so that no other signature of the key can be mistaken for a checkpoint's."""
BEGINNING: Final = hashlib.sha256(SIGNED).hexdigest()
QUIET_US: Final = 3_600_000_000
"""A checkpoint is made at least so often, even without records: it proves that there were none."""


class ChainHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The end of one chain, and where it begins on this machine."""

    after_hash: str = ""
    """Of the record before the first one that is still here; empty: nothing was archived."""
    after_seq: int = 0
    chain: str
    first: int = 1
    """First segment that is here; those before it are in the archive."""
    hash: str
    segment: int
    seq: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Content of one line."""

    at_us: int
    chains: tuple[ChainHead, ...]
    """Sorted by name."""
    format: int = FORMAT
    home: str
    """Name of the home: the first key that signed in it."""
    key_id: str
    next_key: str = ""
    """Public key that signs from here on; this line is the last of the one before."""
    number: int
    previous: str
    root: str
    """Merkle root over the heads."""

    def head_of(self, chain: str) -> ChainHead | None:
        """Return the head of a chain."""
        return next((head for head in self.chains if head.chain == chain), None)


_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(Checkpoint).decode


@dataclass(frozen=True, slots=True)
class SignedLine:
    """One line of the file."""

    number: int
    """Of the line, from 1."""
    raw: bytes
    """Without its newline."""
    whole: bool

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def signature(self) -> bytes:
        """Return the signature; empty if missing or not in canonical form."""
        text = self.raw.partition(b" ")[0]
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError:
            return b""
        return signature if base64.b64encode(signature) == text else b""

    @property
    def body(self) -> bytes:
        return self.raw.partition(b" ")[2]

    def checkpoint(self) -> Checkpoint:
        """Return the content of the line.

        Raises:
            msgspec.DecodeError: it is not a checkpoint.
        """
        try:
            return _decode(self.body)
        except UnicodeDecodeError as fault:
            raise msgspec.DecodeError(f"it is not UTF-8: {fault.reason}") from fault

    def is_signed_by(self, key: PublicKey) -> bool:
        return key.verifies(self.signature, SIGNED + self.body)


def signed_line(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """Return the line of a checkpoint, without its newline."""
    body = _encode(checkpoint)
    return base64.b64encode(key.sign(SIGNED + body)) + b" " + body


def read_checkpoints(path: Path) -> Iterator[SignedLine]:
    """Yield the lines of a checkpoint file, one at a time; nothing if there is no regular file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES):
            number += 1
            yield SignedLine(number, raw.removesuffix(b"\n"), raw.endswith(b"\n"))


def read_home(root: Path) -> str:
    """Return the name of the home that signs in this folder; empty before its first checkpoint."""
    first = next(read_checkpoints(root / CHECKPOINTS), None)
    return first.checkpoint().home if first is not None and first.whole else ""


def heads_root(heads: tuple[ChainHead, ...]) -> str:
    """Return the Merkle root over heads."""
    return merkle_root(_encode(head) for head in heads).hex()


class Checkpoints:
    """Makes the checkpoints of one home. Several processes may do so: they take turns by a lock."""

    def __init__(self, root: Path, keys: Path, opener: OpenEnvelope | None = None) -> None:
        """Create the object; touches nothing.

        Args:
            root: Folder of the audit.
            keys: Folder of its keys.
            opener: Opens sealed keys.
        """
        self._root = root
        self._keys = SecretFolder(keys, opener)
        self.shrunk: tuple[str, ...] = ()
        """Chains that the last call of `make` found shorter than they were signed before."""

    @property
    def home(self) -> str:
        """Name of the home: the first key that signed in it. Creates the key if there is none."""
        with self.locked():
            last = self._last()
            return last.checkpoint().home if last else self._key(None).public.key_id

    @property
    def path(self) -> Path:
        return self._root / CHECKPOINTS

    def make(self, at_us: int, *, force: bool = False, firsts: Mapping[str, ChainHead] | None = None) -> bytes | None:
        """Sign the current heads of the chains, and return the line; None if nothing happened since the last one.

        Every head is synced before it is signed, so that a signed record is never lost in a power failure.

        Args:
            at_us: The time.
            force: Sign even when nothing happened.
            firsts: Chains with a new local beginning, because earlier segments are in the archive.

        Raises:
            AuditUnavailable: it cannot be written.
            InvalidSpec: the key is gone or damaged.
            SealingKeyMissing, CorruptBlob: the key is sealed and cannot be opened.
        """
        with self.locked(), disk_faults(self._root):
            last = self._last()
            key = self._key(last)
            heads = self._heads(last.checkpoint() if last else None, firsts or {})
            if last is not None and not force:
                before = last.checkpoint()
                if before.chains == heads and 0 <= at_us - before.at_us < QUIET_US:
                    return None
            return self._append(self._next(last, heads, key, at_us), key)

    def rotate(self, at_us: int) -> tuple[PublicKey, bytes]:
        """Change the signing key: the old key signs the change. Return the new public key and the line.

        The new key is on disk before the line that names it, and is activated after; if a crash interrupts this, the
        next call completes it.
        """
        with self.locked(), disk_faults(self._root):
            last = self._last()
            key, fresh = self._key(last), new_signing_key()
            keep_next_key(self._keys, fresh)
            heads = self._heads(last.checkpoint() if last else None, {})
            line = self._append(
                msgspec.structs.replace(self._next(last, heads, key, at_us), next_key=fresh.public.text), key
            )
            take_next_key(self._keys, fresh.public.text)
            write_copy(self._root, read_public_keys(self._keys.path / PUBLIC_KEYS))
            return fresh.public, line

    def _key(self, last: SignedLine | None) -> SigningKey:
        """Return the signing key, after completing an interrupted key change."""
        take_next_key(self._keys, last.checkpoint().next_key if last else "")
        return load_signing_key(self._keys)

    def _next(self, last: SignedLine | None, heads: tuple[ChainHead, ...], key: SigningKey, at_us: int) -> Checkpoint:
        before = last.checkpoint() if last else None
        return Checkpoint(
            at_us=at_us,
            chains=heads,
            home=before.home if before else key.public.key_id,
            key_id=key.public.key_id,
            number=before.number + 1 if before else 1,
            previous=last.hash if last else BEGINNING,
            root=heads_root(heads),
        )

    def _append(self, checkpoint: Checkpoint, key: SigningKey) -> bytes:
        line = signed_line(checkpoint, key)
        if checkpoint.number == 1:
            write_copy(self._root, read_public_keys(self._keys.path / PUBLIC_KEYS))
        with opened(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            size = os.fstat(descriptor).st_size
            try:
                os.write(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        return line

    def last(self) -> SignedLine | None:
        """Return the last checkpoint; None where there is none."""
        with self.locked(), disk_faults(self._root):
            return self._last()

    def _last(self) -> SignedLine | None:
        """Return the last checkpoint, after cutting off a half line left by a crash."""
        if not self.path.exists():
            return None
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            step, data = 65_536, b""
            while len(data) < size:
                file.seek(max(0, size - step))
                data = file.read(size - max(0, size - step))
                if data.count(b"\n") >= 2:
                    break
                step *= 4
            end = data.rfind(b"\n")
            if end + 1 < len(data):
                file.truncate(size - (len(data) - end - 1))
                os.fsync(file.fileno())
        if end < 0:
            return None
        return SignedLine(0, data[data.rfind(b"\n", 0, end) + 1 : end], True)

    def _heads(self, before: Checkpoint | None, firsts: Mapping[str, ChainHead]) -> tuple[ChainHead, ...]:
        heads = []
        for chain in chains_in(self._root):
            head = read_head(self._root, chain)
            if head is None:
                continue
            known = firsts.get(chain) or (before.head_of(chain) if before else None)
            heads.append(
                ChainHead(
                    after_hash=known.after_hash if known else "",
                    after_seq=known.after_seq if known else 0,
                    chain=chain,
                    first=known.first if known else 1,
                    hash=head.hash,
                    segment=head.segment,
                    seq=head.seq,
                )
            )
        seqs = {head.chain: head.seq for head in heads}
        self.shrunk = tuple(one.chain for one in before.chains if seqs.get(one.chain, 0) < one.seq) if before else ()
        gone = [one for one in before.chains if all(one.chain != head.chain for head in heads)] if before else []
        return tuple(sorted([*heads, *gone], key=lambda head: head.chain))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude all others from signing and from changing the keys."""
        make_folder(self._root, mode=0o700)
        with locked(self._root / "checkpoints.lock"):
            yield


def read_head(root: Path, chain: ChainName) -> Head | None:
    """Return the head of a chain on disk, after syncing it; None if it has no record yet."""
    for number in reversed(segments_of(root, chain)[-2:]):
        path = segment_path(root, chain, number)
        found = last_record(path)
        if found is None:
            continue
        line, record = found
        if not is_closing(record):
            with opened(path, os.O_RDONLY) as descriptor:
                os.fsync(descriptor)
        return Head(chain=chain, segment=number, seq=record.seq, hash=line.hash.hex())
    return None
