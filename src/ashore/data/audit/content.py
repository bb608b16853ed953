"""Content logging of prompts and answers: ciphertext under a key of each person.

The log cannot be changed, so erasable content is only stored encrypted: erasing a person destroys their key, which
makes their content unreadable. The chain stays intact.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ashore.core.errors import NotFound, TamperedAudit
from ashore.data.audit.model import Sealed
from ashore.kit.state import Database, bump, content_key_name, execute, insert, opened_secret, written_secret

if TYPE_CHECKING:
    from sqlalchemy import Connection

SUBJECTS_EPOCH: Final = "audit-subjects"
"""Moves when somebody was erased: every process forgets the keys that it holds."""
MAX_BYTES: Final = 1 << 20
"""Of a prompt, and of an answer; more is cut. The digest is of the whole."""
NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key that seals one person's content."""

    key_id: str
    secret: bytes = field(repr=False)


class SqlSubjectKeys:
    """Keys in the state, sealed like its other secrets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self, subject: str) -> SubjectKey:
        """Return the key of a person, created if needed. Concurrent processes get the same one."""
        with self._database.write() as connection:
            found = self._live(connection, subject)
            if found is None:
                key = new_subject_key()
                secret = written_secret(connection, content_key_name(key.key_id), key.secret)
                row = {"key_id": key.key_id, "subject": subject, "secret": secret, "created_s": int(time.time())}
                insert(connection, "audit_subject", row, once=True)
                found = self._live(connection, subject)
        assert found is not None
        return found

    def find(self, key_id: str) -> SubjectKey | None:
        """Return a key by its name; None if it was destroyed or never existed."""
        with self._database.read() as connection:
            statement = "SELECT secret FROM audit_subject WHERE key_id = :key_id AND erased_s IS NULL"
            secret = execute(connection, statement, key_id=key_id).scalar()
            return None if secret is None else _opened(connection, key_id, str(secret))

    def subjects(self) -> Mapping[str, int]:
        """Return everyone who ever had a key, with the number of remaining keys: 0 if erased."""
        statement = "SELECT subject, COUNT(secret) - COUNT(erased_s) AS living FROM audit_subject GROUP BY subject"
        with self._database.read() as connection:
            return {str(row.subject): int(row.living) for row in execute(connection, statement)}

    def erase(self, subject: str) -> int:
        """Destroy every key of a person, also in the files of the state, and return how many. May be called twice.

        Raises:
            Overloaded: the keys are disabled, but a file still has them; call again.
        """
        with self._database.write() as connection:
            live = "SELECT key_id, secret FROM audit_subject WHERE subject = :subject AND erased_s IS NULL"
            gone = execute(connection, live, subject=subject).all()
            for key in gone:  # needs no key that it is sealed with
                # the same length, so that it overwrites the same bytes of the page
                execute(
                    connection,
                    "UPDATE audit_subject SET secret = :nothing, erased_s = :at "
                    "WHERE key_id = :key_id AND erased_s IS NULL",
                    nothing="0" * len(str(key.secret)),
                    at=int(time.time()),
                    key_id=key.key_id,
                )
            bump(connection, SUBJECTS_EPOCH)
        self._database.scrub()
        return len(gone)

    def _live(self, connection: Connection, subject: str) -> SubjectKey | None:
        statement = "SELECT key_id, secret FROM audit_subject WHERE subject = :subject AND erased_s IS NULL"
        row = execute(connection, statement, subject=subject).mappings().first()
        return None if row is None else _opened(connection, str(row["key_id"]), str(row["secret"]))


class ContentSealer:
    """A `Sealer` for the writer, and its inverse. Thread-safe."""

    def __init__(self, keys: SqlSubjectKeys) -> None:
        self._keys = keys
        self._known: dict[str, SubjectKey] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop cached keys; called when a person was erased."""
        with self._lock:
            self._known = {}

    def seal(self, subject: str, prompt: bytes, answer: bytes) -> Sealed | None:
        with self._lock:
            key = self._known.get(subject)
            if key is None:
                key = self._known[subject] = self._keys.current(subject)
        return Sealed(answer=_seal(key, b"answer", answer), key_id=key.key_id, prompt=_seal(key, b"prompt", prompt))

    def open(self, sealed: Sealed) -> tuple[bytes, bytes]:
        """Return prompt and answer.

        Raises:
            NotFound: the key was destroyed.
            TamperedAudit: the ciphertext was changed.
        """
        key = self._keys.find(sealed.key_id)
        if key is None:
            raise NotFound(
                f"the key {sealed.key_id} of this content was destroyed",
                hint="its subject was erased; it cannot be read any more",
            )
        return _open(key, b"prompt", sealed.prompt), _open(key, b"answer", sealed.answer)


def new_subject_key() -> SubjectKey:
    """Return a new random key."""
    return SubjectKey(f"subject-{secrets.token_hex(8)}", secrets.token_bytes(32))


def _opened(connection: Connection, key_id: str, text: str) -> SubjectKey:
    return SubjectKey(key_id, opened_secret(connection, content_key_name(key_id), text))


def _seal(key: SubjectKey, what: bytes, clear: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(nonce, clear[:MAX_BYTES], key.key_id.encode() + b"/" + what)
    return base64.b64encode(nonce + sealed).decode()


def _open(key: SubjectKey, what: bytes, text: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    raw = base64.b64decode(text)
    try:
        return AESGCM(key.secret).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], key.key_id.encode() + b"/" + what)
    except InvalidTag as fault:
        raise TamperedAudit("the sealed content was altered", hint="run `ashore audit verify`") from fault
