"""What a tenant's votes may be used for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args

from ashore.kit.state import Database, bump, execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

Purpose = Literal["train", "measure", "none"]
"""train: votes are counted, and question and answer become examples. measure: votes are counted, no text is kept. none:
no votes are taken."""
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
CONSENT_EPOCH: Final = "learning-consent"
"""Moves when a tenant's purpose was changed by command."""


class Consents:
    """The purposes in force: set by command, else by ashore.toml. Thread-safe."""

    def __init__(self, default: Purpose, tenants: Mapping[str, Purpose], database: Database) -> None:
        self._default, self._tenants = default, dict(tenants)
        self._database = database
        self._set: Mapping[str, Purpose] = {}
        self._lock = threading.Lock()
        self.refresh()

    def purpose(self, tenant: str) -> Purpose:
        """Return the current purpose of a tenant's votes. Never blocks."""
        return self._set.get(tenant) or self._tenants.get(tenant) or self._default

    def take_file(self, default: Purpose, tenants: Mapping[str, Purpose]) -> None:
        """Apply a changed ashore.toml."""
        self._default, self._tenants = default, dict(tenants)

    def refresh(self) -> None:
        """Read the purposes set by command."""
        with self._lock, self._database.read() as connection:
            self._set = load_purposes(connection)

    def by_command(self) -> Mapping[str, Purpose]:
        """Return the purposes set by command, by tenant."""
        return self._set


def load_purposes(connection: Connection) -> dict[str, Purpose]:
    """Return the purposes set by command, by tenant."""
    rows = execute(connection, "SELECT tenant, purpose FROM feedback_consent")
    return {str(row.tenant): row.purpose for row in rows if row.purpose in PURPOSES}


def save_purpose(connection: Connection, tenant: str, purpose: Purpose, *, changed_by: str, now_ms: int) -> None:
    """Set the purpose of a tenant; every process applies it within 200 ms of the commit."""
    row = {"tenant": tenant, "purpose": purpose, "changed_by": changed_by, "changed_ms": now_ms}
    upsert(connection, "feedback_consent", row, key="tenant")
    bump(connection, CONSENT_EPOCH)
