"""Addresses that people, files and clients write."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

NO_ADDRESS: Final = SplitResult("", "", "", "", "")


def split_url(text: str) -> SplitResult:
    """Return the parts of a URL; empty ones where it is none, such as `https://[half`, for a check to refuse.

    `urllib` raises `ValueError` there, which nobody expects of a function that reads.
    """
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - looks whether it is a number
    except ValueError:
        return NO_ADDRESS
    return parts
