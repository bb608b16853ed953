"""Receivers of a feed: each has every line when a delivery returns, and none that fails returns."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from feed_rig import a_feed, audited
from http_receiver import Answer, http_receiver
from syslog_server import certificate

from ashore.control.feeds.proof import prove
from ashore.control.feeds.receivers import open_receiver
from ashore.core.errors import AshoreError, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.kit.egress import LOOPBACK, parse_allow

ALLOW = parse_allow(LOOPBACK)


def bulk_answer(status: int = 201) -> Answer:
    def answer(path: str, body: bytes) -> tuple[int, Any]:
        rows = body.splitlines()[::2]
        return 200, {"errors": status > 299, "items": [{"create": {"status": status}} for _ in rows]}

    return answer


def test_splunk_counts_once_it_has_indexed(tmp_path: Path) -> None:
    log, asked = audited(tmp_path), [0]

    def answer(path: str, body: bytes) -> tuple[int, Any]:
        if path.endswith("/ack"):
            asked[0] += 1
            return 200, {"acks": {"4": asked[0] > 1}}
        return 200, {"text": "Success", "code": 0, "ackId": 4}

    with http_receiver(answer) as (url, came):
        feed = a_feed(to=f"hec+{url}", token="secret")
        open_receiver(feed, ALLOW).deliver(log.lines())
    assert asked[0] == 2
    path, headers, body = came[0]
    assert path == "/services/collector/event" and headers["authorization"] == "Splunk secret"
    events = [json.loads(row) for row in body.splitlines()]
    assert events[1]["event"]["ashore"]["chain"] == "api-0" and isinstance(events[0]["time"], float)
    (tmp_path / "raw").write_text("".join(json.dumps(one["event"]) + "\n" for one in events))
    found = prove(tmp_path / "raw", log.keys)
    assert found.ok and found.chains[0].records > 40, "proved after Splunk wrote the JSON in its own way"


def test_elastic_takes_each_record_once_and_each_refusal_is_seen(tmp_path: Path) -> None:
    log = audited(tmp_path)
    for status, good in ((201, True), (409, True), (429, False), (400, False)):
        with http_receiver(bulk_answer(status)) as (url, came):
            receiver = open_receiver(a_feed(to=f"elastic+{url}/ashore-audit", token="t"), ALLOW)
            if good:
                receiver.deliver(log.lines())
            else:
                with pytest.raises(RemoteRefused, match="refused"):
                    receiver.deliver(log.lines())
        path, headers, body = came[0]
        assert path == "/ashore-audit/_bulk" and headers["authorization"] == "ApiKey t" and body.endswith(b"\n")
        names = [json.loads(row)["create"]["_id"] for row in body.splitlines()[::2]]
        assert len(set(names)) == len(log.lines())


def test_otlp_sees_what_was_rejected_inside_of_a_good_answer(tmp_path: Path) -> None:
    log = audited(tmp_path)
    for told, good in (({}, True), ({"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "full"}}, False)):
        with http_receiver(lambda path, body, told=told: (200, told)) as (url, came):  # type: ignore[misc]
            receiver = open_receiver(a_feed(to=f"otlp+{url}"), ALLOW)
            if good:
                receiver.deliver(log.lines())
            else:
                with pytest.raises(RemoteRefused, match="rejected 2 records: full"):
                    receiver.deliver(log.lines())
    path, _, body = came[0]
    (resource,) = json.loads(body)["resourceLogs"]
    assert path == "/v1/logs" and len(resource["scopeLogs"][0]["logRecords"]) == len(log.lines())


@pytest.mark.parametrize("kind", ["hec", "elastic", "otlp"])
@pytest.mark.parametrize(
    ("status", "told"),
    [
        (503, {}),
        (302, {}),
        (200, ["no object"]),
        (200, {"acks": [1], "ackId": 4, "items": ["x"], "partialSuccess": ["x"]}),
        (200, {"items": [{}] * 200_000}),
        (200, {"code": "x", "items": [{"create": "x"}], "partialSuccess": {"rejectedLogRecords": "many"}}),
    ],
)
def test_any_other_answer_is_no_confirmation(tmp_path: Path, kind: str, status: int, told: Any) -> None:
    log = audited(tmp_path, 3)
    with http_receiver(lambda path, body: (status, told)) as (url, came):
        with pytest.raises(AshoreError):
            open_receiver(a_feed(to=f"{kind}+{url}/x", token="t"), ALLOW).deliver(log.lines())
        assert len(came) == 1, "a redirect is not followed"


def test_a_host_that_egress_does_not_allow_is_not_called(tmp_path: Path) -> None:
    log = audited(tmp_path, 3)
    for to in ("hec+https://127.0.0.1:1", "syslog+tls://127.0.0.1:1"):
        with pytest.raises(PermissionDenied):
            open_receiver(a_feed(to=to), ()).deliver(log.lines())


def test_a_file_gets_lines_that_prove_themselves(tmp_path: Path) -> None:
    log, file = audited(tmp_path), tmp_path / "out.jsonl"
    receiver = open_receiver(a_feed(to=f"file://{file}"), ALLOW)
    receiver.deliver(log.lines())
    with file.open("a") as half:
        half.write('{"ashore":{"half a line of a crash')
    receiver.deliver(log.lines())
    found = prove(file, log.keys)
    assert found.ok and found.chains[0].doubled == found.chains[0].records
    assert file.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(SourceUnreachable):
        open_receiver(a_feed(to=f"file://{link}"), ALLOW).deliver(log.lines())


class TlsServer:
    """Takes one connection after another, reads as told, and ends as told."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.ca, chain, key = certificate(folder / "tls")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.came, self._ending = bytearray(), ending
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        plain, _ = self._socket.accept()
        with (
            suppress(OSError),
            plain,
            self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as stream,
        ):
            if self._ending == "dies":
                stream.recv(100)
                plain.close()
                return
            while part := stream.recv(1 << 16):
                self.came += part
            if self._ending == "closes":
                stream.unwrap()

    def close(self) -> None:
        self._socket.close()
        self._thread.join(10)


