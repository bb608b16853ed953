"""The real Envoy in front of a centre: the certificate of a site reaches the control process, and no claim does."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
from edge_rig import edge_rig
from tests.support.site_centre import key_and_csr

from ashore.control.sites.joining import SiteAuthority
from ashore.kit.call import CLIENT
from ashore.machine.edge import EdgeSection, keep_tls


def test_the_certificate_of_a_site_reaches_the_centre_and_no_claim_does(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    authority = SiteAuthority(b"a" * 32)
    pem, csr = key_and_csr("north")
    certificate, fingerprint, _ = authority.sign("north", csr, time.time())
    foreign, _, _ = SiteAuthority(b"b" * 32).sign("north", csr, time.time())
    ca, mine, theirs = tmp_path / "authority.pem", tmp_path / "site.pem", tmp_path / "foreign.pem"
    ca.write_text(authority.certificate(time.time()))
    mine.write_text(certificate + pem)
    theirs.write_text(foreign + pem)
    tls, _ = keep_tls(EdgeSection(kind="envoy"), tmp_path / "edge", now_s=datetime.now(UTC).timestamp())

    def get(path: str, identity: Path | None) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(tmp_path / "edge" / "ca.pem"))
        if identity is not None:
            context.load_cert_chain(identity)
        with httpx.Client(verify=context) as client:
            return client.get(f"https://127.0.0.1:{port}{path}", headers={CLIENT: "0" * 64, "x-other": "1"})

    with edge_rig(tmp_path / "run", port := free_port(), tls=tls, clients_ca=str(ca)):
        shown = get("/site/v1/metadata/timestamp.json", mine).json()["headers"]
        assert shown[CLIENT] == fingerprint and shown["x-other"] == "1"
        assert CLIENT not in get("/site/v1/metadata/timestamp.json", None).json()["headers"]
        assert CLIENT not in get("/console", mine).json()["headers"]
        try:
            answer = get("/site/v1/metadata/timestamp.json", theirs)
        except httpx.TransportError:
            return  # the handshake fails
        raise AssertionError(answer.text)
