"""Names in the state: possible subjects of a budget, a purge or a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ashore.core.names import Noun
from ashore.data.authority import sql
from ashore.data.authority.records import FIRST_KEY_ID
from ashore.kit.state import Database


class SqlNames:
    """Names in the state. Users of an issuer, `corp:alice`, may not be in the state: their names are accepted
    unchecked."""

    def __init__(self, database: Database, models: Callable[[], Collection[str]]) -> None:
        """`models`: returns all aliases, those of other machines included."""
        self._database = database
        self._models = models

    def has(self, noun: Noun, name: str) -> bool:
        if noun == "model":
            known = self._models()  # beside them adapters, and servers of tools, as budgets and policies name those
            return name in known or name.rpartition(":")[0] in known or name.startswith("mcp/")
        with self._database.read() as connection:
            match noun:
                case "tenant":
                    return sql.find_tenant(connection, name) is not None
                case "user":
                    return name == FIRST_KEY_ID or ":" in name or sql.find_account(connection, name) is not None
                case "key":
                    return name.partition("@")[0] == FIRST_KEY_ID or sql.find_key(connection, name) is not None

    def some(self, noun: Noun) -> Collection[str]:
        if noun == "model":
            return self._models()
        with self._database.read() as connection:
            match noun:
                case "tenant":
                    return [tenant.name for tenant in sql.list_tenants(connection)]
                case "user":
                    return [account.id for account in sql.list_accounts(connection)]
                case "key":
                    return [key.key_id for key in sql.list_keys(connection)]
