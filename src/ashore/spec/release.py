"""`[release]`: how candidates are tried."""

from __future__ import annotations

from typing import Final

from ashore.releases.policy import DEFAULT_PAIRS, ReleasePolicy
from ashore.spec.table import Table

MOST_PAIRS: Final = 200


def read_release(table: Table) -> ReleasePolicy:
    """Return `[release]`.

    Raises:
        InvalidSpec: a key is unknown or a value out of bounds.
    """
    table.known("pairs")
    return ReleasePolicy(pairs=table.number("pairs", DEFAULT_PAIRS, lowest=0, highest=MOST_PAIRS))
