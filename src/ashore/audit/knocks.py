"""Equal refusals: one record of the first, then one with their number each minute. Pure: the caller has the clock.

A knock on the door is no act. If each were a record, a stranger without a key could fill the disk with them.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from ashore.audit.query import shown_moment
from ashore.core import Act, address_of

EVERY_S: Final = 60.0
MOST_KINDS: Final = 32
"""Different refusals of one address that have records of their own in one minute."""
MOST_KNOWN: Final = 256
"""Different refusals of all addresses that do: so many of callers with a key, and so many of strangers."""
REST: Final = Act(action="access:refuse", actor="system", outcome="denied", reason="other refusals, counted together")
"""Record of those beyond the two limits. `origin` is their address, or empty where they came from many."""

_Kind = tuple[str, ...]


@dataclass(slots=True)
class _Count:
    act: Act
    first_us: int
    last_us: int
    count: int = 0
    """Since the last record of them."""


class Knocks:
    """Counts the refusals of one process. Safe on any thread; at most `MOST_KNOWN` twice, and as many addresses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Kind, _Count] = {}
        self._of_address: Counter[str] = Counter()
        self._known: Counter[bool] = Counter()

    def is_new(self, act: Act, now_us: int) -> bool:
        """Return whether a refusal is to be recorded now; else it is counted, for `take`."""
        address = address_of(act.origin)
        kind = (act.action, act.actor, act.tenant, act.resource, act.reason, str(act.detail.get("key", "")), address)
        with self._lock:
            if found := self._counts.get(kind):
                self._add(found, act.origin, now_us)
                return False
            has_key = bool(act.tenant)
            if self._known[has_key] < MOST_KNOWN and self._of_address[address] < MOST_KINDS:
                self._counts[kind] = _Count(act, now_us, now_us)
                self._known[has_key] += 1
                self._of_address[address] += 1
                return True
            rest = address if address in self._of_address else ""
            found = self._counts.setdefault(("", rest), _Count(replace(REST, origin=rest), now_us, now_us))
            self._add(found, rest, now_us)
            return False

    def take(self) -> list[Act]:
        """Return what was counted since the last call. What did not come again in that time is new the next time."""
        with self._lock:
            found = [one for one in self._counts.values() if one.count]
            self._counts = {kind: one for kind, one in self._counts.items() if one.count and kind[0]}
            self._of_address = Counter(kind[-1] for kind in self._counts)
            self._known = Counter(bool(one.act.tenant) for one in self._counts.values())
            told = [_counted(one) for one in found]
            for one in found:
                one.count = 0
            return told

    @staticmethod
    def _add(found: _Count, origin: str, now_us: int) -> None:
        if not found.count:
            found.first_us = now_us
        found.count += 1
        found.last_us = now_us
        if origin != found.act.origin:
            found.act = replace(found.act, origin=address_of(origin))


def _counted(one: _Count) -> Act:
    detail: dict[str, str | int] = {"key": one.act.detail["key"]} if "key" in one.act.detail else {}
    detail |= {"count": one.count, "first": shown_moment(one.first_us), "last": shown_moment(one.last_us)}
    return replace(one.act, request_id="", detail=detail)
