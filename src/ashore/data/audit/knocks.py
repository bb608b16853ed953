"""Repeated refusals and failures: one record of the first, then one with their count each minute. Pure: no clock.

If each refusal were recorded, a client without a key could fill the disk, and so could a caller with a key by changes
that are refused halfway.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from ashore.core.addresses import address_of
from ashore.data.audit.query import shown_moment
from ashore.kit.recorder import Act

EVERY_S: Final = 60.0
MOST_KINDS: Final = 32
"""Refusals of one action at one address, and of one caller with a key there, that have records of their own in one
minute."""
MOST_KNOWN: Final = 128
"""Refusals of one action that do: so many of callers with a key, and so many of strangers. Knocks without a key so hide
no guess at an account, which is another action."""
REST: Final = "other refusals, counted together"
"""Reason of the record of those beyond the two limits. It names their address and caller where it can."""

_Kind = tuple[str, ...]


@dataclass(slots=True)
class _Count:
    act: Act
    first_us: int
    last_us: int
    who: _Kind
    """Action, outcome, address, and id of a caller with a key."""
    count: int = 0
    """Since the last record of them."""

    @property
    def pool(self) -> tuple[str, bool]:
        return self.act.action, bool(self.act.tenant)


class Knocks:
    """Counts the refusals of one process. Safe on any thread; at most `MOST_KNOWN` twice of each action, and as many
    that are counted together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Kind, _Count] = {}
        self._rest: dict[_Kind, _Count] = {}
        self._of: Counter[_Kind] = Counter()
        self._known: Counter[tuple[str, bool]] = Counter()

    def is_new(self, act: Act, now_us: int) -> bool:
        """Return whether a refusal or failure is to be recorded now; else it is counted, for `take`."""
        address = address_of(act.origin)
        who = (act.action, act.outcome, address, act.actor if act.tenant else "")
        apart = (str(act.detail.get(name, "")) for name in ("key", "job"))
        kind = (*who, act.actor, act.tenant, act.resource, act.reason, *apart)
        with self._lock:
            if found := self._counts.get(kind):
                self._add(found, act.origin, now_us)
                return False
            one = _Count(act, now_us, now_us, who)
            if self._known[one.pool] < MOST_KNOWN and self._of[who] < MOST_KINDS:
                self._counts[kind] = one
                self._known[one.pool] += 1
                self._of[who] += 1
                return True
            if who not in self._of:
                who = (act.action, act.outcome, "", "")
            _, _, address, caller = who
            one.act = Act(
                action=act.action,
                actor=caller or "system",
                tenant=act.tenant if caller else "",
                outcome=act.outcome,
                origin=address,
                reason=REST,
            )
            self._add(self._rest.setdefault(who, one), address, now_us)
            return False

    def take(self) -> list[Act]:
        """Return the counts since the last call. A refusal that did not recur is new the next time."""
        with self._lock:
            self._counts = {kind: one for kind, one in self._counts.items() if one.count}
            self._of = Counter(one.who for one in self._counts.values())
            self._known = Counter(one.pool for one in self._counts.values())
            found = [*self._counts.values(), *self._rest.values()]
            self._rest = {}
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
