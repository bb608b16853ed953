"""Secrets of the state: created on first use, the same for every process that shares it.

If a key source is configured they are sealed (`ashore.kit.sealing`); this room only recognises that.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ashore.core.errors import SealingKeyMissing
from ashore.kit.state.statement import execute, insert, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECRET_BYTES: Final = 32
SEALED: Final = "sealed:"
"""How the text of a sealed secret begins."""
OPTION: Final = "ashore_secrets"
"""Execution option of a database's engine: a `SealOf`."""


class SecretSeal(Protocol):
    """Seals small secrets, each bound to its name."""

    def seal(self, name: str, secret: bytes) -> str:
        """Return the secret as text that begins with `SEALED`."""
        ...

    def open(self, name: str, boxed: str) -> bytes:
        """Return the secret. Raises `CorruptBlob` if it was altered."""
        ...


SealOf = Callable[["Connection"], SecretSeal | None]
"""Gives the seal of the state behind a connection; None: its secrets are not sealed."""


def kept_secret(connection: Connection, name: str) -> bytes:
    """Return the secret of that name, 32 random bytes created on first use. Needs a write transaction.

    Raises:
        SealingKeyMissing: it is sealed, and the key is unavailable.
        CorruptBlob: it is sealed, and was altered.
    """
    value = read_note(connection, name)
    if value is None:
        value = written_secret(connection, name, secrets.token_bytes(SECRET_BYTES))
        insert(connection, "secret", {"name": name, "value": value}, once=True)
        value = str(execute(connection, "SELECT value FROM secret WHERE name = :name", name=name).scalar_one())
    return opened_secret(connection, name, value)


def written_secret(connection: Connection, name: str, secret: bytes) -> str:
    """Return a secret as the text to store in a table row, sealed if the secrets of this state are.

    Tables whose rows hold such texts are named in `_TABLES`, so that sealing finds them.

    Raises:
        SealingKeyMissing: they are sealed, and the key is unavailable.
    """
    seal = _seal_of(connection)
    return secret.hex() if seal is None else seal.seal(name, secret)


def opened_secret(connection: Connection, name: str, text: str) -> bytes:
    """Return the secret from the output of `written_secret` under the same name.

    Raises:
        SealingKeyMissing: it is sealed, and the key is unavailable.
        CorruptBlob: it is sealed, and was altered.
    """
    if not text.startswith(SEALED):
        return bytes.fromhex(text)
    seal = _seal_of(connection)
    if seal is None:
        raise SealingKeyMissing(
            f"the secret {name} of the state is sealed, and no key source is configured",
            hint='set [sealing] key = "…" in ashore.toml, or ASHORE_SEALING_KEY, to the source it was sealed with',
        )
    return seal.open(name, text)


def content_key_name(key_id: str) -> str:
    """Return the name under which a key of stored prompts and answers is sealed."""
    return f"{_CONTENT_KEY}{key_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """One secret of a state, without its value."""

    name: str
    sealed: bool


def list_secrets(connection: Connection, *, leave: str) -> tuple[SecretRow, ...]:
    """Return every secret of a state by name, except the row `leave`."""
    rows = [row for table in _TABLES for row in _rows_of(connection, table, leave)]
    return tuple(SecretRow(name=name, sealed=value.startswith(SEALED)) for _, name, value in rows)


def exchange_secrets(connection: Connection, change: Callable[[str, str], str], *, leave: str) -> int:
    """Replace every secret by `change(name, value)`, except the row `leave`; return how many changed."""
    changed = 0
    for table in _TABLES:
        for key, name, before in _rows_of(connection, table, leave):
            after = change(name, before)
            if after != before:
                execute(connection, table.update, key=key, before=before, after=after)
                changed += 1
    return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class _SecretTable:
    """A table with secrets: how its rows are read and rewritten."""

    select: str
    update: str
    prefix: str = ""
    """Before the key of a row, in the name that it is sealed under."""


_CONTENT_KEY: Final = "audit-content-key/"
_FACTOR: Final = "login-factor/"
_TABLES: Final = (
    _SecretTable(
        select="SELECT name AS id, value FROM secret",
        update="UPDATE secret SET value = :after WHERE name = :key AND value = :before",
    ),
    _SecretTable(
        select="SELECT key_id AS id, secret AS value FROM audit_subject WHERE erased_s IS NULL",
        update="UPDATE audit_subject SET secret = :after WHERE key_id = :key AND secret = :before AND erased_s IS NULL",
        prefix=_CONTENT_KEY,
    ),
    _SecretTable(
        select="SELECT id, factor AS value FROM login_account WHERE factor <> ''",
        update="UPDATE login_account SET factor = :after WHERE id = :key AND factor = :before",
        prefix=_FACTOR,
    ),
    _SecretTable(
        select="SELECT id, factor_new AS value FROM login_account WHERE factor_new <> ''",
        update="UPDATE login_account SET factor_new = :after WHERE id = :key AND factor_new = :before",
        prefix=_FACTOR,
    ),
)


def _rows_of(connection: Connection, table: _SecretTable, leave: str) -> list[tuple[str, str, str]]:
    """Return key, name and text of each row of a table, except the row `leave`."""
    rows = [(str(row.id), str(row.value)) for row in execute(connection, table.select).all()]
    return [(key, table.prefix + key, value) for key, value in rows if table.prefix + key != leave]


def read_note(connection: Connection, name: str) -> str | None:
    """Return a non-secret text stored among the secrets; None if absent."""
    return execute(connection, "SELECT value FROM secret WHERE name = :name", name=name).scalar_one_or_none()


def write_note(connection: Connection, name: str, text: str | None) -> None:
    """Store such a text; None removes it."""
    if text is None:
        execute(connection, "DELETE FROM secret WHERE name = :name", name=name)
        return
    upsert(connection, "secret", {"name": name, "value": text}, key="name")


def _seal_of(connection: Connection) -> SecretSeal | None:
    seal_of: SealOf | None = connection.get_execution_options().get(OPTION)
    return None if seal_of is None else seal_of(connection)
