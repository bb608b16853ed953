"""Acts on one row of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ashore.control.console.kit import Act, Row, Table, act
from ashore.control.console.pages import Placed, is_list, on_row, row_calls
from ashore.control.console.reader import Reader
from ashore.data.authority.actions import ACCESS_WRITE

STORED: Final = {
    "model verify": "ref",
    "model seal": "name",
    "model remove": "ref",
    "optimize quantize": "model",
    "optimize prune": "model",
    "optimize distill": "teacher",
    "optimize evaluate": "model",
    "train sft": "model",
    "release create": "model",
}
ON_ROWS: Final = {"model list": ("reference", STORED)}
"""Calls of other nouns that act on a row of a list: the row's field, and by call the field that it fills."""
OF_OTHERS: Final = {"access key rotate": ACCESS_WRITE, "access key revoke": ACCESS_WRITE}
"""Calls that everyone may make for their own things, and the right that they need for the things of others."""
WHOSE_ROW: Final = ("owner", "account", "account_id")
"""Columns that say whose a row is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A call of another noun about one row."""

    placed: Placed
    column: str
    field: str


class Listed(Protocol):
    """A list, and the acts on its rows."""

    @property
    def placed(self) -> Placed: ...
    @property
    def acts(self) -> tuple[Placed, ...]: ...
    @property
    def beside(self) -> tuple[Beside, ...]: ...
    @property
    def own_only(self) -> frozenset[str]: ...
    @property
    def me(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRows:
    """A list that a page shows on its own."""

    placed: Placed
    acts: tuple[Placed, ...]
    own_only: frozenset[str]
    """Which of them the reader may do with what is their own alone."""
    me: str
    beside: tuple[Beside, ...] = ()


def beside_rows(reader: Reader, lead: Placed) -> tuple[Beside, ...]:
    """Return the calls of other nouns that the reader is offered for the rows of a list."""
    column, fields = ON_ROWS.get(lead.key, ("", {}))
    found = ((reader.acts.atlas.by_key.get(key), field) for key, field in fields.items())
    return tuple(
        Beside(placed=one, column=column, field=field) for one, field in found if one is not None and reader.offers(one)
    )


def own_only(reader: Reader, calls: Iterable[Placed]) -> frozenset[str]:
    """Return the calls that the reader may make only for their own things."""
    holds, whole = reader.acts.authority.holds, reader.session.whole
    return frozenset(one.key for one in calls if one.key in OF_OTHERS and not holds(whole, OF_OTHERS[one.key]))


def acts_on_rows(reader: Reader, placed: Placed) -> OnRows:
    """Return the acts that the reader may do on the rows of a call's answer; none if it is not a list."""
    calls = [one for one in reader.acts.atlas.on(placed.page, placed.tab) if reader.offers(one)]
    acts = tuple(row_calls(calls, placed)) if is_list(placed.call) else ()
    return OnRows(placed=placed, acts=acts, own_only=own_only(reader, calls), me=reader.session.principal.id)


def row_links(listed: Listed, table: Table, row: Row) -> list[Act]:
    """Return the acts for one row of an answer, those that destroy last."""
    values: dict[str, Any] = dict(row.values)
    whose = next((values[name] for name in WHOSE_ROW if values.get(name)), listed.me)
    found = []
    if table.name == "items":
        for near in listed.beside:
            if values.get(near.column):
                named = near.placed.call.word == "create"
                found.append(act(near.placed, {near.field: values[near.column]}, named=named))
    for one in listed.acts:
        if one.key in listed.own_only and whose != listed.me:
            continue
        if (given := on_row(one.call, listed.placed.call, values, of_list=table.name == "items")) is not None:
            if one.call.method == "PUT":  # its form begins with what the row has
                given |= {name: value for name in one.call.takes.__struct_fields__
                          if isinstance(value := values.get(name), str) and value}  # fmt: skip
            found.append(act(one, given))
    return sorted(found, key=lambda one: (one.danger, not one.shows))
