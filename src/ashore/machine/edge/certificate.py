"""Generated certificates: an authority for this home, and a short-lived certificate under it.

Clients install the authority once (`edge/ca.pem`); the certificate below it is renewed transparently.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.errors import InvalidSpec, MissingExtra
from ashore.core.foreign import foreign_errors
from ashore.kit.extras import how_to_install
from ashore.kit.folders import make_folder
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VALID_DAYS: Final = 90
RENEW_DAYS: Final = 30
"""Left on a certificate when it is replaced."""
AUTHORITY_DAYS: Final = 3650
SKEW: Final = timedelta(hours=1)
"""A client's clock may be behind ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """The facts that decide whether a certificate can stay."""

    names: frozenset[str]
    not_after: datetime


def needs_renewal(facts: CertificateFacts, names: Sequence[str], now: datetime) -> str:
    """Return why a certificate must be replaced, or an empty result."""
    missing = sorted(set(names) - facts.names)
    if missing:
        return f"it does not name {', '.join(missing)}"
    if facts.not_after - now < timedelta(days=RENEW_DAYS):
        return f"it ends on {facts.not_after:%Y-%m-%d}"
    return ""


def names_for(host: str, more: Sequence[str]) -> tuple[str, ...]:
    """Return the names and addresses by which clients may call an edge that listens on `host`."""
    found = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *more]
    if host not in ("0.0.0.0", "::", ""):
        found.append(host)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Files of a generated certificate."""

    chain_pem: str
    key_file: Path
    authority_file: Path
    made: str
    """Why it was made just now; empty: it was there."""


def keep_certificate(folder: Path, names: Sequence[str], now: datetime) -> Generated:
    """Return the certificate of this home, created or renewed if necessary. May be called at any time.

    Each certificate gets a new key in a file of its own, so that certificate and key never mismatch. The previous key
    stays until `remove_other_keys`, since Envoy's running configuration names it. After an interruption between two
    files, the next call detects the mismatch and creates them again.

    Raises:
        InvalidSpec: a file of the authority is not ours.
        MissingExtra: `cryptography` is not installed.
    """
    make_folder(folder, mode=0o700)
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    chain = folder / "edge.pem"
    with _cryptography():
        why = _why_new_authority(authority, authority_key, now)
        if why:
            _make_authority(authority, authority_key, now)
        why = why or _why_new_leaf(chain, authority, names, now)
        if why:
            _make_leaf(folder, authority, authority_key, names, now)
        text = chain.read_text()
    return Generated(chain_pem=text, key_file=folder / key_name(text), authority_file=authority, made=why)


def make_node_certificate(authority: Path, out: Path, name: str, addresses: Sequence[str], now: datetime) -> bool:
    """Make a certificate for one machine of a fleet, for both ends of a connection, and return whether the authority
    was created for it: `ca.pem`, `node.pem` and `node.key` in the folder `out`. Existing ones are replaced.

    Args:
        authority: Folder of the fleet's authority, `ca.pem` and `ca.key`; created if missing.
        out: Folder for the three files.
        name: Name of the machine, for logs.
        addresses: Names and addresses by which others call it.
        now: Now.

    Raises:
        InvalidSpec: a file of the authority is not ours.
        MissingExtra: `cryptography` is not installed.
    """
    for folder in (authority, out):
        make_folder(folder, mode=0o700)
    certificate, key = authority / "ca.pem", authority / "ca.key"
    with _cryptography():
        why = _why_new_authority(certificate, key, now)
        if why:
            _make_authority(certificate, key, now)
        chain, private = _signed(certificate, key, name, addresses, now, is_client=True)
        write_whole(out / "node.key", private)
        write_whole(out / "node.pem", chain)
        write_whole(out / "ca.pem", certificate.read_bytes())
    return bool(why)


def remove_other_keys(key_file: Path) -> None:
    """Remove the keys of earlier certificates. To be called once every reader uses `key_file`."""
    for key in key_file.parent.glob("edge-*.key"):
        if key.name != key_file.name:
            key.unlink(missing_ok=True)


def key_name(chain_pem: str) -> str:
    """Return the file name of the key that belongs to a certificate."""
    from cryptography import x509

    return f"edge-{x509.load_pem_x509_certificate(chain_pem.encode()).serial_number:x}.key"


def read_facts(chain_pem: str) -> CertificateFacts:
    """Return the facts of the first certificate of a chain.

    Raises:
        InvalidSpec: it is not a certificate in PEM form.
    """
    with _cryptography():
        from cryptography import x509

        with foreign_errors("cannot read the certificate of the edge", InvalidSpec, hint="give a PEM file"):
            certificate = x509.load_pem_x509_certificate(chain_pem.encode())
        names: set[str] = set()
        with suppress(x509.ExtensionNotFound):  # an authority has none
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names |= set(found.get_values_for_type(x509.DNSName))
            names |= {str(address) for address in found.get_values_for_type(x509.IPAddress)}
        return CertificateFacts(names=frozenset(names), not_after=certificate.not_valid_after_utc)


def check_files(certificate: Path, key: Path, now: datetime) -> str:
    """Return the chain in an operator's own files, after checking that they match.

    Raises:
        InvalidSpec: a file is missing or malformed, they do not match, or the certificate has expired.
    """
    with _cryptography():
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            chain_pem, key_pem = certificate.read_text(), key.read_bytes()
        except OSError as fault:
            raise InvalidSpec(f"[edge] {fault.filename}: {fault.strerror}", hint="give readable PEM files") from fault
        facts = read_facts(chain_pem)
        with foreign_errors(f"[edge] key {key} cannot be read", InvalidSpec, hint="give a PEM key without a password"):
            private = load_pem_private_key(key_pem, None)
        if private.public_key() != x509.load_pem_x509_certificate(chain_pem.encode()).public_key():
            raise InvalidSpec(f"[edge] key {key} does not match {certificate}", hint="give the key of this certificate")
        if facts.not_after <= now:
            raise InvalidSpec(f"[edge] certificate {certificate} ended on {facts.not_after}", hint="renew it")
        return chain_pem


def _why_new_authority(path: Path, key_path: Path, now: datetime) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not (path.exists() and key_path.exists()):
        return "there was none"
    text = path.read_text()
    why = needs_renewal(read_facts(text), (), now)
    with foreign_errors(
        f"the key of the edge's authority, {key_path}, cannot be read",
        InvalidSpec,
        hint=f"remove it, and a new authority is created; then give clients the new {path.name}",
    ):
        key = load_pem_private_key(key_path.read_bytes(), None)
    if key.public_key() != x509.load_pem_x509_certificate(text.encode()).public_key():
        return "its authority had another key"
    return why


def _why_new_leaf(chain: Path, authority: Path, names: Sequence[str], now: datetime) -> str:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    if not chain.exists():
        return "there was none"
    text = chain.read_text()
    why = needs_renewal(read_facts(text), names, now)
    try:
        issuer = x509.load_pem_x509_certificate(authority.read_bytes())
        x509.load_pem_x509_certificate(text.encode()).verify_directly_issued_by(issuer)
    except (ValueError, InvalidSignature):
        return "it was of another authority"
    if not why and not (chain.parent / key_name(text)).exists():
        return "its key was gone"
    return why


def _make_authority(path: Path, key_path: Path, now: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"ashore of {socket.gethostname()[:40]}")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(key_path, _key_pem(key))
    write_whole(path, _pem(certificate))


def _make_leaf(folder: Path, authority: Path, authority_key: Path, names: Sequence[str], now: datetime) -> None:
    chain, private = _signed(authority, authority_key, "ashore edge", names, now)
    write_whole(folder / key_name(chain.decode()), private)
    write_whole(folder / "edge.pem", chain)


def _signed(
    authority: Path, authority_key: Path, title: str, names: Sequence[str], now: datetime, *, is_client: bool = False
) -> tuple[bytes, bytes]:
    """Return a new certificate followed by its authority's, and its key, both in PEM form."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    issuer_key = load_pem_private_key(authority_key.read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if is_client else [])]
    certificate = (
        _builder(_name(title), issuer.subject, key, now, VALID_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(certificate) + authority.read_bytes(), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - SKEW)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def _cryptography() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as fault:
        raise MissingExtra(
            f"TLS at the edge needs {fault.name}, which is not installed",
            hint=how_to_install("edge"),
        ) from fault
