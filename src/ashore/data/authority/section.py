"""`[access]`: trusted issuers, and prices of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Final, Self

from msgspec import Meta, field
from msgspec.structs import replace

from ashore.core.errors import InvalidSpec
from ashore.data.authority.jwt import Issuer
from ashore.kit.section import Kept, Section, toml

MOST_DECIMALS: Final = 30
"""Without a limit `1e-999999999` is a gigabyte when it is written out."""
AMOUNTS = ("per_million_prompt_tokens", "per_million_completion_tokens")


class PriceSection(Section, frozen=True, kw_only=True):
    """Internal price of the tokens of one alias."""

    per_million_prompt_tokens: str = "0"
    """Price per million prompt tokens: a number, or a number in quotes to keep every digit."""
    per_million_completion_tokens: str = "0"
    """Price per million answer tokens."""
    currency: Annotated[str, Meta(examples=['"CNY"'])]
    """ISO 4217 code."""

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        return {**values, **{name: _amount(values[name], f"{where} {name}") for name in AMOUNTS if name in values}}

    def checked(self, where: str) -> Self:
        code = self.currency
        if not code.isalpha() or not code.isascii() or not code.isupper() or len(code) != 3:
            raise InvalidSpec(f"{where} currency = {code!r}", hint='expected an ISO 4217 code, such as "CNY"')
        return self


class AccessSection(Section, frozen=True, kw_only=True):
    """Token issuers, and what usage costs."""

    issuers: Annotated[tuple[Issuer, ...], toml("issuer")] = ()
    charge_hits: Kept[bool] = False
    """Charge a cached answer like a fresh one; otherwise it counts as one request and no tokens."""
    prices: Kept[Annotated[dict[str, PriceSection], toml("price")]] = field(default_factory=dict)

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        if "policy" in values:
            raise InvalidSpec(
                f"{where} names a policy, which belongs to the security officer, not to ashore.toml",
                hint="a security officer applies it with `ashore access policy apply FILE`",
            )
        return values

    def checked(self, where: str) -> Self:
        for what in ("name", "issuer"):
            values = [getattr(issuer, what) for issuer in self.issuers]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise InvalidSpec(
                    f"{where} has two issuers with the {what} {twice!r}", hint=f"give each issuer its own {what}"
                )
        return self

    def beside(self, folder: Path) -> Self:
        """Return the section with files as paths that hold anywhere: relative ones are in `folder`."""
        issuers = (
            replace(one, jwks_file=str(folder / Path(one.jwks_file).expanduser())) if one.jwks_file else one
            for one in self.issuers
        )
        return replace(self, issuers=tuple(issuers))


def _amount(given: object, where: str) -> str:
    """Return a number that is written plainly, or between quotes so that no digit of it is lost."""
    try:
        amount = Decimal(str(given)) if isinstance(given, int | float | str) and not isinstance(given, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= 10**12 or _decimals(amount) > MOST_DECIMALS:
        raise InvalidSpec(f"{where} = {given!r}", hint='expected a number of at least 0, such as "12.50"')
    return f"{amount:f}"


def _decimals(amount: Decimal) -> int:
    """Return the places after the point of a finite number as it would be written without an exponent."""
    return -int(amount.as_tuple().exponent)
