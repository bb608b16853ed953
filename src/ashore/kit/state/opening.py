"""Opens the database that a state URL names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ashore.core.clock import Clock
from ashore.kit.state.ports import Database
from ashore.kit.state.postgres import is_postgres_url, open_postgres
from ashore.kit.state.secrets import SealOf
from ashore.kit.state.sqlite import open_database, path_of_url


def open_state(
    url: str,
    *,
    default: Path,
    snapshots: Path,
    clock: Clock,
    say: Callable[[str], None] = lambda line: None,
    secrets: SealOf | None = None,
    create: bool = True,
) -> Database:
    """Open the state at `url`, created or migrated first; an empty URL means the SQLite file `default`.

    `secrets` opens what `kept_secret` finds sealed. Without `create` a missing file is not created: a part of a running
    server must not create its server's state.

    Raises:
        InvalidSpec: the URL names neither SQLite nor Postgres.
        StateLost: there is no such file, and `create` is off.
        HomeTooNew, StateUnavailable, MissingExtra: as the two databases say.
    """
    if is_postgres_url(url):
        return open_postgres(url, say=say, secrets=secrets)
    place = path_of_url(url, default=default)
    return open_database(place, snapshots=snapshots, clock=clock, say=say, secrets=secrets, create=create)
