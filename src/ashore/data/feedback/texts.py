"""Texts of people, each sealed under a key of its own account. Erasing a person destroys the key first, so that
remaining copies of their texts are unreadable.
"""

from __future__ import annotations

import base64
import secrets
import threading
from typing import Final

import msgspec

from ashore.core.errors import CorruptBlob
from ashore.data.audit import SqlSubjectKeys
from ashore.data.audit.content import NONCE_BYTES, SubjectKey
from ashore.data.feedback.model import Said

MOST_KEYS: Final = 10_000
"""Keys in memory; with more, all are forgotten and read again."""


def subject_of(tenant: str, account: str) -> str:
    """Return the name of an account's text key among the keys of the audit log, where it is erased too."""
    return f"feedback/{tenant}/{account}"


class SealedTexts:
    """Seals and opens texts. Thread-safe."""

    def __init__(self, keys: SqlSubjectKeys) -> None:
        self._keys = keys
        self._by_subject: dict[str, SubjectKey] = {}
        self._by_id: dict[str, SubjectKey | None] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop cached keys; called when a person was erased."""
        with self._lock:
            self._by_subject, self._by_id = {}, {}

    def key(self, tenant: str, account: str) -> SubjectKey:
        """Return the key of an account, created if needed. Not inside a write transaction."""
        subject = subject_of(tenant, account)
        with self._lock:
            found = self._by_subject.get(subject)
            if found is None:
                if len(self._by_subject) >= MOST_KEYS:
                    self._by_subject = {}
                found = self._by_subject[subject] = self._keys.current(subject)
        return found

    def find(self, key_id: str) -> SubjectKey | None:
        """Return a key by its name; None when it was destroyed."""
        with self._lock:
            if key_id not in self._by_id:
                if len(self._by_id) >= MOST_KEYS:
                    self._by_id = {}
                self._by_id[key_id] = self._keys.find(key_id)
            return self._by_id[key_id]

    def erase(self, tenant: str, account: str) -> int:
        """Destroy the keys of an account and return how many; what they sealed is unreadable from then on."""
        try:
            return self._keys.erase(subject_of(tenant, account))
        finally:
            self.forget()


def seal(key: SubjectKey, text: str) -> str:
    """Return a text sealed under a key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(nonce, text.encode("utf-8", "replace"), f"{key.key_id}/feedback".encode())
    return base64.b64encode(nonce + sealed).decode()


def opened(key: SubjectKey, sealed: str) -> str:
    """Return the plain text; an empty one stays empty.

    Raises:
        CorruptBlob: the sealed text was altered.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not sealed:
        return ""
    try:
        raw = base64.b64decode(sealed, validate=True)
        clear = AESGCM(key.secret).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], f"{key.key_id}/feedback".encode())
    except (InvalidTag, ValueError) as fault:
        raise CorruptBlob(
            f"a text sealed under {key.key_id} was altered", hint="restore the state from a backup"
        ) from fault
    return clear.decode("utf-8")


def as_text(messages: tuple[Said, ...]) -> str:
    """Return the messages of a question as the text that is sealed."""
    return msgspec.json.encode(messages).decode()


def messages_of(text: str) -> tuple[Said, ...]:
    """Return the messages again."""
    return msgspec.json.decode(text, type=tuple[Said, ...])
