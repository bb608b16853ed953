"""An expired certificate for an edge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ashore.control.drills.undoing import Undoing
from ashore.core.errors import EnvironmentFault


def expire(folder: Path, undoing: Undoing) -> Path:
    """Replace the certificate in a folder by one with the same names and key that expired yesterday.

    Raises:
        EnvironmentFault: there is no certificate made by ashore.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    authority_file = folder / "ca.pem"
    chains = [one for one in sorted(folder.glob("*.pem")) if one.name != "ca.pem" and b"BEGIN CERT" in one.read_bytes()]
    keys = [one for one in sorted(folder.glob("*key*")) if b"PRIVATE KEY" in one.read_bytes()]
    if not chains or not authority_file.is_file():
        raise EnvironmentFault(f"{folder} has no certificate that ashore made", hint="rehearse it on a twin: --twin")
    authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
    signer = None
    for file in keys:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if isinstance(key, EllipticCurvePrivateKey) and key.public_key() == authority.public_key():
            signer = key
    chain = chains[0]
    before = x509.load_pem_x509_certificate(chain.read_bytes())
    if signer is None:
        raise EnvironmentFault("the key of the edge's authority is not at hand", hint="rehearse it on a twin: --twin")
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(authority.subject)
        .public_key(before.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in before.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    undoing.before("write", path=str(chain), value=chain.read_text())
    chain.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return chain
