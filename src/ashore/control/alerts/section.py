"""`[alert]`: who is told of what is wrong, on which way, and how often."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean
from ashore.kit.section import AFile, Seconds, Section, toml
from ashore.kit.sentences import Language

Kind = Literal["mail", "webhook", "alertmanager", "dingtalk", "feishu", "wecom"]
Severity = Literal["critical", "warning", "advice"]
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,30}\Z", examples=['"ops"'])]
_QUIET: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d) (\S+)")
_MAILBOX: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}")


class ChannelTable(Section, frozen=True, kw_only=True):
    """A way to reach people."""

    name: Name
    """Name of the channel."""
    kind: Annotated[Kind, Meta(examples=['"mail"'])]
    """`mail`; `webhook`, a signed POST with the body of an Alertmanager's webhook; `alertmanager`, the API of an
    Alertmanager that routes itself; `dingtalk`, `feishu`, `wecom`, robots of a group."""
    hook: str = ""
    """Address of the webhook, robot or Alertmanager, with whatever is secret in it, best as `{ from_file = PATH }`. Its
    host must be in `[egress] allow`."""
    secret: str = ""
    """What signs: of a robot, or `whsec_…` of a webhook. Of an Alertmanager: its bearer token."""
    prefix: Annotated[str, Meta(max_length=40)] = ""
    """Text before each message: the keyword that a robot may ask for."""
    language: Language = "en"
    """Language of its messages: `en` or `zh`. A webhook and an Alertmanager get English always."""
    server: Annotated[str, Meta(examples=['"smtp://mail.corp.example:587"'])] = ""
    """Mail server, `smtps://HOST:465` or `smtp://HOST:587`, which must offer STARTTLS. Its host must be in
    `[egress] allow`."""
    user: str = ""
    """Name for the mail server; empty: none."""
    password: str = ""
    """Its password, best as `{ from_file = PATH }`."""
    sender: str = ""
    """Address that mails come from."""
    to: tuple[str, ...] = ()
    """Addresses that mails go to."""
    ca_file: AFile = ""
    """Authority of the server's certificate; empty: those of the system."""

    @property
    def url(self) -> str:
        """The address that `[egress]` judges."""
        if self.kind != "mail":
            return self.hook
        parts = urlsplit(self.server)
        return f"https://{parts.netloc}" if parts.port else f"https://{parts.netloc}:{self.mail_port}"

    @property
    def mail_port(self) -> int:
        parts = urlsplit(self.server)
        return parts.port or (465 if parts.scheme == "smtps" else 587)

    def checked(self, where: str) -> Self:
        if self.kind == "mail":
            self._check_mail(where)
        elif urlsplit(self.hook).scheme not in ("http", "https") or not urlsplit(self.hook).hostname:
            raise InvalidSpec(f"{where} needs the address of its {self.kind}", hint='hook = { from_file = "/…" }')
        if self.kind == "webhook" and not self.secret.startswith("whsec_"):
            raise InvalidSpec(f"{where} needs a secret that begins with whsec_", hint="the receiver verifies by it")
        if self.ca_file and not Path(self.ca_file).is_absolute():
            raise InvalidSpec(f"{where} ca_file = {self.ca_file!r} is a relative path", hint="write the whole path")
        return self

    def _check_mail(self, where: str) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.username or parts.path.strip("/"):
            raise InvalidSpec(f"{where} server = {self.server!r}", hint="smtps://HOST:465 or smtp://HOST:587")
        for address in (self.sender, *self.to):
            if not _MAILBOX.fullmatch(address):
                raise InvalidSpec(f"{where} has {address!r}, which is no mail address", hint="name@corp.example")
        if not self.to:
            raise InvalidSpec(f"{where} has nobody in `to`", hint='to = ["on-call@corp.example"]')


