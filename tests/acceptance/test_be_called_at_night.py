"""The page that calls people, with a server and a mail server: its commands, and the mail that somebody gets."""

from __future__ import annotations

import email
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from debian_packages import unpacked
from mail_server import MailServer
from page_run import blocks_of, reader_env, run_block
from served import call, start_served
from waiting import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "be-called-at-night.md"


@pytest.fixture
def mails(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path)
    yield server
    server.close()


def test_the_page_does_what_it_says_and_what_is_wrong_arrives_by_mail(
    tmp_path: Path, mails: MailServer, free_port: Callable[[], int]
) -> None:
    page, folder, home = PAGE.read_text(encoding="utf-8"), tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    for name in ("ding-hook", "ding-secret"):
        (folder / name).write_text(f"http://127.0.0.1:9/{name}")
    for old, new in (
        ("mail.corp.example:587@10.0.0.0/8", f"127.0.0.1:{mails.port}"), ("/run/secrets", str(folder)),
        ("smtp://mail.corp.example:587", mails.address), ("/etc/ashore/corp-ca.pem", str(mails.ca)),
        ("[alert]\n", "[alert]\nlook_s = 10\nwait_s = 0\ngroup_s = 0\nsettle_s = 1\n"),
    ):  # fmt: skip
        assert old in page
        page = page.replace(old, new)
    blocks, files = blocks_of(page)
    server = start_served(
        home, ("fake:echo",), store=None, port=free_port(), grpc_port=free_port(), config=files["ashore.toml"]
    )
    try:
        asked = {"id": "sam", "roles": ["system-administrator"], "key": {}}
        key = call(server, "POST", "/admin/v1/users", server.key, asked)["key"]["key"]
        sec = call(
            server, "POST", "/admin/v1/users", server.key, {"id": "sec", "roles": ["security-officer"], "key": {}}
        )["key"]["key"]
        for block in blocks:
            keys = {"ASHORE_API_KEY": key, "OFFICER_KEY": sec}
            run_block(block, folder=folder, env={**reader_env(folder, home), **keys})
        assert b"this is a test of the channel" in mails.mails[0].data and b"alert ack" not in mails.mails[0].data
        (home / "recovery.key").write_text("secret")
        (home / "recovery.key").chmod(0o644)
        home.chmod(0o755)
        eventually(lambda: any(b"recovery.key" in _text(one.data) for one in mails.mails), 150)
        hands_in(page, folder, server.root_url, mails, free_port)
    finally:
        server.stop()
    assert all(one.over_tls and one.to == ("on-call@corp.example",) for one in mails.mails)


def hands_in(page: str, folder: Path, url: str, mails: MailServer, free_port: Callable[[], int]) -> None:
    """Have a real Alertmanager hand in an alert, and resolve it."""
    package = unpacked("alertmanager", ("prometheus-alertmanager",))
    if package is None:
        pytest.skip("there is no Alertmanager for this machine")
    config = page.partition("# alertmanager.yml\n")[2].partition("   ```")[0]
    config = config.replace("https://ai.corp.example", url).replace("/etc/alertmanager", str(folder))
    config += "route: {receiver: ashore, group_wait: 0s, group_interval: 1s}\n"
    (folder / "alertmanager.yml").write_text("\n".join(line.removeprefix("   ") for line in config.splitlines()))
    port = free_port()
    words = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", f"--storage.path={folder}/am"]
    # Debian's program reads its templates below /usr/share
    there = f"mount --bind '{package}/usr/share' /usr/share && exec '{package}/usr/bin/prometheus-alertmanager' \"$@\""
    running = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", there, "sh", f"--config.file={folder}/alertmanager.yml", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    alert: dict[str, Any] = {
        "labels": {"alertname": "RackHot", "severity": "page"},
        "annotations": {"summary": "rack\r\nBcc: x@evil.example 7 is hot"},
    }
    own = {"labels": {"alertname": "D301", "ashore_id": "0f3a9c1b2d4e"}, "annotations": {"summary": "a thing of ours"}}
    try:
        api = f"http://127.0.0.1:{port}/api/v2/alerts"
        eventually(lambda: _gives(api, [alert, own]))
        eventually(
            lambda: any(b"critical: RackHot: rack Bcc: x@evil.example 7" in _text(one.data) for one in mails.mails), 60
        )
        _gives(api, [{**alert, "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))}])
        eventually(lambda: any(b"over: RackHot" in _text(one.data) for one in mails.mails), 60)
    finally:
        running.kill()
        running.wait()
    assert not any(b"a thing of ours" in _text(one.data) for one in mails.mails)
    heads = [one.data.partition(b"\r\n\r\n")[0] for one in mails.mails]
    assert not any(re.search(rb"^Bcc", head, re.MULTILINE) for head in heads)


def _gives(url: str, alerts: list[dict[str, Any]]) -> bool:
    try:
        return httpx.post(url, json=alerts, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _text(data: bytes) -> bytes:
    return bytes(email.message_from_bytes(data).get_payload(decode=True))  # type: ignore[arg-type]
