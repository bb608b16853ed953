"""Ed25519 keys of the audit: one signs, earlier ones are stored by their public half, and each signs its successor.

The private key is in the home but outside the audit folder: write access to the log must not imply signing. It is
sealed if the home has a key source; the public halves are always readable.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.errors import CorruptBlob, InvalidSpec, NotFound, SealingKeyMissing
from ashore.core.foreign import foreign_errors
from ashore.kit.folders import make_folder
from ashore.kit.sealing import SecretFolder
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNING_KEY: Final = "signing-key.pem"
NEXT_KEY: Final = "next-signing-key.pem"
PUBLIC_KEYS: Final = "public-keys.pem"
"""Every public key of this home, the oldest first."""
PUBLIC_KEY_COPY: Final = "public-key.pem"
"""Copy beside the record, to be handed to auditors. Nothing here trusts it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Verifies signatures."""

    raw: bytes

    @property
    def key_id(self) -> str:
        """Name of the key: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def text(self) -> str:
        """Return it as base64, as a checkpoint names it."""
        return base64.b64encode(self.raw).decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether the private half signed `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    @classmethod
    def from_text(cls, text: str) -> PublicKey | None:
        """Return the key in base64; None if it is not one."""
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            return None
        return cls(raw) if len(raw) == 32 else None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Signs checkpoints and exports."""

    private: Ed25519PrivateKey = field(repr=False)
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes."""
        return self.private.sign(message)


def new_signing_key() -> SigningKey:
    """Return a new random key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return _with_public(Ed25519PrivateKey.generate())


def load_signing_key(folder: SecretFolder) -> SigningKey:
    """Return the signing key of this home, created if there is none.

    The caller must hold the lock of the checkpoints.

    Raises:
        InvalidSpec: the file has no Ed25519 key; it is never replaced automatically.
        SealingKeyMissing, CorruptBlob: the key is sealed and cannot be opened.
    """
    if not folder.exists(SIGNING_KEY):
        if folder.exists(PUBLIC_KEYS):
            path = folder.path / SIGNING_KEY
            raise InvalidSpec(f"{path} is missing, and this home has signed with it", hint="restore it from a backup")
        key = new_signing_key()
        keep_signing_key(folder, key)
        return key
    return _read_private(folder, SIGNING_KEY)


def keep_signing_key(folder: SecretFolder, key: SigningKey) -> None:
    """Make `key` the signing key. Public halves are written first, so that none is ever missing."""
    make_folder(folder.path, mode=0o700)
    path = folder.path / PUBLIC_KEYS
    known = read_public_keys(path) if path.exists() else ()
    if key.public not in known:
        write_whole(path, "".join(pem_of(one) for one in (*known, key.public)).encode(), mode=0o644)
    with closed_keys_told():
        folder.write(SIGNING_KEY, _private_pem(key))


def keep_next_key(folder: SecretFolder, key: SigningKey) -> None:
    """Store a key that is about to be named as the next one."""
    with closed_keys_told():
        folder.write(NEXT_KEY, _private_pem(key))


def take_next_key(folder: SecretFolder, named: str) -> None:
    """Activate the stored next key if `named` is its public half; else delete it.

    May be called twice.
    """
    if not folder.exists(NEXT_KEY):
        return
    key = _read_private(folder, NEXT_KEY)
    if key.public.text == named:
        keep_signing_key(folder, key)
    folder.remove(NEXT_KEY)


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """Return the keys in a PEM file, one or several.

    Raises:
        NotFound: there is no such file.
        InvalidSpec: it holds none, or something else.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        text = path.read_text(errors="replace")
    except OSError as fault:
        raise NotFound(
            f"{path}: {fault.strerror}", hint="name the public key of the home: --public-key FILE"
        ) from fault
    found = []
    end = "-----END PUBLIC KEY-----"
    for block in text.split(end)[:-1]:
        begin = block.rfind("-----BEGIN PUBLIC KEY-----")
        with foreign_errors(
            f"{path} contains a key that cannot be read",
            InvalidSpec,
            hint="get the key again from the owner of the home",
        ):
            key = serialization.load_pem_public_key((block[max(0, begin) :] + end + "\n").encode())
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidSpec(
                f"{path} contains a {type(key).__name__}",
                hint="give an Ed25519 key; the audit log is signed with Ed25519",
            )
        found.append(PublicKey(key.public_bytes_raw()))
    if not found:
        raise InvalidSpec(
            f"{path} does not contain a public key", hint="give a PEM file with a line -----BEGIN PUBLIC KEY-----"
        )
    return tuple(found)


def pem_of(key: PublicKey) -> str:
    """Return a public key in PEM."""
    der = bytes.fromhex("302a300506032b6570032100") + key.raw  # RFC 8410
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"


def write_copy(folder: Path, keys: Iterable[PublicKey]) -> None:
    """Write the public keys beside the audit log, where auditors look for them."""
    write_whole(folder / PUBLIC_KEY_COPY, "".join(pem_of(key) for key in keys).encode(), mode=0o644)


def _read_private(folder: SecretFolder, name: str) -> SigningKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder.path / name
    with closed_keys_told():
        pem = folder.read(name)
    with foreign_errors(f"{path} does not contain a key", InvalidSpec, hint="restore it from a backup"):
        private = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidSpec(
            f"{path} contains a {type(private).__name__}",
            hint="give an Ed25519 key; the audit log is signed with Ed25519",
        )
    return _with_public(private)


@contextmanager
def closed_keys_told() -> Iterator[None]:
    """Explain what a sealed, unavailable key prevents, and what still works."""
    try:
        yield
    except (SealingKeyMissing, CorruptBlob) as fault:
        raise type(fault)(
            "the audit signing key is sealed and cannot be opened, so nothing can be signed: no checkpoint, no "
            f"export, no key rotation. {fault.message}",
            hint=f"{fault.hint}. `ashore audit verify` and `search` still work, because they need only public keys; "
            "if the key is lost for good, see docs/reference/sealing.md",
        ) from fault


def _private_pem(key: SigningKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _with_public(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(private, PublicKey(private.public_key().public_bytes_raw()))
