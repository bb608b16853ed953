"""The key of a site: one seed among the secrets of its state, sealed with them, and made into a key in memory alone."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ashore.kit.state import Database, kept_secret

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

SECRET: Final = "site-key"
"""Name of the seed; `ashore secret list` shows it."""


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A P-256 key: Envoy takes no Ed25519 of clients. It signs reports, and proves who reads."""

    private: EllipticCurvePrivateKey

    def request(self, site: str) -> bytes:
        """Return what the centre signs at joining, as PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        asked = x509.CertificateSigningRequestBuilder().subject_name(common_name(site))
        return asked.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pem(self) -> bytes:
        """Return the private key. It must reach no disk."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def fits(self, certificate: bytes) -> bool:
        """Return whether a certificate, as PEM, is for this key."""
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificate(certificate).public_key() == self.private.public_key()
        except ValueError:
            return False

    def context(self, certificate: bytes, authority: str | None) -> ssl.SSLContext:
        """Return the TLS settings of a client with this key and the site's certificate.

        Args:
            certificate: PEM, of the centre's authority.
            authority: PEM of the authority of the centre's server; None: those of this system.
        """
        context = ssl.create_default_context(cadata=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        memory = os.memfd_create("site-key", os.MFD_CLOEXEC)
        try:
            os.write(memory, certificate.rstrip() + b"\n" + self.pem())
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
        return context


def site_key(database: Database) -> SiteKey:
    """Return the key of this site, made on first use.

    Raises:
        SealingKeyMissing: the secrets are sealed, and their key is not here: a stolen disk signs nothing.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    with database.write() as connection:
        seed = kept_secret(connection, SECRET)
    return SiteKey(p256_key(HKDF(hashes.SHA256(), 48, salt=None, info=b"ashore site key 1").derive(seed)))


def p256_key(secret: bytes) -> EllipticCurvePrivateKey:
    """Return the P-256 key that secret bytes stand for."""
    from cryptography.hazmat.primitives.asymmetric import ec

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2)
    return ec.derive_private_key(1 + int.from_bytes(secret) % (order - 1), ec.SECP256R1())


def common_name(text: str) -> x509.Name:
    """Return the name in a certificate."""
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
