"""Receivers of a feed, by what they speak. Each knows how its kind confirms that it has what was sent."""

from __future__ import annotations

import os
import platform
import socket
import ssl
import stat
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from ashore import __version__
from ashore.control.feeds.forms import body_of
from ashore.control.feeds.reading import SIGNED, Line
from ashore.control.feeds.section import FeedTable
from ashore.core.errors import AshoreError, InvalidRequest, RemoteRefused, SourceUnreachable
from ashore.data.audit import shown_moment
from ashore.kit.decode import UNDECODABLE, check_parts
from ashore.kit.egress import Allowed, check_addresses, check_url
from ashore.kit.identity import trust

if TYPE_CHECKING:
    import httpx

PRIORITY: Final = 13 * 8 + 5
"""Facility 13, log audit; severity 5, notice. Source: RFC 5424, section 6.2.1."""
SD_ID: Final = "ashore@32473"
"""Structured data of a message; 32473 is the enterprise number for examples, of RFC 5612."""
TIMEOUT_S: Final = 15.0
"""Longest wait for one step of a receiver."""
CONFIRM_S: Final = 60.0
"""Longest wait until Splunk has indexed."""
_PIECE: Final = 1 << 18


class Receiver(Protocol):
    """Takes lines of the audit log."""

    def deliver(self, lines: Sequence[Line]) -> None:
        """Send lines. Returns when the receiver has confirmed every one. May be called twice with the same.

        Raises:
            AshoreError: it is not known to have all of them.
        """
        ...


def open_receiver(feed: FeedTable, allow: Sequence[Allowed]) -> Receiver:
    """Return the receiver of a feed. Connects on each delivery, to a checked address of a host in `allow`."""
    match feed.kind:
        case "syslog+tls":
            return Syslog(feed, allow)
        case "file":
            return File(feed)
        case "hec":
            return Splunk(feed, allow)
        case "elastic":
            return Elastic(feed, allow)
        case _:
            return Otlp(feed, allow)


@contextmanager
def faults(feed: FeedTable) -> Iterator[None]:
    """Translate what a socket or a file says."""
    try:
        yield
    except (OSError, ssl.SSLError) as fault:
        raise SourceUnreachable(
            f"the receiver of the feed {feed.name} did not take the records: {fault.strerror or fault}",
            hint="check that it runs, its address and its certificate; nothing is lost meanwhile",
        ) from fault


def _trust(feed: FeedTable) -> ssl.SSLContext:
    return trust(f"the feed {feed.name}", feed.ca_file, feed.client_cert, feed.client_key)


class Syslog:
    """RFC 5424 in the frames of RFC 5425. The receiver confirms by closing: TLS syslog has no acknowledgement, and
    what was only written may die in its socket."""

    def __init__(self, feed: FeedTable, allow: Sequence[Allowed]) -> None:
        self._feed, self._allow = feed, allow
        self._host = "".join(c for c in platform.node() if 33 <= ord(c) <= 126)[:255] or "-"

    def deliver(self, lines: Sequence[Line]) -> None:
        from ashore.kit.outgoing import addresses_of

        context = _trust(self._feed)
        target = check_url(self._feed.url, self._allow)
        with faults(self._feed):
            found = [target.host] if target.literal else addresses_of(target.host, target.port)
            with (
                socket.create_connection((check_addresses(target, found), target.port), timeout=TIMEOUT_S) as plain,
                context.wrap_socket(plain, server_hostname=target.host) as stream,
            ):
                waiting = bytearray()
                for line in lines:
                    waiting += framed(syslog_message(line, self._feed, self._host))
                    if len(waiting) > _PIECE:
                        stream.sendall(waiting)
                        waiting.clear()
                stream.sendall(waiting)
                _close_in_order(stream)


def _close_in_order(stream: ssl.SSLSocket) -> None:
    """Say that this is the end, and wait for the receiver's own: it ends when it has read everything.

    Raises:
        OSError: it did not.
    """
    stream.unwrap().close()


def framed(message: bytes) -> bytes:
    """Return a message with its length in bytes before it. Source: RFC 5425, section 4.3."""
    return b"%d %s" % (len(message), message)


