"""The authority for everything that must not be lost: the SQL engine, its schema, and migrations.

Owns: opening, transactions, versions, snapshots before a migration. Refuses: what a row means to its room.
"""

from ashore.state.model import KeyRow, TuningRow
from ashore.state.schema import SCHEMA_VERSION
from ashore.state.sqlite import Database, open_database, path_of_url
from ashore.state.tables import add_key, list_keys, load_tuning, save_tuning

__all__ = [
    "SCHEMA_VERSION",
    "Database",
    "KeyRow",
    "TuningRow",
    "add_key",
    "list_keys",
    "load_tuning",
    "open_database",
    "path_of_url",
    "save_tuning",
]
