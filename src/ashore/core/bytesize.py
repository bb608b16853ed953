"""Formats bytes for people. Inside ashore a size is always an `int` of bytes."""

from __future__ import annotations


def human_bytes(num_bytes: int) -> str:
    """Return `num_bytes` with three significant digits and a binary unit: 134515008 gives `128 MiB`."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
