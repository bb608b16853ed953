"""Whom a budget can be about: names that exist. A budget for a name that was mistyped bounds nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Literal, Protocol, get_args

from ashore.access import sql
from ashore.access.budgets.model import EACH, BudgetRule
from ashore.access.records import FIRST_KEY_ID
from ashore.core import did_you_mean
from ashore.errors import NotFound
from ashore.state import Database

Noun = Literal["tenant", "user", "key", "model"]
NOUNS: Final[tuple[Noun, ...]] = get_args(Noun)


class Names(Protocol):
    """Which tenants, accounts, keys and models there are."""

    def has(self, noun: Noun, name: str) -> bool:
        """Return whether there is one of this name."""
        ...

    def some(self, noun: Noun) -> Collection[str]:
        """Return names among which one that looks like a mistyped one may be; not all, where there are very many."""
        ...


class SqlNames:
    """Names in the state. Of somebody who comes in by an issuer, `corp:alice`, the state may know nothing: they are
    taken as they are."""

    def __init__(self, database: Database, models: Callable[[], Collection[str]]) -> None:
        """`models`: gives the aliases that there are, those of other machines too."""
        self._database = database
        self._models = models

    def has(self, noun: Noun, name: str) -> bool:
        if noun == "model":
            known = self._models()
            return name in known or name.rpartition(":")[0] in known  # an adapter of it
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


def check_names(rule: BudgetRule, names: Names) -> None:
    """Return where everything that a rule names is there.

    Raises:
        NotFound: something is not; the hint has a name that looks like it.
    """
    for noun in NOUNS:
        value: str = getattr(rule, noun)
        if value and value != EACH and not names.has(noun, value):
            raise NotFound(
                f"there is no {noun} {value[:100]!r} for a budget to be about",
                hint=did_you_mean(value[:100], names.some(noun)),
                param=noun,
            )
