"""Channels: what each receiver gets, that a refusal inside of a good answer is seen, and that no name can act."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from http_receiver import http_receiver
from mail_server import MailServer
from syslog_server import certificate

from ashore.control.alerts import channels
from ashore.control.alerts.channels import beat, deliver, mail_of
from ashore.control.alerts.model import Alert, Message, Wrong
from ashore.control.alerts.section import ChannelTable
from ashore.core.errors import AshoreError, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.kit.egress import LOOPBACK, parse_allow

ALLOW = parse_allow(LOOPBACK)
NOW_S = 1_764_600_000.0
EVIL = (
    "alice\r\nBcc: all@corp.example", "=?utf-8?q?=0aBcc:_a?=", "名字\u2028Bcc: a", "x\n\nbody", "\u202egnp",
    "[click](http://evil.example) @all <at user_id=\"all\"></at> <@all> `rm -rf` **big** # head",
)  # fmt: skip


def a_message(what: str = "the disk is full", *, num: int = 1, ended: bool = False) -> Message:
    alerts = tuple(
        Alert(
            wrong=Wrong(rule="D301", severity="critical", what=f"{what} {n}" if n else what, remedy="free space"),
            since_s=NOW_S, gone_s=NOW_S + 60 if ended else 0.0,
        )
        for n in range(num)
    )  # fmt: skip
    return Message(channel="ops", **({"ended": alerts} if ended else {"firing": alerts}))


def send(channel: ChannelTable, message: Message | None = None, allow: Any = ALLOW) -> None:
    asyncio.run(deliver(channel, message or a_message(), allow=allow, node="node1", console="https://c", now_s=NOW_S))


def a_mail_channel(server: MailServer, **more: Any) -> ChannelTable:
    return ChannelTable(
        name="mail", kind="mail", server=server.address, sender="ashore@corp.example", to=("on-call@corp.example",),
        ca_file=str(server.ca), **more,
    )  # fmt: skip


@contextmanager
def mail_server(folder: Path, **how: Any) -> Iterator[MailServer]:
    server = MailServer(folder, **how)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("tls", ["starttls", "from the start"])
def test_a_mail_arrives_over_tls_with_a_log_in(tmp_path: Path, tls: str) -> None:
    with mail_server(tmp_path, tls=tls) as server:
        send(a_mail_channel(server, user="ashore", password="secret"))
    (mail,) = server.mails
    told = email.message_from_bytes(mail.data)
    assert mail.over_tls and mail.to == ("on-call@corp.example",) and server.log_ins
    assert told["Subject"] == "[critical] node1: the disk is full"
    text = told.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "do: free space" in text and "ashore alert ack" in text and "https://c/alerts" in text


def test_a_message_is_in_the_language_of_its_channel(tmp_path: Path) -> None:
    what = "the kernel killed 2 processes because the machine had no memory left"
    with mail_server(tmp_path) as server:
        send(a_mail_channel(server, language="zh"), a_message(what))
    told = email.message_from_bytes(server.mails[0].data, policy=email.policy.default)
    assert told["Subject"] == "[严重] node1: 内核终止了 2 个进程，因为本机已无内存"
    text = told.get_content()  # type: ignore[attr-defined]
    assert (
        "内核终止了 2 个进程，因为本机已无内存 (D301, 自 2025-12-01 14:40:00 UTC" in text and "处理: free space" in text
    )
    for kind in ("dingtalk", "feishu", "wecom"):
        for language, severity in (("en", "critical"), ("zh", "严重")):
            robot = ChannelTable(name="ops", kind=kind, hook="https://x", language=language)  # type: ignore[arg-type]
            said = str(channels.REQUESTS[kind](robot, a_message(what), "node1", "", NOW_S)[1])
            assert severity in said and ("内核终止了" in said) == (language == "zh")


def test_no_mail_goes_out_in_clear_to_a_stranger_or_after_a_refusal(tmp_path: Path) -> None:
    with mail_server(tmp_path, tls="none") as server, pytest.raises(SourceUnreachable, match="no STARTTLS"):
        send(a_mail_channel(server))
    assert not server.mails
    other, _, _ = certificate(tmp_path / "other")
    with mail_server(tmp_path) as server, pytest.raises(SourceUnreachable):
        send(ChannelTable(**{**_fields(a_mail_channel(server)), "ca_file": str(other)}))
    with mail_server(tmp_path) as server:
        server.refuses = "451 try later"
        with pytest.raises(SourceUnreachable, match="451 try later"):
            send(a_mail_channel(server))
        with pytest.raises(PermissionDenied):
            send(a_mail_channel(server), allow=())


@pytest.mark.parametrize(("line", "each_s"), [(b"220-" + b"x" * 500 + b"\r\n", 0.0), (b"220-x\r\n", 0.01)])
def test_a_mail_server_that_never_ends_its_answer_is_given_up(
    line: bytes, each_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may send a line at a time for ever."""
    monkeypatch.setattr(channels, "MAIL_S", 0.5)

    def talk() -> None:
        visitor, _ = listener.accept()
        with visitor, suppress(OSError):
            while True:
                visitor.sendall(line)
                time.sleep(each_s)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        channel = ChannelTable(
            name="mail", kind="mail", server=f"smtp://127.0.0.1:{port}", sender="a@corp.example", to=("b@corp.example",)
        )
        with pytest.raises(SourceUnreachable, match="took no mail"):
            send(channel)
        thread.join(60)
        assert not thread.is_alive()


def _fields(channel: ChannelTable) -> dict[str, Any]:
    return {name: getattr(channel, name) for name in channel.__struct_fields__}


