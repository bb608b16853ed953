"""The authority for everything that must not be lost: the SQL engine, its schema, migrations, and epochs.

Owns: opening, transactions, versions, snapshots before a migration, and telling processes that something changed.
Refuses: what a row means to its room.
"""

from ashore.state.epochs import EpochWatch, bump, read_epochs
from ashore.state.model import KeyRow, TuningRow
from ashore.state.ports import Changes, Database
from ashore.state.schema import SCHEMA_VERSION
from ashore.state.sqlite import open_database, path_of_url
from ashore.state.statement import execute, execute_many
from ashore.state.tables import add_key, list_keys, load_tuning, save_tuning

__all__ = [
    "SCHEMA_VERSION",
    "Changes",
    "Database",
    "EpochWatch",
    "KeyRow",
    "TuningRow",
    "add_key",
    "bump",
    "execute",
    "execute_many",
    "list_keys",
    "load_tuning",
    "open_database",
    "path_of_url",
    "read_epochs",
    "save_tuning",
]
