"""What goes over each kind of channel, and what its receiver says where it did not take it.

Robots answer 200 with an error inside. Sources: 钉钉 "自定义机器人接入"; 飞书 "自定义机器人使用指南"; 企业微信 91770;
Alertmanager 0.28, "Webhook" and api/v2; Standard Webhooks 1.0; RFC 5321, 8314 (mail over TLS), 3834 (automatic mail).
"""

from __future__ import annotations

import asyncio
import base64
import email.message
import email.policy
import email.utils
import hashlib
import hmac
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final
from urllib.parse import quote_plus, urlsplit

import msgspec

from ashore.control.alerts.model import Alert, Message
from ashore.control.alerts.section import ChannelTable
from ashore.control.alerts.wording import body, tame, title
from ashore.control.jobs import signed_headers
from ashore.core.errors import AshoreError, InvalidSpec, RemoteRefused, SourceUnreachable
from ashore.core.timespan import written_moment
from ashore.kit.decode import UNDECODABLE
from ashore.kit.egress import Allowed, check_addresses, check_url
from ashore.kit.identity import trust

TIMEOUT_S: Final = 15.0
MAIL_S: Final = 30.0
"""Longest whole talk with a mail server, which may send a line at a time for ever."""
MOST_ANSWER_BYTES: Final = 64 << 10
ROBOT_BYTES: Final = 3_800
"""Most bytes of a robot's text; WeCom takes 4,096 of Markdown."""
HEADERS: Final = frozenset(
    {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "x-auto-response-suppress", "mime-version",
        "content-type", "content-transfer-encoding",
    }
)  # fmt: skip
"""Every header that a mail of ours has. Another one would be somebody's who writes names."""
_END_S: Final = 240.0
"""How long an Alertmanager keeps an alert that is not sent again."""


async def deliver(
    channel: ChannelTable, message: Message, *, allow: Sequence[Allowed], node: str, console: str, now_s: float
) -> None:
    """Send a message over a channel. Returns when its receiver has taken it. May be called twice.

    Raises:
        AshoreError: it is not known to have it. The text holds no address and no secret.
    """
    if channel.kind == "mail":
        await asyncio.to_thread(_mail, channel, message, allow, node, console, now_s)
        return
    url, payload, headers, taken = REQUESTS[channel.kind](channel, message, node, console, now_s)
    answer = await _posted(channel, url, msgspec.json.encode(payload), allow, headers)
    if taken is not None and not taken(answer):
        said = {name: answer.get(name) for name in ("errcode", "errmsg", "code", "msg") if name in answer}
        raise RemoteRefused(f"the robot said {str(said)[:200]}", hint="check the secret, the keyword and the limits")


async def beat(hook: str, *, allow: Sequence[Allowed]) -> None:
    """Say at an address that this server is well. Raises as `deliver`."""
    await _posted(ChannelTable(name="heartbeat", kind="webhook", hook=hook), hook, b"{}", allow, {})