@pytest.mark.parametrize("evil", EVIL)
def test_a_name_becomes_no_header_of_a_mail(tmp_path: Path, evil: str) -> None:
    with mail_server(tmp_path) as server:
        channel = a_mail_channel(server)
        raw = mail_of(channel, a_message(f"the key of {evil} expires"), f"node {evil}", "", NOW_S)
        send(channel, a_message(f"the key of {evil} expires"))
    for data in (raw, server.mails[0].data):
        told = email.message_from_bytes(data)
        assert told["Bcc"] is None and told["To"] == "on-call@corp.example" and len(told.keys()) == 10


def taken(path: str, body: bytes) -> tuple[int, Any]:
    return 200, {"errcode": 0, "code": 0}


def refused(path: str, body: bytes) -> tuple[int, Any]:
    return 200, {"errcode": 310000, "errmsg": "sign not match", "code": 19021, "msg": "sign match fail"}


ROBOTS = ("dingtalk", "feishu", "wecom")


@pytest.mark.parametrize("kind", ROBOTS)
def test_a_robot_that_refuses_inside_of_a_good_answer_has_not_taken_it(kind: str) -> None:
    for answer in (taken, refused):
        with http_receiver(answer) as (url, came):
            channel = ChannelTable(name="ops", kind=kind, hook=f"{url}/robot/TOPSECRET?key=TOPSECRET", secret="SEC")  # type: ignore[arg-type]
            if answer is taken:
                send(channel)
                continue
            with pytest.raises(RemoteRefused) as fault:
                send(channel)
            assert "TOPSECRET" not in fault.value.in_one_line and "sign" in fault.value.message
    assert len(came) == 1


def test_robots_are_signed_as_they_want_it() -> None:
    with http_receiver(taken) as (url, came):
        send(ChannelTable(name="ops", kind="dingtalk", hook=f"{url}/send?access_token=t", secret="SEC", prefix="告警"))
        send(ChannelTable(name="ops", kind="feishu", hook=f"{url}/hook", secret="SEC"))
    query = parse_qs(urlsplit(came[0][0]).query)
    assert query["timestamp"] == ["1764600000000"]
    wanted = hmac.digest(b"SEC", b"1764600000000\nSEC", hashlib.sha256)
    assert query["sign"] == [base64.b64encode(wanted).decode()]
    assert json.loads(came[0][2])["markdown"]["title"].startswith("告警 ")
    signed = json.loads(came[1][2])
    wanted = hmac.digest(b"1764600000\nSEC", b"", hashlib.sha256)
    assert signed["timestamp"] == "1764600000" and signed["sign"] == base64.b64encode(wanted).decode()


@pytest.mark.parametrize("kind", ROBOTS)
def test_a_name_neither_mentions_nor_links_nor_bursts_a_robot(kind: str) -> None:
    with http_receiver(taken) as (url, came):
        channel = ChannelTable(name="ops", kind=kind, hook=f"{url}/x")  # type: ignore[arg-type]
        for evil in EVIL:
            send(channel, a_message(evil))
        send(channel, a_message("名" * 400, num=900))
    for _, _, body in came:
        text = json.dumps(json.loads(body), ensure_ascii=False)
        for forbidden in ("@all", "<at", "<@", "](", "http://evil", "`rm", "**big"):
            assert forbidden not in text
        assert len(text.encode()) < (8_000 if kind == "dingtalk" else 4_096)
    assert "more" in came[-1][2].decode() or "…" in json.loads(came[-1][2]).__str__()


def test_a_webhook_is_signed_and_has_the_body_of_an_alertmanager() -> None:
    key = base64.b64encode(b"k" * 24).decode()
    with http_receiver(taken) as (url, came):
        send(ChannelTable(name="ops", kind="webhook", hook=f"{url}/hook", secret=f"whsec_{key}"), a_message(num=3))
    _, headers, body = came[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.digest(b"k" * 24, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    told = json.loads(body)
    assert told["version"] == "4" and told["status"] == "firing" and len(told["alerts"]) == 3
    assert told["alerts"][0]["labels"]["alertname"] == "D301" and told["alerts"][0]["endsAt"].startswith("0001")


def test_an_alertmanager_gets_ends_as_ends() -> None:
    with http_receiver(taken) as (url, came):
        channel = ChannelTable(name="am", kind="alertmanager", hook=url, secret="token")
        send(channel)
        send(channel, a_message(ended=True))
    path, headers, body = came[0]
    assert path == "/api/v2/alerts" and headers["authorization"] == "Bearer token"
    assert json.loads(body)[0]["endsAt"] == "2025-12-01T14:44:00Z"
    assert json.loads(came[1][2])[0]["endsAt"] == "2025-12-01T14:41:00Z"


@pytest.mark.parametrize("answer", [lambda path, body: (500, {}), lambda path, body: (302, {})])
def test_another_status_is_a_failure_and_no_redirect_is_followed(answer: Callable[[str, bytes], Any]) -> None:
    with http_receiver(answer) as (url, came):
        for kind in (*ROBOTS, "alertmanager"):
            with pytest.raises(AshoreError):
                send(ChannelTable(name="ops", kind=kind, hook=f"{url}/x"))  # type: ignore[arg-type]
        with pytest.raises(AshoreError):
            asyncio.run(beat(f"{url}/beat", allow=ALLOW))
    assert len(came) == 5


def test_nothing_goes_to_a_host_that_egress_does_not_allow() -> None:
    for hook in ("http://127.0.0.1:1/SECRET", "http://169.254.169.254/SECRET", "http://10.0.0.1/SECRET"):
        with pytest.raises(PermissionDenied) as fault:
            send(ChannelTable(name="ops", kind="wecom", hook=hook), allow=parse_allow(["hooks.corp.example"]))
        assert "SECRET" not in fault.value.in_one_line
