"""Secrets that belong to the state: made when they are first asked for, the same for every process that shares it.

Where a key source is configured they lie sealed (`ashore.sealing`); this room knows only how to tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ashore.errors import SealingKeyMissing
from ashore.state.statement import execute

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
        """Return the secret. Raises `CorruptBlob` where it was altered."""
        ...


SealOf = Callable[["Connection"], SecretSeal | None]
"""Gives the seal of the state behind a connection; None: its secrets are not sealed."""


def kept_secret(connection: Connection, name: str) -> bytes:
    """Return the secret of that name, 32 random bytes that the first call of all makes. Needs a writing transaction.

    Raises:
        SealingKeyMissing: it is sealed, and the key is not at hand.
        CorruptBlob: it is sealed, and was altered.
    """
    seal = _seal_of(connection)
    fresh = secrets.token_bytes(SECRET_BYTES)
    execute(
        connection,
        "INSERT INTO secret (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING",
        name=name,
        value=fresh.hex() if seal is None else seal.seal(name, fresh),
    )
    value = str(execute(connection, "SELECT value FROM secret WHERE name = :name", name=name).scalar_one())
    if not value.startswith(SEALED):
        return bytes.fromhex(value)
    if seal is None:
        raise SealingKeyMissing(
            f"the secret {name} of the state is sealed, and no key source is configured",
            hint='set [sealing] key = "…" in ashore.toml, or ASHORE_SEALING_KEY, as when it was sealed',
        )
    return seal.open(name, value)


def exchange_secrets(connection: Connection, change: Callable[[str, str], str], *, leave: str) -> int:
    """Write every secret anew as `change(name, value)` gives it, all but the row `leave`; return how many changed."""
    rows = execute(connection, "SELECT name, value FROM secret WHERE name <> :name", name=leave).all()
    changed = 0
    for name, before in ((str(row.name), str(row.value)) for row in rows):
        after = change(name, before)
        if after != before:
            execute(
                connection,
                "UPDATE secret SET value = :after WHERE name = :name AND value = :before",
                name=name,
                before=before,
                after=after,
            )
            changed += 1
    return changed


def read_note(connection: Connection, name: str) -> str | None:
    """Return a text that is kept among the secrets and is none; None where it is absent."""
    return execute(connection, "SELECT value FROM secret WHERE name = :name", name=name).scalar_one_or_none()


def write_note(connection: Connection, name: str, text: str | None) -> None:
    """Keep such a text, or with None remove it."""
    if text is None:
        execute(connection, "DELETE FROM secret WHERE name = :name", name=name)
        return
    execute(
        connection,
        "INSERT INTO secret (name, value) VALUES (:name, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name=name,
        value=text,
    )


def _seal_of(connection: Connection) -> SecretSeal | None:
    seal_of: SealOf | None = connection.get_execution_options().get(OPTION)
    return None if seal_of is None else seal_of(connection)
