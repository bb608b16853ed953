"""The built-in detectors combined: one scan that finds what a text may contain, then exact checks of those kinds."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from ashore.data.privacy.addresses import find_addresses
from ashore.data.privacy.codes import find_codes, find_plates
from ashore.data.privacy.credentials import CredentialFinder
from ashore.data.privacy.model import KINDS, Entity
from ashore.data.privacy.names import find_names
from ashore.data.privacy.network import find_addresses_of_machines, find_emails
from ashore.data.privacy.numbers import find_international, find_numbers
from ashore.data.privacy.page import Page

VERSION: Final = "ashore detectors 1"
"""Changes with the results, so that those of older detectors are not used."""

_DIGIT: Final = re.compile("[0-9]")
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


class Detectors:
    """Finds every kind of `KINDS`. Linear in the length of any text."""

    def __init__(self) -> None:
        self._credentials = CredentialFinder()

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS

    @property
    def name(self) -> str:
        return VERSION

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps."""
        page = Page(text)
        found = [*self._credentials.find(page), *find_names(page)]
        found.extend(find_emails(page))
        if _DIGIT.search(page.text):
            found.extend(find_numbers(page))
            found.extend(find_codes(page))
            found.extend(find_addresses_of_machines(page))
            found.extend(find_international(page))
            if not page.text.isascii():
                found.extend(find_plates(page))
            found.extend(find_addresses(page))
        elif "::" in page.text:
            found.extend(find_addresses_of_machines(page))
        return settle(found, _RANK) if len(found) > 1 else tuple(found)


def settle(found: Iterable[Entity], rank: dict[str, int]) -> tuple[Entity, ...]:
    """Return entities in order; of overlapping ones the higher rank wins, then the longer one.

    A kind without a rank precedes all others: it is the operator's own.
    """
    in_order = sorted(found, key=_place)
    kept: list[Entity] = []
    together: list[Entity] = []
    end = 0
    for one in in_order:
        if one.start >= end:
            kept.extend(together if len(together) < 2 else _best(together, rank))
            together = []
        together.append(one)
        end = max(end, one.end)
    kept.extend(together if len(together) < 2 else _best(together, rank))
    return tuple(kept)


_place: Final = attrgetter("start", "end")


def _best(together: list[Entity], rank: dict[str, int]) -> list[Entity]:
    """Return the winning ones of overlapping entities, in order."""
    by_rank = sorted(together, key=lambda one: (rank.get(one.kind, -1), one.start - one.end, one.start))
    starts: list[int] = []
    kept: list[Entity] = []
    for one in by_rank:
        at = bisect(starts, one.start)
        if (at and kept[at - 1].end > one.start) or (at < len(kept) and kept[at].start < one.end):
            continue
        starts.insert(at, one.start)
        kept.insert(at, one)
    return kept
