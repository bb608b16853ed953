"""Transactions of an event loop: each runs on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ashore.kit.state.ports import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

P = ParamSpec("P")
T = TypeVar("T")


async def in_write(
    database: Database, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return what `work` returns in a write transaction. Raises as `Database.write`."""
    return await asyncio.to_thread(_run, database.write, lambda c: work(c, *args, **kwargs))


async def in_read(
    database: Database, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return what `work` returns in a read transaction."""
    return await asyncio.to_thread(_run, database.read, lambda c: work(c, *args, **kwargs))


def _run(begin: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]) -> T:
    with begin() as connection:
        return work(connection)