def test_syslog_counts_once_the_receiver_has_closed(tmp_path: Path) -> None:
    log, server = audited(tmp_path), TlsServer(tmp_path, "closes")
    feed = a_feed(to=f"syslog+tls://127.0.0.1:{server.port}", ca_file=str(server.ca))
    open_receiver(feed, ALLOW).deliver(log.lines())
    server.close()
    data, messages = bytes(server.came), []
    while data:
        length, _, rest = data.partition(b" ")
        messages.append(rest[: int(length)])
        data = rest[int(length) :]
    assert len(messages) == len(log.lines()) and messages[0].startswith(b"<109>1 20")
    (tmp_path / "siem.log").write_bytes(b"\n".join(messages))
    assert prove(tmp_path / "siem.log", log.keys).ok


def test_a_syslog_receiver_that_dies_has_confirmed_nothing(tmp_path: Path) -> None:
    log, server = audited(tmp_path, 400, segment_bytes=32 << 20), TlsServer(tmp_path, "dies")
    feed = a_feed(to=f"syslog+tls://127.0.0.1:{server.port}", ca_file=str(server.ca))
    with pytest.raises(SourceUnreachable):
        open_receiver(feed, ALLOW).deliver(log.lines())
    server.close()


def test_a_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    log, server = audited(tmp_path, 3), TlsServer(tmp_path, "closes")
    other, _, _ = certificate(tmp_path / "other")
    feed = a_feed(to=f"syslog+tls://127.0.0.1:{server.port}", ca_file=str(other))
    with pytest.raises(SourceUnreachable, match=r"(?i)certificate.verify.failed"):
        open_receiver(feed, ALLOW).deliver(log.lines())
    server.close()
    assert not server.came
