"""Numbers of things as people read them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 record` or `2,000 records`.

    Args:
        count: How many.
        noun: Of one.
        plural: Of several, where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
