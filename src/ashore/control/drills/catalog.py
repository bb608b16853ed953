"""The drills that ship with ashore."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import msgspec

from ashore.control.drills.model import Drill
from ashore.kit.textfile import read_toml


@cache
def all_drills() -> Mapping[str, Drill]:
    """Return the drills of catalog.toml by name."""
    rows = read_toml(Path(__file__).with_name("catalog.toml"))
    return MappingProxyType({name: msgspec.convert({"name": name, **row}, Drill) for name, row in rows.items()})
