"""Rate limit and lock-out against guessing, by client address. Pure: the caller passes the time.

After too many failures an address is locked out, each time for longer. A credential that succeeded from there before
still works, so that one broken client does not block others behind the same address; failures at one address do not
affect keys used elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ashore.core.addresses import address_of
from ashore.core.errors import TooManyAttempts

MOST_FAILURES: Final = 10
"""Wrong credentials in a row, one forgotten every `FORGET_ONE_S`, after which an address is locked out."""
FORGET_ONE_S: Final = 30.0
FIRST_LOCK_S: Final = 30.0
LONGEST_LOCK_S: Final = 900.0
CALM_S: Final = 3600.0
"""After so long without a failure nothing is held against an address."""
MAX_ADDRESSES: Final = 20_000
MAX_KNOWN: Final = 50_000
"""Pairs of a credential and an address that it was right from. The oldest are forgotten."""


@dataclass(slots=True)
class _Tries:
    failures: float = 0.0
    at_s: float = 0.0
    locked_until_s: float = 0.0
    locks: int = 0


class Guesses:
    """Failed authentications by address. Bounded in memory; used by one thread, or under its owner's lock."""

    def __init__(self, *, max_addresses: int = MAX_ADDRESSES, max_known: int = MAX_KNOWN) -> None:
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._known: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._max_addresses = max_addresses
        self._max_known = max_known

    def check(self, digest: bytes, origin: str, now_s: float) -> None:
        """Check that a credential from `origin` may be tried.

        Raises:
            TooManyAttempts: the address is locked out, and this credential never succeeded from there.
        """
        tries = self._tries.get(address_of(origin))
        if tries is None or now_s >= tries.locked_until_s or (digest, origin) in self._known:
            return
        left_s = tries.locked_until_s - now_s
        raise TooManyAttempts(
            f"too many wrong keys came from {origin or 'this machine'}; its requests are refused for {left_s:.0f} s",
            hint="wait, then send a valid key",
            retry_after_s=left_s,
        )

    def failed(self, origin: str, now_s: float) -> bool:
        """Count a failure; return whether the address is locked out from now on."""
        address = address_of(origin)
        tries = self._tries.pop(address, None) or _Tries(at_s=now_s)
        if now_s - tries.at_s > CALM_S:
            tries = _Tries(at_s=now_s)
        tries.failures = max(0.0, tries.failures - (now_s - tries.at_s) / FORGET_ONE_S) + 1.0
        tries.at_s = now_s
        self._tries[address] = tries
        if len(self._tries) > self._max_addresses:
            self._tries.popitem(last=False)
        if tries.failures < MOST_FAILURES:
            return False
        tries.locked_until_s = now_s + min(LONGEST_LOCK_S, FIRST_LOCK_S * 2.0**tries.locks)
        tries.locks += 1
        tries.failures = 0.0
        return True

    def succeeded(self, digest: bytes, origin: str) -> None:
        """Remember that a credential succeeded from `origin`."""
        self._known[(digest, origin)] = None
        self._known.move_to_end((digest, origin))
        if len(self._known) > self._max_known:
            self._known.popitem(last=False)
