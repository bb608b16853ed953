"""Usage: sums, prices and CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal, get_args

from ashore.core.errors import InvalidRequest
from ashore.data.authority.budgets.model import Usage

Column = Literal["day", "tenant", "user", "model"]
COLUMNS: Final[tuple[Column, ...]] = get_args(Column)
NUMBERS: Final = ("requests", "hits", "prompt_tokens", "completion_tokens", "cached_tokens", "refused")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters that a spreadsheet takes for a formula (OWASP, CSV injection)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Internal price of a model's tokens."""

    per_million_prompt_tokens: Decimal
    per_million_completion_tokens: Decimal
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Usage summed by some of its columns; the others are empty."""

    usage: Usage
    cost: Decimal | None
    """None where a model in it has no price, or two have other currencies."""
    currency: str


def added(one: Usage, other: Usage) -> Usage:
    """Return the sum of two, under the names of the first."""
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in NUMBERS})


def sum_by(usages: Iterable[Usage], columns: Sequence[Column], prices: Mapping[str, Price]) -> tuple[UsageSum, ...]:
    """Return usage summed by some columns, with its cost; sorted."""
    found: dict[tuple[str, ...], UsageSum] = {}
    for usage in usages:
        key = tuple(getattr(usage, column) for column in columns)
        empty = Usage(day="", tenant="", user="", model="")
        named = replace(empty, **dict(zip(columns, key, strict=True)))
        price = prices.get(usage.model)
        cost = None if price is None else cost_of(usage, price)
        currency = "" if price is None else price.currency
        before = found.get(key)
        if before is None:
            found[key] = UsageSum(usage=added(named, usage), cost=cost, currency=currency)
            continue
        same = before.cost is not None and cost is not None and before.currency == currency
        found[key] = UsageSum(
            usage=added(before.usage, usage),
            cost=before.cost + cost if same and before.cost is not None and cost is not None else None,
            currency=currency if same else "",
        )
    return tuple(found[key] for key in sorted(found))


def cost_of(usage: Usage, price: Price) -> Decimal:
    """Return the cost of a usage, exact to a millionth of the price's last digit."""
    million = Decimal(1_000_000)
    return (
        price.per_million_prompt_tokens * usage.prompt_tokens / million
        + price.per_million_completion_tokens * usage.completion_tokens / million
    )


def columns_of(text: str) -> tuple[Column, ...]:
    """Parse a comma-separated list of columns, `tenant,day`.

    Raises:
        InvalidRequest: one is not a column.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in COLUMNS:
            raise InvalidRequest(f"usage has no column {name!r}", hint=f"use any of {', '.join(COLUMNS)}", param="by")
    return tuple(column for column in COLUMNS if column in names) or COLUMNS


def as_csv(sums: Iterable[UsageSum], columns: Sequence[Column]) -> str:
    """Return a CSV table; no cell can be taken for a formula by a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*columns, *NUMBERS, "cost", "currency"])
    for one in sums:
        numbers = [getattr(one.usage, name) for name in NUMBERS]
        names = [safe_cell(getattr(one.usage, column)) for column in columns]
        writer.writerow([*names, *numbers, "" if one.cost is None else f"{one.cost:f}", safe_cell(one.currency)])
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Return a name that no spreadsheet takes for a formula, with an apostrophe before anything like one."""
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) or text.startswith(_FORMULA) else text