async def _posted(
    channel: ChannelTable, url: str, content: bytes, allow: Sequence[Allowed], headers: Mapping[str, str]
) -> dict[str, Any]:
    from httpx import HTTPError

    from ashore.kit.outgoing import ask_checked

    try:
        answer = await ask_checked(
            url, allow, method="POST", headers={"content-type": "application/json", **headers}, content=content,
            verify=trust(f"the channel {channel.name}", channel.ca_file), most_bytes=MOST_ANSWER_BYTES,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
    except (HTTPError, OSError, TimeoutError) as fault:  # its text may hold the address
        raise SourceUnreachable(
            f"{urlsplit(url).hostname} did not answer: {type(fault).__name__}", hint="check that it can be reached"
        ) from fault
    if not 200 <= answer.status < 300:
        raise RemoteRefused(f"{urlsplit(url).hostname} answered {answer.status}", hint="check the address and secret")
    try:
        found = msgspec.json.decode(answer.body or b"{}")
    except UNDECODABLE:
        return {}
    return found if isinstance(found, dict) else {}


Request = tuple[str, Any, Mapping[str, str], Callable[[dict[str, Any]], bool] | None]
"""Address, JSON, headers, and whether an answer says that it was taken; None: its status does."""


def dingtalk(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> Request:
    """Return a request to a robot of DingTalk; the signature stands in the address, in milliseconds."""
    url, now_ms = channel.hook, int(now_s * 1000)
    if channel.secret:
        signed = hmac.digest(channel.secret.encode(), f"{now_ms}\n{channel.secret}".encode(), hashlib.sha256)
        url += f"&timestamp={now_ms}&sign={quote_plus(base64.b64encode(signed).decode())}"
    head, text = _robot_text(channel, message, node, console)
    payload = {"msgtype": "markdown", "markdown": {"title": head, "text": f"{head}\n\n" + text.replace("\n", "\n\n")}}
    return url, payload, {}, lambda answer: answer.get("errcode") == 0


def feishu(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> Request:
    """Return a request to a robot of Feishu; the key signs an empty message, in seconds."""
    head, text = _robot_text(channel, message, node, console)
    payload: dict[str, Any] = {"msg_type": "text", "content": {"text": f"{head}\n{text}"}}
    if channel.secret:
        signed = hmac.digest(f"{int(now_s)}\n{channel.secret}".encode(), b"", hashlib.sha256)
        payload |= {"timestamp": str(int(now_s)), "sign": base64.b64encode(signed).decode()}
    return channel.hook, payload, {}, lambda answer: answer.get("code", answer.get("StatusCode")) == 0


def wecom(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> Request:
    """Return a request to a robot of WeCom, whose address is its secret."""
    head, text = _robot_text(channel, message, node, console)
    payload = {"msgtype": "markdown", "markdown": {"content": f"{head}\n{text}"}}
    return channel.hook, payload, {}, lambda answer: answer.get("errcode") == 0


def webhook(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> Request:
    """Return a signed request with the body of an Alertmanager's webhook, version 4."""
    alerts = [*message.firing, *message.ended]
    payload = {
        "version": "4", "groupKey": f"ashore/{node}", "truncatedAlerts": message.dropped, "receiver": channel.name,
        "status": "firing" if message.firing else "resolved", "groupLabels": {}, "commonLabels": {"node": node},
        "commonAnnotations": {}, "externalURL": console, "alerts": [_prometheus(one, node, console) for one in alerts],
    }  # fmt: skip
    raw = msgspec.json.encode(payload)
    names = "".join(one.wrong.id for one in alerts)
    event = f"alert_{hashlib.sha256(f'{names}{now_s}'.encode()).hexdigest()[:24]}"
    return channel.hook, msgspec.Raw(raw), signed_headers(
        channel.secret, event_id=event, timestamp_s=int(now_s), body=raw
    ), None  # fmt: skip


def alertmanager(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> Request:
    """Return a request to the API of an Alertmanager, with every alert that is open."""
    alerts = []
    for one in (*message.firing, *message.ended):
        told = _prometheus(one, node, console)
        ends = told["endsAt"] if one.gone_s else written_moment(now_s + _END_S)
        alerts.append({**{k: told[k] for k in ("labels", "annotations", "startsAt", "generatorURL")}, "endsAt": ends})
    headers = {"authorization": f"Bearer {channel.secret}"} if channel.secret else {}
    return channel.hook.rstrip("/") + "/api/v2/alerts", alerts, headers, None


REQUESTS: Final[Mapping[str, Callable[[ChannelTable, Message, str, str, float], Request]]] = {
    "alertmanager": alertmanager, "dingtalk": dingtalk, "feishu": feishu, "webhook": webhook, "wecom": wecom,
}  # fmt: skip


def _prometheus(alert: Alert, node: str, console: str) -> dict[str, Any]:
    wrong = alert.wrong
    labels = {
        "alertname": wrong.rule, "severity": wrong.severity, "area": wrong.area, "node": node, "ashore_id": wrong.id,
    }  # fmt: skip
    return {
        "status": "resolved" if alert.gone_s else "firing",
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": wrong.what, "description": wrong.remedy},
        "startsAt": written_moment(alert.since_s),
        "endsAt": written_moment(alert.gone_s) if alert.gone_s else "0001-01-01T00:00:00Z",
        "generatorURL": f"{console}/alerts" if console else "", "fingerprint": wrong.id,
    }  # fmt: skip


def _robot_text(channel: ChannelTable, message: Message, node: str, console: str) -> tuple[str, str]:
    head = f"{channel.prefix} {tame(title(message, node, channel.language))}".strip()
    raw = body(message, console, channel.language, tamed=True).encode()
    room = ROBOT_BYTES - len(head.encode())
    text = raw.decode() if len(raw) <= room else raw[:room].decode("utf-8", "ignore") + " …"
    return head, text


def mail_of(channel: ChannelTable, message: Message, node: str, console: str, now_s: float) -> bytes:
    """Return a mail as it goes out.

    Raises:
        InvalidSpec: a text in it would become a header of its own.
    """
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["To"] = channel.sender, ", ".join(channel.to)
    # The library decodes an encoded word of a subject and writes its line break out (Python 3.11 and 3.12).
    subject = f"{channel.prefix} {title(message, node, channel.language)}".strip()
    mail["Subject"] = subject.replace("=?", "= ?")[:300]
    mail["Date"] = email.utils.formatdate(now_s)
    mail["Message-ID"] = f"<{hashlib.sha256(f'{node}{now_s}{channel.name}'.encode()).hexdigest()[:32]}@ashore>"
    mail["Auto-Submitted"], mail["X-Auto-Response-Suppress"] = "auto-generated", "All"
    mail.set_content(body(message, console, channel.language) + "\n")
    raw = mail.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = {line.partition(b":")[0].decode("ascii", "replace").lower() for line in head if line[:1] not in b" \t"}
    if not names <= HEADERS:
        raise InvalidSpec(f"a mail would get the headers {sorted(names - HEADERS)}", hint="report this; a name did it")
    return raw


def _mail(
    channel: ChannelTable, message: Message, allow: Sequence[Allowed], node: str, console: str, now_s: float
) -> None:
    from ashore.kit.outgoing import addresses_of

    raw = mail_of(channel, message, node, console, now_s)
    parts, target = urlsplit(channel.server), check_url(channel.url, allow)
    found = [target.host] if target.literal else addresses_of(target.host, target.port)
    address, context = check_addresses(target, found), trust(f"the channel {channel.name}", channel.ca_file)
    try:
        with _Smtp(address, target, context if parts.scheme == "smtps" else None) as server:
            server.ehlo()
            if parts.scheme == "smtp":
                server.starttls(context=context)  # a server without it gets nothing
                server.ehlo()
            if channel.user:
                server.login(channel.user, channel.password)
            refused = server.sendmail(channel.sender, list(channel.to), raw)
    except (smtplib.SMTPException, OSError) as fault:
        raise SourceUnreachable(
            f"the mail server {target.host} took no mail: {_said(fault)}", hint="check server, user and password"
        ) from fault
    if refused:
        raise RemoteRefused(f"the mail server {target.host} refused {', '.join(sorted(refused))}", hint="check `to`")


class _Smtp(smtplib.SMTP):
    """A connection to an address that was checked, whose certificate is for the name. It ends after `MAIL_S`."""

    def __init__(self, address: str, target: Any, trust: ssl.SSLContext | None) -> None:
        self._trust, self._target = trust, target
        self._end: threading.Timer | None = None
        self._same: socket.socket | None = None
        """The same connection: STARTTLS makes another object of it."""
        super().__init__(timeout=TIMEOUT_S, local_hostname=socket.gethostname() or "localhost")
        self._host = target.host
        code, said = self.connect(address, target.port)
        if code != 220:
            self.close()
            raise smtplib.SMTPConnectError(code, said)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        self._same = plain.dup()
        self._end = threading.Timer(MAIL_S, _cut, [self._same])
        self._end.daemon = True
        self._end.start()
        return plain if self._trust is None else self._trust.wrap_socket(plain, server_hostname=self._target.host)

    def close(self) -> None:
        if self._end is not None and self._same is not None:
            self._end.cancel()
            self._same.close()
        super().close()

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock.makefile("rb"))
        return super().getreply()

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        said = super().connect(host, port, source_address)
        self._host = self._target.host  # what STARTTLS verifies
        return said


class _Lines:
    """Lines of a mail server, of which all together have `MOST_ANSWER_BYTES`: an answer may have any number."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, MOST_ANSWER_BYTES
        self.close = file.close

    def readline(self, size: int) -> bytes:
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise OSError(f"it sent more than {MOST_ANSWER_BYTES:,} bytes")
        return line


def _cut(connection: socket.socket) -> None:
    """End a connection that another thread reads."""
    with suppress(OSError), connection:
        connection.shutdown(socket.SHUT_RDWR)


def _said(fault: Exception) -> str:
    """Return what a mail server answered, without what was sent to it."""
    if isinstance(fault, smtplib.SMTPResponseException):
        said = fault.smtp_error
        return f"{fault.smtp_code} {(said.decode('utf-8', 'replace') if isinstance(said, bytes) else said)[:200]}"
    if isinstance(fault, smtplib.SMTPNotSupportedError):
        return "it offers no STARTTLS or no log-in"
    if isinstance(fault, smtplib.SMTPRecipientsRefused):
        return f"it refused {', '.join(sorted(fault.recipients))}"
    return type(fault).__name__ if isinstance(fault, smtplib.SMTPException) else str(fault.strerror or fault)  # type: ignore[attr-defined]


def words_of(fault: AshoreError) -> str:
    """Return what failed, on one line."""
    return f"{fault.code}: {fault.message}"[:300]
