"""The signing keys of the enterprise's issuers: fetched in the background, never by a request."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, InvalidSpec
from ashore.data.authority.jwt import Issuer, JwtVerifier

log = logging.getLogger("ashore.worker")

REFRESH_S: Final = 300.0
RETRY_S: Final = 15.0
"""Pause after keys could not be fetched, and between two looks for a key that is not known."""
LOOK_EVERY_S: Final = 1.0
MAX_KEYS_BYTES: Final = 1 << 20


class Fetch(Protocol):
    """Fetches an address, or posts a form to it, as `[egress]` allows."""

    async def __call__(
        self, url: str, egress: Sequence[str], /, *, form: Mapping[str, str] | None = None, basic: str = ""
    ) -> bytes:
        """Return the answer. `basic`: `USER:PASSWORD`, for a form."""
        ...


class TakesVerifier(Protocol):
    """Authenticators that use a verifier."""

    def use(self, verifier: JwtVerifier | None) -> None:
        """Use this verifier from now on."""
        ...

    def forget(self) -> None:
        """Clear cached results: the keys of an issuer have changed."""
        ...


@dataclass(slots=True)
class _Due:
    at_s: float = 0.0
    fetched: bytes = b""


class IssuerKeys:
    """Supplies a `JwtVerifier` with keys, and passes it to authenticators. Runs in the worker's event loop."""

    def __init__(self, keys: TakesVerifier, clock: Clock, *, fetch: Fetch) -> None:
        self._keys = keys
        self._clock = clock
        self._fetch = fetch
        self._issuers: tuple[Issuer, ...] = ()
        self._egress: tuple[str, ...] = ()
        self._verifier = JwtVerifier(())
        self._due: dict[str, _Due] = {}

    async def apply(self, issuers: Sequence[Issuer], egress: Sequence[str]) -> None:
        """Set the trusted issuers; returns when their keys are there, or could not be fetched."""
        if (tuple(issuers), tuple(egress)) == (self._issuers, self._egress):
            return
        self._issuers, self._egress = tuple(issuers), tuple(egress)
        self._verifier = JwtVerifier(self._issuers)
        self._due = {issuer.name: _Due() for issuer in self._issuers}
        await self.look()
        self._keys.use(self._verifier if self._issuers else None)

    async def keep_fetching(self) -> None:
        """Fetch keys when they are due, or when a token names an unknown one. Ends when it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Fetch the due keys of all issuers concurrently."""
        now_s = self._clock.monotonic_s()
        missed, self._verifier.missed = self._verifier.missed, set()
        await asyncio.gather(*(self._renew(issuer, now_s, missed=issuer.name in missed) for issuer in self._issuers))

    async def _renew(self, issuer: Issuer, now_s: float, *, missed: bool) -> None:
        due = self._due[issuer.name]
        early_s = REFRESH_S - RETRY_S if missed else 0.0
        if now_s < due.at_s - early_s:
            return
        try:
            raw = await self._read(issuer)
            if raw != due.fetched:
                number = self._verifier.take_keys(issuer.name, json.loads(raw))
                self._keys.forget()
                log.info("fetched %d keys of the issuer %s", number, issuer.name)
            due.fetched, due.at_s = raw, now_s + (LOOK_EVERY_S if issuer.jwks_file else REFRESH_S)
        except (AshoreError, ValueError, RecursionError) as fault:
            due.at_s = now_s + RETRY_S
            log.warning("cannot fetch the keys of the issuer %s, so the old ones stay in use: %s", issuer.name, fault)

    async def _read(self, issuer: Issuer) -> bytes:
        if issuer.jwks_file:
            return await asyncio.to_thread(_read_file, Path(issuer.jwks_file))
        return await self._fetch(issuer.jwks_url, self._egress)


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_KEYS_BYTES:
            raise InvalidSpec(f"{path} has more than {MAX_KEYS_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as fault:
        raise InvalidSpec(f"{path}: {fault.strerror}", hint="check jwks_file in [[access.issuer]]") from fault
