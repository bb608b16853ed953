"""`peer://HOST:PORT/NAME[:VARIANT][@DIGEST]`: the store of another machine of the fleet, over mutual TLS.

It is a registry by the OCI distribution protocol, whose certificate must be of the fleet's authority, and of no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ashore.core import Allowed, server_of
from ashore.core.identity import Identity
from ashore.store.sources.ociregistry import RegistryRemote

if TYPE_CHECKING:
    import httpx


class PeerRemote(RegistryRemote):
    """The store of another machine of the fleet."""

    def __init__(self, text: str, identity: Identity, *, allow: Sequence[Allowed] | None = None) -> None:
        rest = text.partition("://")[2]
        super().__init__(f"oci://{rest}", allow=allow)
        self._base = f"https://{self._host}/v2/{self._repository}"
        self._identity = identity

    def _client(self) -> httpx.Client:
        from ashore.core.outgoing import open_client

        allow = (server_of(self._base),) if self._allow is None else self._allow
        return open_client(allow, verify=self._identity.context(server=False), redirects=False)
