"""`[access]`: whose tokens are believed, and what is charged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ashore.access import Issuer, check_issuer
from ashore.config.prices import PriceSpec, read_prices
from ashore.config.table import Table
from ashore.errors import InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSpec:
    """`[access]`."""

    issuers: tuple[Issuer, ...] = ()
    charge_hits: bool = False
    """True charges an answer from the cache like one made afresh; else it counts as one request and no tokens."""
    prices: Mapping[str, PriceSpec] = field(default_factory=dict)
    """By alias."""


def read_access(table: Table) -> AccessSpec:
    """Return `[access]`.

    Raises:
        InvalidSpec: an issuer is malformed or unsafe, or two have one name.
    """
    if "policy" in table.values:
        raise InvalidSpec(
            f"{table.where} names a policy; that is the security officer's, and ashore.toml the system administrator's",
            hint="a security officer puts it in force: `ashore access policy apply FILE`",
        )
    table.known("issuer", "charge_hits", "price")
    issuers = tuple(_issuer(one) for one in table.tables("issuer"))
    for what in ("name", "issuer"):
        values = [getattr(issuer, what) for issuer in issuers]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InvalidSpec(
                f"{table.where} has two issuers with the {what} {twice!r}", hint=f"each has its own {what}"
            )
    return AccessSpec(
        issuers=issuers,
        charge_hits=table.get("charge_hits", bool, False),
        prices=read_prices(table.table("price")),
    )


def beside(spec: AccessSpec, folder: Path) -> AccessSpec:
    """Return the spec with files as paths that hold anywhere: relative ones are in `folder`."""
    return replace(
        spec,
        issuers=tuple(
            replace(one, jwks_file=str(folder / Path(one.jwks_file).expanduser())) if one.jwks_file else one
            for one in spec.issuers
        ),
    )


def _issuer(table: Table) -> Issuer:
    table.known(*Issuer.__dataclass_fields__)
    default = Issuer(name="", issuer="", audience="")
    texts = {
        name: table.get(name, str, getattr(default, name))
        for name in (
            "name", "issuer", "audience", "jwks_url", "jwks_file", "subject_claim", "tenant", "tenant_claim",
            "groups_claim", "roles_claim",
        )
    }  # fmt: skip
    return check_issuer(
        Issuer(
            **texts,
            algorithms=table.texts("algorithms") or default.algorithms,
            skew_s=table.seconds("skew_s", default.skew_s, highest=600.0),
            longest_s=table.seconds("longest_s", default.longest_s, highest=31 * 86_400.0),
        )
    )
