"""Authenticates keys and tokens: the `Authenticator` of a server with a state."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from ashore.core.clock import Clock
from ashore.core.errors import Unauthenticated
from ashore.core.principal import Principal
from ashore.data.authority.directory import Claims, Directory
from ashore.data.authority.guessing import Guesses
from ashore.data.authority.keys import MAX_TOKEN_CHARS
from ashore.kit.recorder import Act, Recorder

MAX_REMEMBERED: Final = 100_000
"""Tokens whose owner is remembered until something changes; with more, all are forgotten."""
MAX_JWT_CHARS: Final = 16_384


class TokenVerifier(Protocol):
    """Verifies tokens of external issuers. No I/O."""

    def verify(self, token: str, now_s: float) -> Claims:
        """Return the claims of a token, once its signature, audience and times are verified.

        Raises:
            Unauthenticated: it is invalid; the message has the reason, and never the token.
        """
        ...


class LatestClock:
    """A monotonic wall clock: setting the clock back does not revive an expired key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest_s = 0.0

    def now_s(self) -> float:
        """Return the latest time seen."""
        now_s = self._clock.now_s()
        if now_s > self._latest_s:
            self._latest_s = now_s
        return self._latest_s


class Doorkeeper:
    """Looks credentials up in the directory and caches the results until something changes. Used by one event loop;
    `forget` may be called from any thread."""

    def __init__(
        self, directory: Directory, clock: Clock, recorder: Recorder, *, verifier: TokenVerifier | None = None
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._latest = LatestClock(clock)
        self._recorder = recorder
        self._verifier = verifier
        self._guesses = Guesses()
        self._memo: dict[tuple[bytes, str], tuple[Principal, float]] = {}
        self._principals: dict[Principal, Principal] = {}
        """The first of equal ones: what is remembered of it elsewhere is found by `is`, which costs nothing."""
        self._used: dict[str, int] = {}

    def use(self, verifier: TokenVerifier | None) -> None:
        """Use this verifier from now on."""
        self._verifier = verifier
        self.forget()

    def forget(self) -> None:
        """Clear the cache. To be called after the directory or the keys of an issuer have changed."""
        self._memo = {}  # a new dict: running look-ups write to the old one, and are lost

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        if not token:
            raise Unauthenticated(
                "no API key was given",
                hint=f"send `Authorization: Bearer KEY`; {self._directory.where_keys_are(self._latest.now_s())}",
            )
        memo, now_s = self._memo, self._latest.now_s()
        raw = hashlib.sha256(token.encode("utf-8", "surrogatepass"))
        digest = raw.digest()
        known = memo.get((digest, origin))
        if known is not None and now_s < known[1]:
            if known[0].key_id:
                self._used[known[0].key_id] = int(now_s)
            return known[0]
        at_s = self._clock.monotonic_s()
        self._guesses.check(digest, origin, at_s)
        try:
            principal, until_s = self._look_up(token, raw.hexdigest(), origin, now_s)
        except Unauthenticated as fault:  # an expired key is not a guess, and must not lock out others at its address
            if fault.guess and self._guesses.failed(origin, at_s):
                self._recorder.record(
                    Act(action="access:lock-out", actor="system", outcome="denied", origin=origin, reason="wrong keys")
                )
            raise
        self._guesses.succeeded(digest, origin)
        if max(len(memo), len(self._principals)) >= MAX_REMEMBERED:
            memo.clear()
            self._principals.clear()
        principal = self._principals.setdefault(principal, principal)
        memo[(digest, origin)] = (principal, until_s)
        if principal.key_id:
            self._used[principal.key_id] = int(now_s)
        return principal

    def take_uses(self) -> dict[str, int]:
        """Return the last use of each key since the last call."""
        used, self._used = self._used, {}
        return used

    def _look_up(self, token: str, digest: str, origin: str, now_s: float) -> tuple[Principal, float]:
        if token.count(".") == 2 and self._verifier is not None and len(token) <= MAX_JWT_CHARS:
            claims = self._verifier.verify(token, now_s)
            return self._directory.of_claims(claims), claims.expires_s
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated(
                f"the API key has {len(token):,} characters; a key of this server is shorter",
                hint="check which value is sent as the key",
                guess=True,
            )
        return self._directory.of_key(token, digest, origin, now_s)
