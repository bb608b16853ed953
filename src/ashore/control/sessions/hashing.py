"""Password hashing with Argon2id, on one low-priority thread with a short queue.

A hash costs 19 MiB and some 50 ms of one core. A flood of the log-in page therefore fills a queue of `MOST_WAITING` and
is refused beyond it; it never uses the threads and memory of requests.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from ashore.core.errors import Overloaded, TooManyAttempts

T = TypeVar("T")

MEMORY_KIB: Final = 19 * 1024
ITERATIONS: Final = 2
LANES: Final = 1
"""OWASP Password Storage Cheat Sheet, Argon2id: m = 19 MiB, t = 2, p = 1."""
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
MOST_WAITING: Final = 16
MOST_OF_ONE: Final = 2
"""Passwords of one address that may wait at once."""
_NICE: Final = 10


class Hasher:
    """Hashes and verifies passwords. Used by one event loop."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB) -> None:
        self._memory_kib = memory_kib
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=_step_back)
        self._waiting: dict[str, int] = {}
        self._nobody = ""

    def close(self) -> None:
        """End the thread. May be called twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str, *, origin: str) -> str:
        """Return a new hash of a password, in PHC format.

        Raises:
            Overloaded, TooManyAttempts: too many wait.
        """
        return await self._run(origin, lambda: self._derive(password))

    async def verify(self, password: str, *hashes: str, origin: str) -> int:
        """Return the index of the first hash that matches a password, -1 if none does.

        Without a hash, a dummy is compared, so that it takes the same time.

        Raises:
            Overloaded, TooManyAttempts: too many wait.
        """
        return await self._run(origin, lambda: self._find(password, hashes))

    def is_current(self, phc: str) -> bool:
        """Return whether a hash has the current parameters; an older one is replaced at the next log-in."""
        return f"$m={self._memory_kib},t={ITERATIONS},p={LANES}$" in phc

    def check_room(self, origin: str) -> None:
        """Check that one more password may be queued.

        Raises:
            Overloaded, TooManyAttempts: too many wait.
        """
        if self._waiting.get(origin, 0) >= MOST_OF_ONE:
            raise TooManyAttempts("too many log-ins from this address at once", hint="try again", retry_after_s=1.0)
        if sum(self._waiting.values()) >= MOST_WAITING:
            raise Overloaded("too many people are logging in at this moment", hint="try again", retry_after_s=2.0)

    async def _run(self, origin: str, work: Callable[[], T]) -> T:
        self.check_room(origin)
        self._waiting[origin] = self._waiting.get(origin, 0) + 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            left = self._waiting[origin] - 1
            if left:
                self._waiting[origin] = left
            else:
                del self._waiting[origin]

    def _derive(self, password: str) -> str:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        maker = Argon2id(
            salt=os.urandom(SALT_BYTES), length=HASH_BYTES, iterations=ITERATIONS, lanes=LANES,
            memory_cost=self._memory_kib,
        )  # fmt: skip
        return maker.derive_phc_encoded(password.encode())

    def _find(self, password: str, hashes: tuple[str, ...]) -> int:
        if not hashes:
            self._nobody = self._nobody or self._derive(os.urandom(16).hex())
            _matches(password, self._nobody)
            return -1
        found = [_matches(password, one) for one in hashes]
        return found.index(True) if True in found else -1


def _matches(password: str, phc: str) -> bool:
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    with suppress(InvalidKey):
        Argon2id.verify_phc_encoded(password.encode(), phc)
        return True
    return False


def same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _step_back() -> None:
    """Run this thread only when no other needs the processor."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
