"""A SAML identity provider with one person, alice of the group ml: `saml_idp.py PORT [METADATA_OF_THE_SP]`.

Without metadata it prints its own. The cookie `misdeed` has it send something that nobody may believe: `unsigned`,
`stranger` (the key of another provider), `altered` (the login changed once it was signed), `wrapped` (the signed
assertion moved aside, and one that says mallory in its place), `late` (it has run out), `elsewhere` (made for another
service). Run by a Python that has pysaml2.
"""

import re
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT  # type: ignore[import-not-found]
from saml2.config import IdPConfig  # type: ignore[import-not-found]
from saml2.metadata import entity_descriptor  # type: ignore[import-not-found]
from saml2.saml import NAME_FORMAT_URI  # type: ignore[import-not-found]
from saml2.server import Server  # type: ignore[import-not-found]

PORT, SP = int(sys.argv[1]), sys.argv[2:]
BASE = f"http://127.0.0.1:{PORT}"
PERSON = {"uid": ["alice"], "displayName": ["Alice"], "isMemberOf": ["ml"]}
ASSERTION = re.compile(r"<(\w+:)?Assertion .*</(\w+:)?Assertion>", re.DOTALL)


ELSEWHERE = "https://elsewhere.corp.example/sp"


def settings(key: str, minutes: int = 5, sp: Sequence[str] = SP) -> Any:
    """Return what the provider is that signs with `KEY.key`, and whose assertions end after so many minutes."""
    return IdPConfig().load(
        {
            "entityid": f"{BASE}/idp", "key_file": f"{key}.key", "cert_file": f"{key}.crt",
            "xmlsec_binary": "/usr/bin/xmlsec1", "metadata": {"local": [*sp]},
            "service": {
                "idp": {
                    "endpoints": {"single_sign_on_service": [(f"{BASE}/sso", BINDING_HTTP_REDIRECT)]},
                    "policy": {"default": {"lifetime": {"minutes": minutes}, "name_form": NAME_FORMAT_URI}},
                    "want_authn_requests_signed": True,
                }
            },
        }
    )  # fmt: skip


def forged(text: str, misdeed: str) -> str:
    """Return a signed answer with its misdeed."""
    if misdeed == "altered":
        assert ">alice<" in text
        return text.replace(">alice<", ">mallory<")
    if misdeed == "wrapped":
        found = ASSERTION.search(text)
        assert found is not None
        signed = found[0]
        false = re.sub(r"<(\w+:)?Signature .*</(\w+:)?Signature>", "", signed, flags=re.DOTALL)
        false = re.sub(r' ID="[^"]+"', ' ID="id-false"', false.replace(">alice<", ">mallory<"), count=1)
        status = re.search(r"<(\w+:)Status>", text)
        assert status is not None and ">mallory<" in false and "id-false" in false
        aside = f"<{status[1]}Extensions>{signed}</{status[1]}Extensions>"
        return text.replace(signed, false).replace(status[0], aside + status[0])
    return text


class Visit(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        misdeed = self.headers.get("cookie", "").partition("misdeed=")[2]
        idp = {"stranger": stranger, "late": late, "elsewhere": elsewhere}.get(misdeed, honest)
        relayed = query.get("RelayState", "")
        asked = honest.parse_authn_request(
            query["SAMLRequest"], BINDING_HTTP_REDIRECT, relayed, query["SigAlg"], query["Signature"]
        ).message
        args = honest.response_args(asked)
        if misdeed == "elsewhere":
            args["sp_entity_id"] = ELSEWHERE
        how = {"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": BASE}
        said = idp.create_authn_response(
            PERSON, userid="alice", authn=how, sign_assertion=misdeed != "unsigned", sign_response=False, **args
        )
        form = idp.apply_binding(
            BINDING_HTTP_POST, forged(str(said), misdeed), args["destination"], relayed, response=True
        )  # fmt: skip
        self.send_response(200)
        self.end_headers()
        self.wfile.write(form["data"].encode())


if not SP:
    print(entity_descriptor(settings("idp")))
    raise SystemExit
other = re.sub(r'entityID="[^"]+"', f'entityID="{ELSEWHERE}"', Path(SP[0]).read_text(encoding="utf-8"))
Path("elsewhere.xml").write_text(other, encoding="utf-8")
honest, stranger, late, elsewhere = (
    Server(config=settings(*one)) for one in (("idp",), ("stranger",), ("idp", -10), ("idp", 5, ["elsewhere.xml"]))
)
HTTPServer(("127.0.0.1", PORT), Visit).serve_forever()
