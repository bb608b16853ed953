"""What can be done with one row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from ashore.console.pages import Placed, is_list, on_row, row_calls
from ashore.console.present import Row, Table
from ashore.console.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An act that a page leads to."""

    placed: Placed
    query: str = ""

    @property
    def address(self) -> str:
        """Below `/console/`."""
        return f"{self.placed.address}?{self.query}" if self.query else self.placed.address


class Listed(Protocol):
    """A list, and the acts on its rows."""

    @property
    def placed(self) -> Placed: ...
    @property
    def acts(self) -> tuple[Placed, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRows:
    """A list that a page shows by itself."""

    placed: Placed
    acts: tuple[Placed, ...]


def acts_on_rows(reader: Reader, placed: Placed) -> OnRows:
    """Return what the reader may do with the rows of a call's answer; nothing where it is no list."""
    calls = [one for one in reader.acts.atlas.on(placed.page, placed.tab) if reader.offers(one)]
    return OnRows(placed=placed, acts=tuple(row_calls(calls, placed)) if is_list(placed.call) else ())


def row_links(listed: Listed, table: Table, row: Row) -> list[Link]:
    """Return what can be done with one row of an answer."""
    values: dict[str, Any] = dict(row.values)
    found = []
    for one in listed.acts:
        if (given := on_row(one.call, listed.placed.call, values, of_list=table.name == "items")) is not None:
            found.append(Link(placed=one, query=urlencode(given)))
    return found
