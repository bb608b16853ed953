"""Names that a caller may be wrong about: what is set or asked for one that was mistyped concerns nobody."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, Protocol, get_args

from ashore.core.nearest import did_you_mean
from ashore.errors import NotFound

Noun = Literal["tenant", "user", "key", "model"]
NOUNS: Final[tuple[Noun, ...]] = get_args(Noun)
_MADE_BY_TOKENS: Final = "create a tenant that only tokens name with `ashore access tenant create NAME` first"


class Names(Protocol):
    """Which tenants, accounts, keys and models there are."""

    def has(self, noun: Noun, name: str) -> bool:
        """Return whether there is one of this name."""
        ...

    def some(self, noun: Noun) -> Collection[str]:
        """Return names among which one that looks like a mistyped one may be; not all, where there are very many."""
        ...


class _EveryName:
    """Where nobody keeps names, every one may be."""

    def has(self, noun: Noun, name: str) -> bool:
        return True

    def some(self, noun: Noun) -> Collection[str]:
        return ()


EVERY_NAME: Final[Names] = _EveryName()


def check_named(names: Names, noun: Noun, name: str, *, to: str = "", every: str = "*") -> None:
    """Return when there is such a thing, or `name` is empty or `every`.

    Args:
        names: Which there are.
        noun: What is named.
        name: As the caller wrote it.
        to: What it is wanted for, for the message: `for a budget to be about`.
        every: The name that stands for each of them.

    Raises:
        NotFound: there is none; the hint has a name that looks like it.
    """
    if name and name != every and not names.has(noun, name):
        near = did_you_mean(name[:100], names.some(noun))
        raise NotFound(
            " ".join(filter(None, (f"there is no {noun} {name[:100]!r}", to))),
            hint=f"{near}; {_MADE_BY_TOKENS}" if noun == "tenant" else near,
            param=noun,
        )
