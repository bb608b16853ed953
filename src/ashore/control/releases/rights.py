"""Which resources a move requires `release:write` on: one pure table.

A move changes an alias, and releases that start or stop answering under it. Both are checked: a right on one does not
allow a move of the other. A name chosen by the caller grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ashore.data.releases import Book, Release
from ashore.data.releases.changes import alias_of, release_of
from ashore.data.releases.moves import release_before

Move = Literal["create", "shadow", "canary", "promote", "standby", "retire", "rollback", "set", "remove"]


def resources_of(
    move: Move, book: Book, *, alias: str = "", release: str = "", releases: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the resources of a move, the one that the caller names first.

    | move | resources |
    |---|---|
    | create | the alias that it is for, the name that it gets |
    | shadow, canary, promote, standby, retire | the release, its alias |
    | rollback | the alias, the candidate that ends, the release that answers again |
    | set | the alias, every release that it is to lead to |
    | remove | the alias |

    Args:
        move: Kind of the move.
        book: The current book.
        alias: The alias; for moves of a release, the release's own.
        release: The release; for a rollback the requested one, empty for the one before.
        releases: Targets of the alias.

    Raises:
        NotFound: there is no such release or alias, or nothing to go back to.
    """
    match move:
        case "create":
            return f"alias/{alias}", f"release/{release}"
        case "shadow" | "canary" | "promote" | "standby" | "retire":
            return f"release/{release}", f"alias/{release_of(book, release).alias}"
        case "rollback":
            return f"alias/{alias}", *(f"release/{one}" for one in _moved_back(book, alias, release))
        case "set":
            return f"alias/{alias}", *(f"release/{one}" for one in sorted(releases))
        case "remove":
            return (f"alias/{alias}",)


def opened_by(book: Book, release: Release) -> tuple[str, ...]:
    """Return the other aliases whose model a release would make available under its own alias.

    These are the aliases of its model and of the models it was made from, under any store name. Models that its own
    alias leads to already do not count.
    """
    led = book.aliases[release.alias].releases
    opened = release.models.difference(*(book.releases[name].models for name in led))
    answering = (book.releases[name] for alias in book.aliases.values() for name in alias.releases)
    return tuple(sorted({one.alias for one in answering if one.plan.name in opened} - {release.alias}))


def _moved_back(book: Book, alias: str, to: str) -> tuple[str, ...]:
    alias_of(book, alias)
    candidate = book.candidate_of(alias)
    if candidate is None or to:
        back = release_before(book, alias, to).release
        return (back,) if candidate is None else (back, candidate.release)
    return (candidate.release,)
