"""Environment of a third-party engine in every container: no outside calls, writes only below /tmp."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.data.engines import CARDS

QUIET: Final[Mapping[str, str]] = MappingProxyType(
    {name: value for card in CARDS if card.program for name, value in card.program.quiet.items()}
    | {"DO_NOT_TRACK": "1", "HOME": "/tmp"}
)
