"""Parses shares: `30%`, or `0.3`."""

from __future__ import annotations

from ashore.core.errors import InvalidRequest


def read_share(text: str) -> float:
    """Return `30%` or `0.3` as a share.

    Raises:
        InvalidRequest: neither, or not between 0 and 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise InvalidRequest(
            f"--remove is {text!r}; expected a share of the parameters above 0 and below 1",
            hint="write --remove 30% or --remove 0.3",
            param="remove",
        )
    return share
