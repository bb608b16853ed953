"""The TLS identity of a machine in a fleet, and whom a connection trusts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import certifi

from ashore.core.errors import AshoreError, InvalidSpec


@cache
def public_trust() -> ssl.SSLContext:
    """Return the TLS context of a client that names no authority: it trusts those of the system, where an enterprise
    adds its own (or in SSL_CERT_FILE and SSL_CERT_DIR), and the public ones that certifi has."""
    return _public()


def trust(
    whose: str, ca_file: str, certificate: str = "", key: str = "", *, error: type[AshoreError] = InvalidSpec
) -> ssl.SSLContext:
    """Return the TLS context of a client.

    Args:
        whose: What has these files, for the error.
        ca_file: Trusted authority; empty: as in `public_trust`.
        certificate: What the client shows if it is asked; empty: nothing.
        key: Its private key.
        error: What is raised.

    Raises:
        InvalidSpec, or `error`: a file is missing or no PEM.
    """
    if not (ca_file or certificate):
        return public_trust()
    try:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else _public()
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as fault:
        files = ", ".join(one for one in (ca_file, certificate, key) if one)
        raise error(
            f"{whose} cannot read its certificates ({files}): {fault.strerror or fault}",
            hint="correct the paths of ca_file and of its own certificate and key; they are PEM files",
        ) from fault
    return context


def _public() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Three PEM files in one folder, as `ashore fleet certificate` makes them."""

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
        """Return the TLS context: TLS 1.3, with a certificate of the authority required from the peer.

        Raises:
            InvalidSpec: a file is missing, or they do not match.
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

    @property
    def is_there(self) -> bool:
        """Whether this machine has an identity."""
        return self.certificate.is_file()
