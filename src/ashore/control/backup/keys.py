"""The two keys of a backup: the home's own, which encrypts every backup, and the recovery key, which unwraps it.

The home's key is random and lies in the home. On each node lies an envelope: that key, encrypted under the recovery
key. So a home can back up while the recovery key is kept elsewhere, and the nodes and the recovery key suffice to read
everything. Neither key is ever backed up.

Derived from the home's key (HKDF-SHA256, salt: the id of the backup): the names of objects, the key of commits. The
keys of objects are derived by `sealing` with a salt of each write.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.control.backup.shards import checksum
from ashore.core.errors import BackupDamaged, RecoveryKeyWrong
from ashore.core.nearest import did_you_mean
from ashore.kit.sealing import DataKey, derive, read_secret_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_PREFIX: Final = "ASHORE-BACKUP-1"
_CHECK_BYTES: Final = 3
_ENVELOPE: Final = b"ashore backup envelope 1"
_NAMES: Final = b"ashore backup names 1"
_COMMITS: Final = b"ashore backup commits 1"
HINT: Final = "give the file that `ashore backup init` wrote as backup-recovery-key: --recovery-key FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKey:
    """The home's key of one backup, and its derived keys."""

    vault_id: str
    secret: bytes = field(repr=False)

    @property
    def data_key(self) -> DataKey:
        """The key that seals objects; its id reveals nothing about it."""
        return DataKey(key_id=self.vault_id, secret=self.secret)

    def name_of(self, sha256: str) -> str:
        """Return the name of the object with this content: 32 hexadecimal digits, meaningless without the key."""
        key = derive(self.secret, salt=bytes.fromhex(self.vault_id), info=_NAMES)
        return hmac.new(key, bytes.fromhex(sha256), hashlib.sha256).hexdigest()[:32]

    def close(self, kind: str, number: int, data: bytes) -> bytes:
        """Return a small record encrypted: nonce, ciphertext, tag."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + _cipher(self.secret, self.vault_id, _COMMITS).encrypt(
            nonce, data, _bound(self.vault_id, kind, number)
        )

    def open(self, kind: str, number: int, data: bytes, *, what: str) -> bytes:
        """Return the plaintext of `close`.

        Raises:
            BackupDamaged: it was altered, or replaced by another record.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return _cipher(self.secret, self.vault_id, _COMMITS).decrypt(
                data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(self.vault_id, kind, number)
            )
        except (InvalidTag, ValueError) as error:
            raise BackupDamaged(f"{what} was altered or replaced by an old one: it cannot be opened") from error


def new_vault_key() -> VaultKey:
    """Return a new random key for a backup."""
    return VaultKey(vault_id=secrets.token_hex(16), secret=secrets.token_bytes(KEY_BYTES))


def new_recovery_key() -> bytes:
    """Return a new random recovery key."""
    return secrets.token_bytes(KEY_BYTES)


def wrap(key: VaultKey, recovery: bytes) -> str:
    """Return the envelope of the home's key, base64."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = _cipher(recovery, key.vault_id, _ENVELOPE).encrypt(nonce, key.secret, bytes.fromhex(key.vault_id))
    return base64.b64encode(nonce + sealed).decode()


def unwrap(vault_id: str, envelope: str, recovery: bytes) -> VaultKey:
    """Return the home's key from its envelope.

    Raises:
        RecoveryKeyWrong: the recovery key is that of another backup.
    """
    from cryptography.exceptions import InvalidTag

    try:
        data = base64.b64decode(envelope, validate=True)
        secret = _cipher(recovery, vault_id, _ENVELOPE).decrypt(
            data[:NONCE_BYTES], data[NONCE_BYTES:], bytes.fromhex(vault_id)
        )
    except (InvalidTag, ValueError) as error:
        raise RecoveryKeyWrong(
            f"the recovery key does not open the backup {vault_id[:8]}; it belongs to another backup, or is an old one",
            hint=HINT + "; without it nobody can read this backup",
        ) from error
    return VaultKey(vault_id=vault_id, secret=secret)


def envelope_id(envelope: str) -> str:
    """Return the identity of an envelope: a mark with an older one was rolled back."""
    return hashlib.sha256(envelope.encode()).hexdigest()


def recovery_text(recovery: bytes, *, vault_id: str) -> str:
    """Return the recovery key as a text file: one line with a checksum against typing errors."""
    body = base64.b32encode(recovery + checksum(recovery)[:_CHECK_BYTES]).decode()
    groups = "-".join(body[at : at + 4] for at in range(0, len(body), 4))
    return (
        f"# Recovery key of the ashore backup {vault_id[:8]}. Whoever has it and the nodes can read the backup;\n"
        "# without it nobody can. Keep it away from this machine and from the nodes, then delete this file.\n"
        f"{_PREFIX}-{groups}\n"
    )


def parse_recovery(text: str) -> bytes:
    """Return the recovery key from its text.

    Raises:
        RecoveryKeyWrong: it is not a key, or has a typing error; raised before anything is read.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    body = "".join(lines).upper().replace(" ", "")
    if not body.startswith(_PREFIX):
        seen = body[: len(_PREFIX)] or "nothing"
        raise RecoveryKeyWrong(
            f"that is not a recovery key: it begins with {seen!r}, expected {_PREFIX!r}",
            hint=did_you_mean(seen, (_PREFIX,)) if body else HINT,
        )
    try:
        data = base64.b32decode(body.removeprefix(_PREFIX).replace("-", ""))
    except binascii.Error as error:
        raise RecoveryKeyWrong(
            "the recovery key was copied with an error: a character is missing", hint=HINT
        ) from error
    if len(data) != KEY_BYTES + _CHECK_BYTES or checksum(data[:KEY_BYTES])[:_CHECK_BYTES] != data[KEY_BYTES:]:
        raise RecoveryKeyWrong("the recovery key was copied with an error: its checksum does not fit", hint=HINT)
    return data[:KEY_BYTES]


def read_recovery(path: Path) -> bytes:
    """Return the recovery key of a file that only its owner can read.

    Raises:
        RecoveryKeyWrong, SealingKeyMissing, InvalidSpec: it has no key, is missing, or others may read it.
    """
    data = read_secret_file(path, what="the recovery key", renew="ashore backup rekey")
    return parse_recovery(data.decode("utf-8", "replace"))


def _cipher(secret: bytes, vault_id: str, info: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(derive(secret, salt=bytes.fromhex(vault_id), info=info))


def _bound(vault_id: str, kind: str, number: int) -> bytes:
    return bytes.fromhex(vault_id) + kind.encode() + number.to_bytes(8, "big")
