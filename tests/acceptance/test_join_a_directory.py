"""The page about directories, and a person who joins, works, and is disabled while a stream runs."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_directory import BASE, FakeDirectory, Trust
from mail_server import MailServer
from page_run import Block, blocks_of, reader_env, run_block
from served import Served, start_served
from syslog_server import Rsyslog
from waiting import eventually

MODEL = "fake:random?tok_per_s=20&tokens=4000"
"""Whose answer takes minutes."""
CA = "/etc/ashore/corp-ca.pem"
"""Of both the directory and the mail server of the page."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "join-a-directory.md"


@pytest.fixture
def fake() -> FakeDirectory:
    fake = FakeDirectory()
    fake.put(f"ou=people,{BASE}", {"objectClass": "organizationalUnit"})
    fake.put(f"ou=groups,{BASE}", {"objectClass": "organizationalUnit"})
    team = fake.group("team", fake.person("alice", password="wonder"), fake.person("bob"))
    fake.group("department", team)
    return fake


@pytest.fixture
def files(fake: FakeDirectory, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The files of the page, for a directory on this machine."""
    trust = Trust(tmp_path / "trust")
    (tmp_path / "ldap").write_text("reader\n")
    with fake.serving(trust) as port:
        page = PAGE.read_text(encoding="utf-8")
        for old, new in (
            ("ldaps://dc1.corp.example", f"ldaps://localhost:{port}"),
            (f'ca_file = "{CA}"\n   bind', f'ca_file = "{trust.authority}"\n   bind'),
            ("/run/secrets/ldap", str(tmp_path / "ldap")), ('every_s = "30s"', "every_s = 5"),
        ):  # fmt: skip
            assert old in page
            page = page.replace(old, new)
        yield blocks_of(page)[1]


@pytest.fixture
def server(files: dict[str, str], tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Served]:
    started = start_served(
        tmp_path / "home", (MODEL,), store=None, port=free_port(), grpc_port=free_port(),
        config=files["ashore.toml"].partition("[[directory]]")[0],
    )  # fmt: skip
    yield started
    started.stop()


def ask(server: Served, method: str, path: str, key: str, body: Any = None) -> Any:
    answer = httpx.request(
        method, f"{server.root_url}/admin/v1{path}", headers={"authorization": f"Bearer {key}"}, json=body, timeout=60
    )
    assert answer.status_code < 300, answer.text
    return answer.json()


def officers(server: Served) -> dict[str, str]:
    """Make the three administrators; return their keys."""
    keys = {}
    for name, role in (("sys", "system-administrator"), ("sec", "security-officer"), ("aud", "auditor")):
        body = {"id": name, "roles": [role], "key": {}}
        keys[name] = ask(server, "POST", "/users", server.key, body)["key"]["key"]
    return keys


@pytest.fixture
def siem(tmp_path: Path) -> Iterator[Rsyslog]:
    folder = tmp_path / "siem"
    folder.mkdir()
    siem = Rsyslog(folder)
    yield siem.start()
    siem.kill()


@pytest.fixture
def mails(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path)
    yield server
    server.close()


def bodies(mails: MailServer) -> str:
    """Return what all mails say."""
    return "\n".join(str(message_from_bytes(one.data).get_payload(decode=True), "utf-8") for one in mails.mails)


def come_in(server: Served, name: str, password: str) -> Callable[[], httpx.Response]:
    """Log in to the console with the password of the directory. Return what asks for its first page."""
    url, cookies = f"{server.root_url}/console", dict[str, str]()

    def ask(method: str, path: str, form: dict[str, str] | None = None) -> httpx.Response:
        held = "; ".join(f"{name}={value}" for name, value in cookies.items())  # over http httpx keeps no secure ones
        headers = {"cookie": held, "origin": server.root_url}
        answer = httpx.request(method, f"{url}{path}", data=form, headers=headers, timeout=60)
        cookies.update(one.partition(";")[0].split("=", 1) for one in answer.headers.get_list("set-cookie"))
        return answer

    (token,) = re.findall(r'name="csrf" value="(\w+)"', ask("GET", "/log-in").text)
    done = ask("POST", "/log-in", {"csrf": token, "account": name, "password": password})
    assert done.status_code == 303, done.text[:2000]
    return partial(ask, "GET", "")


def push_and_disable(server: Served, keys: dict[str, str]) -> None:
    """Let a provider push a person, who works with a key until the next request of the provider."""

    def scim(method: str, path: str, key: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.request(
            method, f"{server.root_url}/scim/v2/{path}", headers={"authorization": f"Bearer {key}"}, json=body,
            timeout=60,
        )  # fmt: skip

    entra = ask(server, "POST", "/service-accounts", keys["sec"], {"id": "entra", "roles": ["provisioner"], "key": {}})
    provider = entra["key"]["key"]
    assert scim("POST", "Users", keys["sec"], {"userName": "al"}).status_code == 403
    made = scim("POST", "Users", provider, {"userName": "al", "active": True})
    assert made.status_code == 201 and made.headers["location"].endswith(made.json()["id"])
    key = ask(server, "POST", "/keys", keys["sec"], {"owner": "pushed:al"})["key"]
    models = {"url": f"{server.base_url}/models", "headers": {"authorization": f"Bearer {key}"}, "timeout": 60}
    assert httpx.get(**models).status_code == 200
    off = {"Operations": [{"op": "Replace", "path": "active", "value": "False"}]}
    assert scim("PATCH", f"Users/{made.json()['id']}", provider, off).json()["active"] is False
    assert httpx.get(**models).status_code == 401, "as soon as the provider has its answer"
    wrong = scim("POST", "Users", provider, {"userName": "AL"})
    assert wrong.status_code == 409 and wrong.json()["scimType"] == "uniqueness"


def is_synced(server: Served) -> bool:
    items = ask(server, "GET", "/directories", server.key)["items"]
    return bool(items) and items[0]["state"] == "good"


def test_the_page_does_what_it_says(server: Served, files: dict[str, str]) -> None:
    (server.home / "ashore.toml").write_text(files["ashore.toml"])
    env = reader_env(server.home, server.home)
    for block in blocks_of(PAGE.read_text(encoding="utf-8"))[0]:
        if "directory list" in block.commands:
            eventually(partial(is_synced, server))
        run_block(block, folder=server.home, env=env)
    assert ask(server, "GET", "/directories/corp", server.key)["groups"][0]["guid"]


def test_a_person_joins_works_and_is_disabled_while_a_stream_runs(
    server: Served, fake: FakeDirectory, files: dict[str, str], siem: Rsyslog, mails: MailServer
) -> None:
    feed = f'[[feed]]\nname = "siem"\nto = "{siem.to}"\nca_file = "{siem.ca}"\n'
    alert = f"[alert]\nwait_s = 0\ngroup_s = 0\n{files['alert.toml']}"
    for old, new in (("smtp://mail.corp.example:587", mails.address), (CA, str(mails.ca))):
        assert old in alert
        alert = alert.replace(old, new)
    (server.home / "ashore.toml").write_text(files["ashore.toml"] + files["scim.toml"] + feed + alert)
    run_block(Block(line=0, commands="ashore reload"), folder=server.home, env=reader_env(server.home, server.home))
    eventually(partial(is_synced, server))
    keys = officers(server)
    ask(server, "POST", "/bindings", keys["sec"], {"grant": [{"subject": "group/ml", "role": "developer"}]})
    key = ask(server, "POST", "/keys", keys["sec"], {"owner": "corp:alice"})["key"]
    console = come_in(server, "corp:alice", "wonder")
    assert console().status_code == 200
    body = {"model": MODEL, "messages": [{"role": "user", "content": "go on"}], "stream": True, "max_tokens": 4000}
    ended: list[str] = []

    def read() -> None:
        with httpx.stream(
            "POST", f"{server.base_url}/chat/completions", headers={"authorization": f"Bearer {key}"}, timeout=120,
            json=body,
        ) as answer:  # fmt: skip
            for line in answer.iter_lines():
                ended.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: len(ended) > 3, limit_s=60)
    fake.person("alice", nsAccountLock="TRUE")
    reader.join(90)
    assert not reader.is_alive() and "disabled" in "".join(ended[-5:])
    refused = httpx.post(
        f"{server.base_url}/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body, timeout=60
    )
    assert refused.status_code == 401 and "disabled" in refused.text
    assert console().status_code == 303, "back to the log-in"
    eventually(lambda: "the directory of corp disabled corp:alice" in bodies(mails))
    push_and_disable(server, keys)
    eventually(lambda: "the directory of pushed disabled pushed:al" in bodies(mails))
    assert {one.to for one in mails.mails} == {("security-officer@corp.example",)}
    assert bodies(mails).count("corp:alice") == 1, "it is news once"
    records = ask(server, "GET", "/audit/records?action=directory:*", keys["aud"])
    assert any(one["action"] == "directory:disable" for one in records["items"]), json.dumps(records)[:2000]
    eventually(lambda: b'"action":"directory:disable"' in siem.out.read_bytes())
    verify = Block(
        line=0, commands=f"ashore feed verify '{siem.out}' --public-key '{server.home}/audit/public-key.pem'",
        shown=("… as written",),
    )  # fmt: skip
    run_block(verify, folder=server.home, env=reader_env(server.home, server.home))
