"""Budgets on the real ledger and authority, in folders that are gone when the objects are."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path

from ashore.core.clock import Clock
from ashore.data.authority.budgets import MappedLedger, SqlAuthority, Usage
from ashore.data.authority.budgets.reporter import Reporter
from ashore.kit.state import open_scratch


class FewNames:
    """`Names` of a test."""

    def __init__(self, names: Mapping[str, Collection[str]]) -> None:
        self._names = names

    def has(self, noun: str, name: str) -> bool:
        return name in self.some(noun)

    def some(self, noun: str) -> Collection[str]:
        return self._names.get(noun, ())


def a_ledger(clock: Clock) -> MappedLedger:
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    ledger = MappedLedger(folder, clock)
    weakref.finalize(ledger, shutil.rmtree, folder, ignore_errors=True)
    return ledger


def usages(ledger: MappedLedger) -> tuple[Usage, ...]:
    """Return what a ledger counted, as it is reported."""
    authority = SqlAuthority(open_scratch())
    Reporter(Path(), lambda: ledger, authority).report(ledger)
    return authority.usage(first_day="0001-01-01", last_day="9999-12-31")
