"""The page that calls people, with a server and a mail server: its commands, and the mail that somebody gets."""

from __future__ import annotations

import email
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
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
        ("[alert]\n", "[alert]\nlook_s = 10\nwait_s = 0\ngroup_s = 0\n"),
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
        for block in blocks:
            run_block(block, folder=folder, env={**reader_env(folder, home), "ASHORE_API_KEY": key})
        assert b"this is a test of the channel" in mails.mails[0].data and b"alert ack" not in mails.mails[0].data
        (home / "recovery.key").write_text("secret")
        (home / "recovery.key").chmod(0o644)
        home.chmod(0o755)
        eventually(lambda: any(b"recovery.key" in _text(one.data) for one in mails.mails), 150)
    finally:
        server.stop()
    assert all(one.over_tls and one.to == ("on-call@corp.example",) for one in mails.mails)


def _text(data: bytes) -> bytes:
    return bytes(email.message_from_bytes(data).get_payload(decode=True))  # type: ignore[arg-type]
