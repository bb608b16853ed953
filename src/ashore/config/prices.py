"""`[access.price."ALIAS"]`: what tokens cost inside the enterprise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ashore.config.table import Table
from ashore.errors import InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSpec:
    """What tokens of one alias cost inside the enterprise."""

    per_million_prompt_tokens: str
    """A decimal, as written."""
    per_million_completion_tokens: str
    currency: str


def read_prices(table: Table) -> Mapping[str, PriceSpec]:
    """Return `[access.price]`, by alias."""
    return {alias: _price(table.table(alias)) for alias in table.values}


def _price(table: Table) -> PriceSpec:
    table.known("per_million_prompt_tokens", "per_million_completion_tokens", "currency")
    currency = table.get("currency", str, "")
    if not currency.isalpha() or not currency.isascii() or not currency.isupper() or len(currency) != 3:
        raise InvalidSpec(f"{table.where} currency = {currency!r}", hint='a code of ISO 4217, "CNY"')
    return PriceSpec(
        per_million_prompt_tokens=_amount(table, "per_million_prompt_tokens"),
        per_million_completion_tokens=_amount(table, "per_million_completion_tokens"),
        currency=currency,
    )


def _amount(table: Table, name: str) -> str:
    """Return a number that is written plainly, or between quotes so that no digit of it is lost."""
    given = table.values.get(name, 0)
    try:
        amount = Decimal(str(given)) if isinstance(given, int | float | str) and not isinstance(given, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= 10**12:
        raise InvalidSpec(f"{table.where} {name} = {given!r}", hint='a number of at least 0, "12.50"')
    return f"{amount:f}"
