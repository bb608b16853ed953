"""The inspection walk: what an auditor looks at, step by step; each step is a call with its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ashore.control.console.pages import Placed
from ashore.control.console.reader import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One step."""

    name: str
    """Key of its words, `walk.NAME`."""
    placed: Placed
    query: str

    @property
    def address(self) -> str:
        """Below `/console/`."""
        return f"{self.placed.address}?{self.query}" if self.query else self.placed.address


WALK: Final = (
    ("offices", "access role holders", "_send=1"),
    ("log-ins", "audit search", "action=session%3A*&_send=1"),
    ("refusals", "audit search", "outcome=denied&_send=1"),
    ("changes", "audit search", "action=access%3A*&_send=1"),
    ("keys", "access key list", "_send=1"),
    ("reach", "audit status", "_send=1"),
    ("verify", "audit verify", ""),
    ("masking", "privacy policy show", "_send=1"),
    ("export", "audit export", ""),
)
"""Name, call, and what its page is opened with."""


def walk_of(reader: Reader) -> Iterator[Stop]:
    """Yield the steps that a reader may take; none for those who may not verify."""
    verify = reader.acts.atlas.by_key.get("audit verify")
    if verify is None or not reader.offers(verify):
        return
    for name, key, query in WALK:
        placed = reader.acts.atlas.by_key.get(key)
        if placed is not None and reader.offers(placed):
            yield Stop(name=name, placed=placed, query=query)
