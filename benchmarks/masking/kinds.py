"""The kinds of the set, which of them have a structure that can be checked, and what a detector calls them."""

from __future__ import annotations

from typing import Final

STRUCTURED: Final = (
    "cn_id", "cn_mobile", "cn_landline", "bank_card", "cn_uscc", "cn_passport", "cn_plate", "email",
    "iban", "us_ssn", "phone", "ip", "secret", "private_key",
)  # fmt: skip
LOOSE: Final = ("name", "address")
"""Names and addresses: no checksum says what is one, so they are reported apart."""

FAMILIES: Final = (frozenset({"cn_mobile", "cn_landline", "phone"}), frozenset({"secret", "private_key"}))
"""Kinds that count as one another: a number is masked as well by the name of its neighbour."""


def same_family(one: str, other: str) -> bool:
    """Return whether a finding of `one` finds an identifier of `other`."""
    return one == other or any({one, other} <= family for family in FAMILIES)
