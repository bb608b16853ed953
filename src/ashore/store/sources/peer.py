"""`peer://HOST:PORT/NAME[:VARIANT][@DIGEST]`: the store of another machine of the fleet, over mutual TLS.

It is a registry by the OCI distribution protocol, whose certificate must be of the fleet's authority, and of no other.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.errors import InvalidSpec
from ashore.store.sources.ociregistry import RegistryRemote

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a machine of the fleet shows, and whom it trusts: three PEM files in one folder."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "node.pem"

    @property
    def key(self) -> Path:
        return self.folder / "node.key"

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Return what a connection is made with: TLS 1.3, and a certificate of the authority asked of the other side.

        Raises:
            InvalidSpec: a file is missing, or they do not fit.
        """
        try:
            purpose = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
            context = ssl.SSLContext(purpose)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as fault:
            raise InvalidSpec(
                f"the certificate of this machine in {self.folder} cannot be used: {fault}",
                hint="make one where the fleet's authority is, `ashore fleet certificate NAME --address HOST --to "
                "FOLDER`, and copy the folder to fleet/ in the home of this machine",
            ) from fault
        return context


class PeerRemote(RegistryRemote):
    """The store of another machine of the fleet."""

    def __init__(self, text: str, identity: Identity) -> None:
        rest = text.partition("://")[2]
        super().__init__(f"oci://{rest}")
        self._base = f"https://{self._host}/v2/{self._repository}"
        self._identity = identity

    def _client(self) -> httpx.Client:
        import httpx

        timeout = httpx.Timeout(120.0, connect=15.0)
        return httpx.Client(timeout=timeout, verify=self._identity.context(server=False), trust_env=False)
