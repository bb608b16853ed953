"""Lists with a cursor: `after`, `limit`, `order`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from ashore.core.errors import InvalidRequest, UnknownField
from ashore.core.wholenumber import whole_number
from ashore.data.http.exchange import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The requested part of a list."""

    limit: int
    after: str
    """Id of the last one of the page before; empty: from the beginning."""
    oldest_first: bool
    query: dict[str, str]


def page_of(exchange: Exchange, *, default: int, most: int, extra: Sequence[str] = ()) -> Page:
    """Return the page that the query requests.

    Raises:
        UnknownField: it has a parameter that the list does not support.
        InvalidRequest: a value is malformed.
    """
    query = exchange.query()
    known = ("after", "limit", "order", *extra)
    for name in query:
        if name not in known:
            raise UnknownField(f"unknown parameter {name[:80]!r}", hint=", ".join(known), param=name[:80])
    asked = query.get("limit", str(default))
    limit = whole_number(asked)
    if limit is None or not 1 <= limit <= most:
        raise InvalidRequest(f"limit is {asked[:20]!r}; expected 1 to {most}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order is {order[:20]!r}; expected asc or desc", param="order")
    return Page(limit=limit, after=query.get("after", ""), oldest_first=order == "asc", query=query)


class Ends(TypedDict):
    """The first and the last id of a page; None where it is empty."""

    first_id: str | None
    last_id: str | None


def ends_of(ids: Sequence[str]) -> Ends:
    """Return the first and the last id of a page, as answers name them."""
    return {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
