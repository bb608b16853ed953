"""Which resources somebody must have `release:write` on for a move: one pure table.

A move touches an alias, and releases that answer or stop answering under it. Both are named: who may write one of them
moves nothing of the other. A name that the caller chose opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ashore.releases.changes import alias_of, release_of
from ashore.releases.model import Book, Release
from ashore.releases.moves import release_before

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
        move: What is done.
        book: As it is.
        alias: That is moved; for moves of a release it is the release's own.
        release: That is made or moved; of a rollback the one that is asked for, empty for the one before.
        releases: That an alias is to lead to.

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
    """Return the other aliases whose model a release would have answer under its own alias too.

    Those under which its model answers now, or one that it was made from, under whatever name the store has it. What
    its own alias leads to already is not opened by it.
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
