"""Adapters of a new release: those of the live release and new ones; none is removed silently. Pure."""

from __future__ import annotations

from collections.abc import Collection

from ashore.core.errors import Conflict, InvalidRequest
from ashore.core.nearest import did_you_mean
from ashore.data.releases import Book

Adapters = tuple[tuple[str, str], ...]


def adapters_of(live: Adapters, named: Adapters, dropped: Collection[str]) -> Adapters:
    """Return the adapters of a new release, by name: those of the live release without the dropped ones, and the named
    ones, which replace others of the same name.

    Raises:
        InvalidRequest: the live release has no adapter of a dropped name.
    """
    known = dict(live)
    for name in dropped:
        if name not in known:
            raise InvalidRequest(
                f"cannot drop the adapter {name[:60]!r}: the live release has no adapter of that name",
                hint=did_you_mean(name[:60], known),
                param="drop_adapters",
            )
    kept = {name: folder for name, folder in live if name not in dropped}
    return tuple(sorted({**kept, **dict(named)}.items()))


def check_kept(book: Book, alias: str, release: str, dropped: Collection[str]) -> None:
    """Check that every name `ALIAS:ADAPTER` that answers now also answers under a release, or is dropped by name.

    Raises:
        Conflict: a name would stop answering.
    """
    has = dict(book.releases[release].plan.adapters)
    now = {name for one in book.live_of(alias) for name, _ in book.releases[one.release].plan.adapters}
    lost = sorted(now - has.keys() - set(dropped))
    if lost:
        names = ", ".join(f"{alias}:{name}" for name in lost)
        raise Conflict(
            f"{release} lacks the adapter {', '.join(lost)}: requests for {names} would be refused",
            hint=f"create a release that has it, or drop it: --drop-adapters {','.join(lost)}",
        )
