"""`[statistics]`: datasets for statistics with noise."""

from __future__ import annotations

from typing import Annotated, Self

import msgspec

from ashore.core.errors import InvalidSpec
from ashore.kit.section import AFile, AtLeast1, Section, toml

Named = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=['"calls-by-department"'])]


class DatasetSection(Section, frozen=True, kw_only=True):
    """One dataset. Nobody sees its rows: `ashore privacy query` answers with noise, from the budget that a security
    officer granted for it."""

    name: Named
    """What questions and budgets call it."""
    tenant: str = "default"
    """Tenant whose data it is."""
    file: AFile = ""
    """CSV with a line of names, or JSONL; at most 256 MiB. Either this or `select`."""
    select: str = ""
    """A SELECT on the state database, for what ashore itself keeps."""
    unit: Annotated[str, msgspec.Meta(examples=['"user"'])]
    """Column that says whose row it is. The promise is made to each of these, not to each row."""
    rows_per_unit: AtLeast1 = 1
    """Most rows of one unit that count; what comes after them is left out. More rows need more noise."""

    def checked(self, where: str) -> Self:
        if bool(self.file) == bool(self.select):
            raise InvalidSpec(f"{where} needs either file or select", hint='write file = "/srv/calls.csv"')
        if self.select and not self.select.lstrip().lower().startswith("select "):
            raise InvalidSpec(f"{where} select does not begin with SELECT", hint="it may only read")
        return self


class StatisticsSection(Section, frozen=True, kw_only=True):
    """Statistics that protect each person behind the rows."""

    datasets: Annotated[tuple[DatasetSection, ...], toml("dataset")] = ()
    """The datasets."""
    second_officer_above: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    """Budgets of more epsilon than this need the consent of a second security officer."""

    def checked(self, where: str) -> Self:
        seen: set[tuple[str, str]] = set()
        for one in self.datasets:
            if (one.tenant, one.name) in seen:
                raise InvalidSpec(f"{where} has the dataset {one.name} of {one.tenant} twice", hint="rename one")
            seen.add((one.tenant, one.name))
        return self
