"""Datasets declared by rooms: ashore's own records about people, which can be queried with noise once there is a
budget.

A room declares its own in `datasets.json` of its folder, like its actions in `actions.json`.
"""

from __future__ import annotations

from functools import cache

import msgspec

from ashore.control.ledger.section import DatasetSection
from ashore.kit.listed import LISTED, PACKAGE


class Ready(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One such dataset, for every tenant."""

    name: str
    about: str
    """Description of a row and the columns."""
    select: str
    """On the state; `:tenant` is the one that is asked about."""
    unit: str
    rows_per_unit: int = 1
    first_word: tuple[str, ...] = ()
    """Columns with several words of which the first counts."""

    def section(self, tenant: str) -> DatasetSection:
        """Return it in the form of an entry in ashore.toml."""
        return DatasetSection(
            name=self.name, tenant=tenant, select=self.select, unit=self.unit, rows_per_unit=self.rows_per_unit
        )


@cache
def ready_datasets() -> dict[str, Ready]:
    """Return the declared datasets by name."""
    found: dict[str, Ready] = {}
    for one in LISTED:
        file = PACKAGE / one.folder.replace(".", "/") / "datasets.json"
        if file.exists():
            found |= {ready.name: ready for ready in msgspec.json.decode(file.read_bytes(), type=list[Ready])}
    return found
