"""Merges the metrics of several API workers into one page: counters and loads are added, shared values appear once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SEEN_BY_ALL: Final = (
    "ashore_host_", "ashore_replicas_ready", "ashore_route_price", "ashore_route_ready",
    "ashore_route_tokens_per_second", "ashore_shared_cache_up",
)  # fmt: skip
"""Beginnings of metrics in which every worker reports the same thing. The highest is kept."""


def merge_pages(pages: Sequence[bytes]) -> bytes:
    """Return one page in Prometheus' text form; the families stand in the order in which they first appear."""
    heads: dict[str, list[str]] = {}
    series: dict[str, dict[str, float]] = {}
    for page in pages:
        family = ""
        for line in page.decode().splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                told = heads.setdefault(family, [])
                if line not in told:
                    told.append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                found = series.setdefault(family, {})
                if name.startswith(SEEN_BY_ALL):
                    found[name] = max(found.get(name, float("-inf")), float(value))
                else:
                    found[name] = found.get(name, 0.0) + float(value)
    lines: list[str] = []
    for family, told in heads.items():
        lines += told
        lines += [f"{name} {value!r}" for name, value in series.get(family, {}).items()]
    return ("\n".join(lines) + "\n").encode()
