"""Servers of other machines that answer for releases, as the engine hosts here see them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from ashore.core.kinds import EngineKind

HOST_S: Final = 1.0
"""Longest wait for what an engine host says."""


class HasHosts(Protocol):
    """One alias or release with its engine hosts."""

    @property
    def alias(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def kind(self) -> EngineKind: ...
    @property
    def sockets(self) -> tuple[str, ...]: ...


class BackendShown(msgspec.Struct, frozen=True, kw_only=True):
    """One server of another machine that answers for a release, as an engine host here sees it."""

    alias: str
    release: str
    url: str
    state: str
    """`ready`, `out`, or `new` before its first answer."""
    reason: str
    """Why it gets no requests."""
    last_error: str
    running: int
    sent: int
    """Requests since the host started."""
    times_out: int
    prompt_tokens: int
    """Of whole answers since then, if it reports its prefix cache."""
    cached_tokens: int
    """Those of them that its prefix cache had."""
    kind: str = ""
    """What it is, such as vLLM or llama-server; `text server` for one that takes messages."""
    outside: bool = False
    """Whether it lies outside of the operator's own networks."""
    leaves: str = ""
    """Where its prompts go that leave this machine, and what is masked in them first. Empty: they stay."""


async def backends_of(served: Iterable[HasHosts]) -> list[BackendShown]:
    """Return the servers of other machines behind each release, as its hosts tell; nothing of a host that is silent."""
    from ashore.data.engines import backends_of as backends_of_host
    from ashore.data.engines import card_of

    hosts = [(one, socket) for one in served if "remote" in card_of(one.kind).formats for socket in one.sockets]
    told = await asyncio.gather(*(backends_of_host(socket, HOST_S) for _, socket in hosts))
    return [
        BackendShown(alias=one.alias, release=one.release, **msgspec.structs.asdict(backend))
        for (one, _), backends in zip(hosts, told, strict=True)
        for backend in backends
    ]
