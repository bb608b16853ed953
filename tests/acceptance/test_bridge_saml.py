"""The page that puts SATOSA before the console: a person of a SAML provider comes in, and nobody whom it forges."""

from __future__ import annotations

import html
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import kill
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fake_directory import Trust
from page_run import blocks_of, reader_env, run_block
from served import Served, call, start_served
from waiting import eventually

pytestmark = pytest.mark.full
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/bridge-saml.md"


@dataclass
class Browser:
    """Keeps cookies of each server apart, follows redirects, and posts the forms that come."""

    tls: ssl.SSLContext
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def ask(self, method: str, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        there = urlsplit(url)
        held = self.cookies.setdefault(there.netloc, {})
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in held.items())}
        headers |= {"origin": f"{there.scheme}://{there.netloc}"}
        answer = httpx.request(
            method, url, data=form, headers=headers, timeout=60, verify=self.tls, trust_env=False
        )  # fmt: skip
        held.update(one.partition(";")[0].split("=", 1) for one in answer.headers.get_list("set-cookie"))
        return answer

    def follow(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            answer = self.ask("GET", urljoin(str(answer.url), answer.headers["location"]))
        return answer


def form_of(page: str) -> tuple[str, dict[str, str]]:
    """Return where the form of a page goes, and its hidden fields."""
    action = html.unescape(re.findall(r'<form[^>]*action="([^"]+)"', page)[0])
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return action, {name: html.unescape(value) for name, value in fields}


@dataclass(frozen=True)
class House:
    server: Served
    tls: ssl.SSLContext
    idp: str


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    if shutil.which("xmlsec1") is None:
        pytest.skip("xmlsec1 is not installed: apt-get install xmlsec1")
    base = tmp_path_factory.mktemp("bridge")
    folder, trust = base / "work", Trust(base / "trust")
    port, bridge, idp_port = free_port(), free_port(), free_port()
    folder.mkdir()
    trust.server_context()
    shutil.copy(trust.folder / "chain.pem", folder / "bridge.pem")
    shutil.copy(next(trust.folder.glob("edge-*.key")), folder / "bridge.key")
    page = PAGE.read_text(encoding="utf-8")
    for old, new in (
        ("https://id.corp.example", f"https://localhost:{bridge}"),
        ('"id.corp.example@10.0.0.0/8"', f'"localhost:{bridge}@127.0.0.0/8"'),
        ("0.0.0.0:443", f"127.0.0.1:{bridge}"), ("https://ai.corp.example", f"http://127.0.0.1:{port}"),
        ('"client-secret" }', f'"{folder}/client-secret" }}'),
        ("python3 -m venv", f"{sys.executable} -m venv"),
    ):  # fmt: skip
        assert old in page
        page = page.replace(old, new)
    blocks, files = blocks_of(page)
    for name, text in files.items():
        if name.endswith(".yaml"):
            (folder / name).write_text(text)
    env = {**reader_env(folder, base / "home")}
    run_block(blocks[0], folder=folder, env=env, timeout_s=240)
    python = folder / "satosa/bin/python"
    for name in ("idp", "stranger"):
        openssl = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -days 2 -subj /CN=idp"
        subprocess.run(openssl.split(), cwd=folder, check=True, capture_output=True)
    words = [str(python), str(ROOT / "tests/support/saml_idp.py"), str(idp_port)]
    metadata = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    (folder / "idp.xml").write_text(metadata)
    for block in blocks[1:]:
        run_block(block, folder=folder, env=env)
    eventually((folder / "bridge.pid").exists)
    with (folder / "idp.log").open("wb") as said:
        idp = subprocess.Popen([*words, "metadata/backend.xml"], cwd=folder, stderr=said)
    server = start_served(
        base / "home", ("fake:echo",), store=None, port=port, grpc_port=free_port(), config=files["ashore.toml"],
        env={"SSL_CERT_FILE": str(trust.authority)}, forked=False,
    )  # fmt: skip
    try:
        eventually(lambda: listens(bridge) and listens(idp_port), 60)
        yield House(server, ssl.create_default_context(cafile=trust.authority), f"127.0.0.1:{idp_port}")
    finally:
        server.stop()
        idp.kill()
        idp.wait()
        kill(int((folder / "bridge.pid").read_text()), signal.SIGTERM)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def log_in(house: House, browser: Browser) -> tuple[str, dict[str, str]]:
    """Go by the console and the bridge to the identity provider; return where its answer goes, and the answer."""
    console = f"{house.server.root_url}/console"
    page = browser.ask("GET", f"{console}/log-in").text
    (token,) = set(re.findall(r'name="csrf" value="(\w+)"', page))
    assert "Corp account" in page
    left = browser.ask("POST", f"{console}/oidc/corp", {"csrf": token, "next": "/console/me"})
    (onward,) = re.findall(r'<p><a href="([^"]+)">Go on</a>', left.text)
    there = browser.follow(browser.ask("GET", html.unescape(onward)))
    assert urlsplit(str(there.url)).netloc == house.idp, there.text[:2000]
    return form_of(there.text)


def come_in(house: House, browser: Browser) -> httpx.Response:
    """Log in by the identity provider; return the last page."""
    return browser.follow(browser.ask("POST", *log_in(house, browser)))


def is_in(house: House, browser: Browser) -> bool:
    """Return whether the console knows somebody in this browser."""
    page = browser.follow(browser.ask("GET", f"{house.server.root_url}/console/me"))
    inside = "corp:" in page.text
    assert inside != str(page.url).partition("?")[0].endswith("/log-in"), page.text[:2000]
    return inside


def test_a_person_comes_in_with_their_groups_and_out_once_disabled(house: House) -> None:
    key = house.server.key
    for path, body in (
        ("/users", {"id": "sec", "roles": ["security-officer"], "key": {}}),
        ("/groups", {"name": "ml"}),
        ("/bindings", {"grant": [{"subject": "group/ml", "role": "developer"}]}),
    ):
        made = call(house.server, "POST", f"/admin/v1{path}", key, body)
        key = made["key"]["key"] if path == "/users" else key
    browser = Browser(house.tls)
    page = come_in(house, browser)
    assert page.status_code == 200 and str(page.url).endswith("/console/me") and "corp:alice" in page.text
    assert '<code class="chip">infer</code>' in page.text, "by the group that the identity provider named"
    call(house.server, "POST", "/admin/v1/users", key, {"id": "corp:alice", "roles": []})
    call(house.server, "PATCH", "/admin/v1/users/corp:alice", key, {"disabled": True})
    eventually(lambda: not is_in(house, browser))
    again = Browser(house.tls)
    page = come_in(house, again)
    assert "disabled" in page.text and not is_in(house, again)


@pytest.mark.parametrize("misdeed", ["unsigned", "stranger", "altered", "wrapped", "late", "elsewhere"])
def test_an_assertion_that_is_not_the_providers_own_lets_nobody_in(house: House, misdeed: str) -> None:
    browser = Browser(house.tls, {house.idp: {"misdeed": misdeed}})
    page = come_in(house, browser)
    assert page.status_code == 401 and "did not log you in: access_denied" in html.unescape(page.text), page.text[
        -3000:
    ]
    assert not is_in(house, browser)


def test_what_one_browser_got_lets_no_other_one_in_nor_the_same_one_twice(house: House) -> None:
    browser, other = Browser(house.tls), Browser(house.tls)
    action, fields = log_in(house, browser)
    _, own = log_in(house, other)
    for stolen in (fields, {**own, "SAMLResponse": fields["SAMLResponse"]}):
        page = other.follow(other.ask("POST", action, stolen))
        assert page.status_code >= 400 and not is_in(house, other), "an assertion for another browser"
    back = browser.ask("POST", action, fields)
    url = back.headers["location"]
    assert "/console/oidc?" in url
    assert not is_in(house, browser)