def syslog_message(line: Line, feed: FeedTable, host: str) -> bytes:
    """Return an RFC 5424 message, with the place and the hash of the line as structured data."""
    at = datetime.fromtimestamp(line.at_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    kind = "checkpoint" if line.chain == SIGNED else "audit"
    head = f'<{PRIORITY}>1 {at} {host} ashore - {kind} [{SD_ID} home="{_sd(line.home)}" chain="{_sd(line.chain)}" '
    head += f'seq="{line.seq}" after="{line.after}" hash="{line.hash}"'
    body, cut = body_of(line, feed.form, feed.most_bytes - len(head) - 16)
    return head.encode() + (b' cut="1"] ' if cut else b"] ") + b"\xef\xbb\xbf" + body


def _sd(text: str) -> str:
    """Return a value of structured data: `"`, `\\` and `]` escaped, nothing that ends a line. RFC 5424, 6.3.3."""
    return "".join("\\" + c if c in '"\\]' else c if c.isprintable() else "?" for c in text)


def json_event(line: Line, feed: FeedTable) -> bytes:
    """Return a line as one JSON object: its place and hash as `ashore`, and beside it the record."""
    body, cut = body_of(line, feed.form, feed.most_bytes - 300)
    place: dict[str, Any] = {
        "home": line.home, "chain": line.chain, "seq": line.seq, "after": line.after, "hash": line.hash,
    }  # fmt: skip
    if cut:
        place["cut"] = 1
    if line.chain == SIGNED:
        return msgspec.json.encode({"ashore": place, "checkpoint": body.decode()})
    name = "record" if feed.form == "jsonl" else feed.form
    return msgspec.json.encode({"@timestamp": shown_moment(line.at_us), "ashore": place, name: msgspec.Raw(body)})


class File:
    """Appends to a file, for an agent that ships it. Confirmed by the disk."""

    def __init__(self, feed: FeedTable) -> None:
        self._feed = feed
        self._path = Path(feed.address.path)

    def deliver(self, lines: Sequence[Line]) -> None:
        with faults(self._feed):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, 0o640)
            with os.fdopen(descriptor, "wb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise SourceUnreachable(f"{self._path} is not a file", hint="give the feed a file of its own")
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":  # half a line, of a crash
                    file.write(b"\n")
                for line in lines:
                    is_text = self._feed.form == "cef" and line.chain != SIGNED
                    body = body_of(line, "cef", self._feed.most_bytes)[0] if is_text else json_event(line, self._feed)
                    file.write(body + b"\n")
                file.flush()
                os.fsync(descriptor)


class _Hec(msgspec.Struct):
    code: int = 0
    text: str = ""
    ack: int | None = msgspec.field(default=None, name="ackId")
    acks: dict[str, bool] = {}


class _Created(msgspec.Struct):
    status: int = 0
    error: Any = None


class _Item(msgspec.Struct):
    create: _Created = msgspec.field(default_factory=_Created)


class _Bulk(msgspec.Struct):
    items: list[_Item] = []


class _Partial(msgspec.Struct):
    rejected: int | str = msgspec.field(default=0, name="rejectedLogRecords")
    """Protobuf writes numbers of 64 bits as text."""
    why: str = msgspec.field(default="", name="errorMessage")


class _Logs(msgspec.Struct):
    partial: _Partial | None = msgspec.field(default=None, name="partialSuccess")


_Said = TypeVar("_Said")


class _OverHttp(ABC):
    """What HTTP receivers share: one client for each delivery, no redirects, no proxy."""

    header: str
    """How the token goes out: `Bearer`."""
    most: int = 2_000
    """Lines in one request."""

    def __init__(self, feed: FeedTable, allow: Sequence[Allowed]) -> None:
        self._feed, self._allow = feed, allow

    def deliver(self, lines: Sequence[Line]) -> None:
        from ashore.kit.outgoing import open_client

        with open_client(self._allow, verify=_trust(self._feed), redirects=False) as client:
            for at in range(0, len(lines), self.most):
                self._send(client, lines[at : at + self.most])

    @abstractmethod
    def _send(self, client: httpx.Client, lines: Sequence[Line]) -> None:
        """Send these lines, and return once the receiver has confirmed them."""

    def _post(
        self,
        client: httpx.Client,
        path: str,
        body: bytes,
        content_type: str,
        kind: type[_Said],
        more: Mapping[str, str] | None = None,
    ) -> _Said:
        """Return the JSON that was answered.

        Raises:
            AshoreError: no answer, another status than 2xx, or something else than a `kind`.
        """
        import httpx

        from ashore.kit.outgoing import read

        headers = {"content-type": content_type, **(more or {})}
        if self._feed.token:
            headers["authorization"] = f"{self.header} {self._feed.token}"
        try:
            answer = read(client, "POST", self._feed.url + path, content=body, headers=headers, timeout=TIMEOUT_S)
        except (httpx.HTTPError, OSError) as fault:
            raise SourceUnreachable(
                f"the receiver of the feed {self._feed.name} did not answer: {type(fault).__name__} {fault}",
                hint="check that it runs; nothing is lost meanwhile",
            ) from fault
        if not 200 <= answer.status < 300:
            raise self._refused(f"answered {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")
        try:
            check_parts(answer.body)  # ten million empty objects fit into what is read
            return msgspec.json.decode(answer.body or b"{}", type=kind)
        except (InvalidRequest, *UNDECODABLE) as fault:
            raise self._refused("answered with something that is not an answer of its kind") from fault

    def _refused(self, what: str) -> AshoreError:
        if self._feed.token:  # a receiver may answer with what it got, and others read this
            what = what.replace(self._feed.token, "…")
        return RemoteRefused(
            f"the receiver of the feed {self._feed.name} {what}",
            hint="check its log and the token; the records are sent again",
        )


class Splunk(_OverHttp):
    """Splunk's HTTP Event Collector. With indexer acknowledgement a batch counts once it is indexed, else once it was
    received.

    Source: Splunk Enterprise 9, "HTTP Event Collector indexer acknowledgment".
    """

    header = "Splunk"

    def _send(self, client: httpx.Client, lines: Sequence[Line]) -> None:
        channel = {"x-splunk-request-channel": str(uuid.uuid4())}
        body = b"\n".join(
            b'{"time":%.6f,"source":"ashore","sourcetype":"ashore:audit","event":%s}'
            % (line.at_us / 1e6, json_event(line, self._feed))
            for line in lines
        )
        told = self._post(client, "/services/collector/event", body, "application/json", _Hec, channel)
        if told.code != 0:
            raise self._refused(f"said {told.text[:200]!r}")
        if told.ack is None:
            return
        asked = msgspec.json.encode({"acks": [told.ack]})
        until_s = time.monotonic() + CONFIRM_S
        while time.monotonic() < until_s:
            said = self._post(client, "/services/collector/ack", asked, "application/json", _Hec, channel)
            if said.acks.get(str(told.ack)):
                return
            time.sleep(0.5)
        raise self._refused(f"did not index within {CONFIRM_S:.0f} s")


class Elastic(_OverHttp):
    """The bulk interface of Elasticsearch and OpenSearch. Each record has an id of its own, so sending it again changes
    nothing."""

    header = "ApiKey"

    def _send(self, client: httpx.Client, lines: Sequence[Line]) -> None:
        rows = []
        for line in lines:
            name = f"{line.home}-{line.chain}-{line.seq}"
            rows += [msgspec.json.encode({"create": {"_id": name}}), json_event(line, self._feed)]
        body = b"\n".join(rows) + b"\n"
        told = self._post(client, "/_bulk", body, "application/x-ndjson", _Bulk)
        if len(told.items) != len(lines):
            raise self._refused(f"reported on {len(told.items)} of {len(lines)} records")
        for line, item in zip(lines, told.items, strict=True):
            made = item.create
            if made.status not in (200, 201, 409):  # 409: it is there already
                reason = made.error.get("reason", "") if isinstance(made.error, dict) else made.error or made.status
                raise self._refused(f"refused {line.chain}#{line.seq}: {str(reason)[:200]}")


class Otlp(_OverHttp):
    """Logs of OpenTelemetry over HTTP, as JSON.

    Source: OpenTelemetry Protocol 1.5, "OTLP/HTTP", "Partial Success".
    """

    header = "Bearer"

    def _send(self, client: httpx.Client, lines: Sequence[Line]) -> None:
        records = [
            {
                "timeUnixNano": str(line.at_us * 1000), "severityNumber": 9, "severityText": "INFO",
                "body": {"stringValue": json_event(line, self._feed).decode()},
                "attributes": [
                    {"key": f"ashore.{name}", "value": {"stringValue": str(value)}}
                    for name, value in (("chain", line.chain), ("seq", line.seq), ("hash", line.hash))
                ],
            }
            for line in lines
        ]  # fmt: skip
        named = [{"key": "service.name", "value": {"stringValue": "ashore"}}]
        scope = {"scope": {"name": "ashore.audit", "version": __version__}, "logRecords": records}
        body = msgspec.json.encode({"resourceLogs": [{"resource": {"attributes": named}, "scopeLogs": [scope]}]})
        partial = self._post(client, "/v1/logs", body, "application/json", _Logs).partial or _Partial()
        if str(partial.rejected) not in ("", "0"):
            raise self._refused(f"rejected {str(partial.rejected)[:20]} records: {partial.why[:200]}")
