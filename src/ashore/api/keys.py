"""The key table of the state, as what tells keys apart: read at the start, on reload, and when the epoch of keys moves.

Where the topology names no state, the first key's own file takes its place; where it names no key either, the door is
open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ashore.access import Authenticator, KeyDigest, KeyScope, KeyTable, OpenDoor, Principal, read_first_key
from ashore.core import TenantId
from ashore.errors import AshoreError
from ashore.serving import Topology
from ashore.state import Database, EpochWatch, KeyRow, list_keys

KEYS_EPOCH: Final = "keys"
"""Bumped by whoever changes the table while workers run."""

log = logging.getLogger("ashore.worker")


class Keys:
    """Who authenticates in one worker, kept as the state has it."""

    def __init__(self, topology: Topology, database: Database | None, watch: EpochWatch | None = None) -> None:
        """Read the keys, and again whenever `watch` sees their epoch move, which it tells on its own thread.

        Raises:
            AshoreError: the state cannot be read, or there is neither a state nor a readable first key.
        """
        self._database = database if topology.first_key_file else None
        self._table = KeyTable()
        self.authenticator: Authenticator = self._table
        if not topology.first_key_file:
            self.authenticator = OpenDoor()
        elif database is None:
            self.authenticator = KeyTable.with_first_key(read_first_key(Path(topology.first_key_file)))
        else:
            if watch is not None:
                watch.on_change(lambda kind, value: self._take_or_say() if kind == KEYS_EPOCH else None)
            self._take()  # after the line above, so that no change falls between them

    async def reread(self) -> None:
        """Read again, as on `reload`.

        Raises:
            AshoreError: the state cannot be read; the keys stay as they were.
        """
        if self._database is not None:
            await asyncio.to_thread(self._take)

    def _take_or_say(self) -> None:
        try:
            self._take()
        except AshoreError as fault:
            log.error("the keys stay as they were: %s (%s)", fault.message, fault.hint)

    def _take(self) -> None:
        assert self._database is not None
        with self._database.read() as connection:
            rows = list_keys(connection)
        self._table.take(_entries(rows))


def _entries(rows: Iterable[KeyRow]) -> list[tuple[KeyDigest, Principal]]:
    return [(KeyDigest(bytes.fromhex(row.digest)), _principal(row)) for row in rows]


def _principal(row: KeyRow) -> Principal:
    first = row.key_id.startswith("first-key")
    return Principal(
        id=row.principal,
        tenant=TenantId(row.tenant),
        kind="first-key" if first else "key",
        roles=frozenset(("first-key",) if first else ("developer", "viewer")),
        key_id=row.key_id,
        scope=KeyScope(actions=row.scopes or ("none",)),
    )
