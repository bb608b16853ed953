"""Secrets of the state under a data key, whose envelope lies in the state too: machines that share one share the key.

The supervisor opens the envelope with the key source and holds the data key in memory; workers take it from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.errors import SealingKeyMissing
from ashore.kit.sealing.box import SecretBox, is_boxed
from ashore.kit.sealing.clearfiles import KeyInMemory, read_key
from ashore.kit.sealing.datakeys import DataKey, close_envelope, envelope_key_id, new_data_key, open_envelope, rewrap
from ashore.kit.sealing.ports import KeyKeeper
from ashore.kit.state import SealOf, SecretRow, exchange_secrets, list_secrets, read_note, write_note

if TYPE_CHECKING:
    from sqlalchemy import Connection

ENVELOPE: Final = "sealing-envelope"
"""Row of the table of secrets with the envelope of the data key."""


def are_secrets_sealed(connection: Connection) -> bool:
    """Return whether the secrets of a state are sealed."""
    return read_note(connection, ENVELOPE) is not None


def seal_secrets(connection: Connection, keeper: KeyKeeper) -> DataKey:
    """Seal every clear secret under the state's data key, created on the first call; return that key.

    May be called twice, by several machines at once too. Needs a write transaction.

    Raises:
        SealingKeyMissing, CorruptBlob: the secrets are sealed, and the keeper cannot open their key.
    """
    note = read_note(connection, ENVELOPE)
    if note is None:
        key = new_data_key()
        write_note(connection, ENVELOPE, close_envelope(key, keeper).decode())
    else:
        key = open_envelope(note.encode(), keeper, key_id=envelope_key_id(note.encode()))
    box = SecretBox(key)

    def sealed(name: str, value: str) -> str:
        return value if is_boxed(value) else box.seal(name, bytes.fromhex(value))

    exchange_secrets(connection, sealed, leave=ENVELOPE)
    return key


def unseal_secrets(connection: Connection, keeper: Callable[[], KeyKeeper]) -> None:
    """Write the secrets of a state back in clear, and delete their data key. May be called twice."""
    note = read_note(connection, ENVELOPE)
    if note is None:
        return
    box = SecretBox(open_envelope(note.encode(), keeper(), key_id=envelope_key_id(note.encode())))
    exchange_secrets(
        connection, lambda name, value: box.open(name, value).hex() if is_boxed(value) else value, leave=ENVELOPE
    )
    write_note(connection, ENVELOPE, None)


def rewrap_secrets(connection: Connection, keeper: Callable[[], KeyKeeper], to: KeyKeeper | None) -> bool:
    """Rewrap the state's data key, as `DataKeys.rewrap`; False if there is none or nothing changed."""
    note = read_note(connection, ENVELOPE)
    if note is None:
        return False
    fresh = rewrap(note.encode(), envelope_key_id(note.encode()), keeper, to)
    if fresh is not None:
        write_note(connection, ENVELOPE, fresh.decode())
    return fresh is not None


def secrets_by_link(link: Path, otherwise: Callable[[], KeyKeeper] | None = None) -> SealOf:
    """Return how a worker opens them: with the key that the supervisor holds behind `link` (`hold_secrets_key`).

    A command that runs without a supervisor opens them with the key source `otherwise`.
    """

    def seal_of(connection: Connection) -> SecretBox | None:
        note = read_note(connection, ENVELOPE)
        if note is None:
            return None
        envelope = note.encode()
        try:
            return SecretBox(read_key(str(link), envelope_key_id(envelope), what="the secrets of the state are sealed"))
        except SealingKeyMissing:
            if otherwise is None:
                raise
        return SecretBox(open_envelope(envelope, otherwise(), key_id=envelope_key_id(envelope)))

    return seal_of


def secret_rows(connection: Connection) -> tuple[SecretRow, ...]:
    """Return the secrets of a state, and which are sealed."""
    return list_secrets(connection, leave=ENVELOPE)


def hold_secrets_key(key: DataKey, link: Path) -> KeyInMemory:
    """Hold a data key in memory while the returned object lives, and make `link` point to it."""
    held = KeyInMemory(key)
    link.unlink(missing_ok=True)
    link.symlink_to(held.path)
    return held
