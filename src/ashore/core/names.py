"""Checks names in settings and queries, so that a mistyped one is refused."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, Protocol, get_args

from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean

Noun = Literal["tenant", "user", "key", "model"]
NOUNS: Final[tuple[Noun, ...]] = get_args(Noun)
_MADE_BY_TOKENS: Final = "create a tenant that only tokens name with `ashore access tenant create NAME` first"


class Names(Protocol):
    """The existing tenants, accounts, keys and models."""

    def has(self, noun: Noun, name: str) -> bool:
        """Return whether this name exists."""
        ...

    def some(self, noun: Noun) -> Collection[str]:
        """Return candidate names for a suggestion; not all, if there are very many."""
        ...


class _EveryName:
    """Accepts every name, where names are not tracked."""

    def has(self, noun: Noun, name: str) -> bool:
        return True

    def some(self, noun: Noun) -> Collection[str]:
        return ()


EVERY_NAME: Final[Names] = _EveryName()


def check_named(names: Names, noun: Noun, name: str, *, to: str = "", every: str = "*") -> None:
    """Check that the named object exists, or that `name` is empty or `every`.

    Args:
        names: The existing names.
        noun: Kind of object.
        name: As the caller wrote it.
        to: Purpose, for the message: `to set a budget for`.
        every: The wildcard name.

    Raises:
        NotFound: there is none; the hint suggests a similar name.
    """
    if name and name != every and not names.has(noun, name):
        near = did_you_mean(name[:100], names.some(noun))
        raise NotFound(
            " ".join(filter(None, (f"there is no {noun} {name[:100]!r}", to))),
            hint=f"{near}; {_MADE_BY_TOKENS}" if noun == "tenant" else near,
            param=noun,
        )
