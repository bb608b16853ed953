"""Addresses that people, files and clients write."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

NO_ADDRESS: Final = SplitResult("", "", "", "", "")


def split_url(text: str) -> SplitResult:
    """Return the parts of a URL; empty ones for an invalid one, such as `https://[half`, for a later check to refuse.

    `urllib` raises `ValueError` there, which callers do not expect.
    """
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - looks whether it is a number
    except ValueError:
        return NO_ADDRESS
    return parts


def address_of(origin: str) -> str:
    """Return the address that failures are counted under: for IPv6 the whole /64."""
    if ":" not in origin:
        return origin
    try:
        address = ipaddress.IPv6Address(origin.partition("%")[0])
    except ValueError:
        return origin
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