class RouteTable(Section, frozen=True, kw_only=True):
    """Which alerts go where. An alert takes every route that it matches."""

    severity: tuple[Severity, ...] = ("critical", "warning")
    """Of which severity."""
    rules: tuple[str, ...] = ()
    """Rules or areas, as `ashore doctor rules` lists them, and `budget`, `channel`, `directory`,
    `node`, `alertmanager`; empty: all."""
    to: Annotated[tuple[str, ...], Meta(min_length=1, examples=['["on-call"]'])]
    """Channels."""
    then: tuple[str, ...] = ()
    """Channels that also get a critical alert that nobody acknowledged within `escalate_s`."""
    quiet: str = ""
    """Hours in which it sends only what is critical: `22:00-08:00 Asia/Shanghai`. The rest follows when they end."""

    def is_quiet(self, now_s: float) -> bool:
        """Return whether a moment lies in the quiet hours."""
        found = _QUIET.fullmatch(self.quiet)
        if found is None:
            return False
        now = datetime.fromtimestamp(now_s, ZoneInfo(found[5]))
        at, begin, end = now.hour * 60 + now.minute, *(int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
        return begin <= at < end if begin <= end else at >= begin or at < end

    def checked(self, where: str) -> Self:
        found = _QUIET.fullmatch(self.quiet)
        times = [int(found[n]) < limit for n, limit in ((1, 24), (2, 60), (3, 24), (4, 60))] if found else []
        if self.quiet and not (found and all(times) and _is_zone(found[5])):
            raise InvalidSpec(f"{where} quiet = {self.quiet!r}", hint='quiet = "22:00-08:00 Asia/Shanghai"')
        return self


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


class AlertSection(Section, frozen=True, kw_only=True):
    """Alerts that reach a person: findings of the doctor, budgets, channels and servers that fail."""

    look_s: Annotated[float, Meta(ge=10, le=3600)] = 30.0
    """Time between two looks of the doctor. Each costs about a second of one processor, at low priority."""
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long something must be wrong before it is sent; if it is critical, at most 10 seconds."""
    group_s: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    """Time between two messages on one channel. What is critical does not wait."""
    settle_s: Seconds = 300.0
    """How long something must be well before its alert ends."""
    again_s: Seconds = 4 * 3600.0
    """Time after which an alert is sent again that nobody acknowledged."""
    escalate_s: Seconds = 900.0
    """Time after which a critical alert that nobody acknowledged also goes to `then`."""
    console: str = ""
    """Address of the console, `https://ai.corp.example/console`, that messages name; empty: none."""
    heartbeat_hook: str = ""
    """Address that gets a POST at an interval while this server is well enough to send alerts, so that another system
    notices when it is not. Empty: none. Its host must be in `[egress] allow`."""
    heartbeat_s: Annotated[float, Meta(ge=10, le=86_400)] = 60.0
    """That interval."""
    channels: Annotated[tuple[ChannelTable, ...], toml("channel")] = ()
    """Ways to reach people."""
    routes: Annotated[tuple[RouteTable, ...], toml("route")] = ()
    """Which alerts go where; without one, what is critical or a warning goes to every channel."""

    @property
    def calls(self) -> Mapping[str, str]:
        found = {f"channel {one.name}": one.url for one in self.channels}
        return {**found, "heartbeat_hook": self.heartbeat_hook} if self.heartbeat_hook else found

    @property
    def in_force(self) -> tuple[RouteTable, ...]:
        """The routes, or the one that stands for none."""
        names = tuple(one.name for one in self.channels)
        return self.routes or ((RouteTable(to=names),) if names else ())

    def checked(self, where: str) -> Self:
        names = [one.name for one in self.channels]
        if len(set(names)) < len(names):
            raise InvalidSpec(f"{where} has two channels of the same name", hint="give each its own name")
        for route in self.routes:
            for name in (*route.to, *route.then):
                if name not in names:
                    raise InvalidSpec(
                        f"{where} has a route to {name!r}, which is no [[alert.channel]]",
                        hint=did_you_mean(name, names) or "add the channel",
                    )
        if self.heartbeat_hook and urlsplit(self.heartbeat_hook).scheme not in ("http", "https"):
            raise InvalidSpec(f"{where} heartbeat_hook is not an http or https address", hint="use https://HOST/PATH")
        if self.console and urlsplit(self.console).scheme not in ("http", "https"):
            raise InvalidSpec(f"{where} console = {self.console!r}", hint="https://HOST/console")
        return self
