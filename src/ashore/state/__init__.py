"""The authority for everything that must not be lost: the SQL engine, its schema, migrations, and epochs.

Owns: opening, transactions, versions, snapshots before a migration, and telling processes that something changed.
Refuses: what a row means to its room.
"""

from ashore.state.epochs import EpochWatch, bump, read_epochs
from ashore.state.model import TuningRow
from ashore.state.opening import open_state
from ashore.state.ports import Changes, Database
from ashore.state.postgres import is_postgres_url, open_postgres
from ashore.state.schema import schema_version
from ashore.state.secrets import (
    SealOf,
    SecretRow,
    SecretSeal,
    content_key_name,
    exchange_secrets,
    kept_secret,
    list_secrets,
    opened_secret,
    read_note,
    write_note,
    written_secret,
)
from ashore.state.section import StateSection
from ashore.state.sqlite import copy_database, has_state, open_database, path_of_url
from ashore.state.statement import announce, execute, execute_many, is_postgres, row_lock
from ashore.state.tables import load_tuning, save_tuning

__all__ = [
    "Changes",
    "Database",
    "EpochWatch",
    "SealOf",
    "SecretRow",
    "SecretSeal",
    "StateSection",
    "TuningRow",
    "announce",
    "bump",
    "content_key_name",
    "copy_database",
    "exchange_secrets",
    "execute",
    "execute_many",
    "has_state",
    "is_postgres",
    "is_postgres_url",
    "kept_secret",
    "list_secrets",
    "load_tuning",
    "open_database",
    "open_postgres",
    "open_state",
    "opened_secret",
    "path_of_url",
    "read_epochs",
    "read_note",
    "row_lock",
    "save_tuning",
    "schema_version",
    "write_note",
    "written_secret",
]
