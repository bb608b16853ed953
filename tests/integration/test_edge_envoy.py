"""The real Envoy with our configuration: what it lets through, what it strips, what it answers by itself."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge_rig import Rig, edge_rig
from rawh2 import CONTINUATION, HEADERS, RawH2, frame, hpack

from ashore.data.path import Limits
from ashore.machine.edge import (
    EdgePlan,
    EdgeSection,
    Machine,
    find_envoy,
    keep_tls,
    read_fullness,
    tell_fullness,
    worker_sockets,
    write_files,
)
from ashore.machine.edge.service import UPSTREAM_IDLE_S

FreePort = Callable[[], int]
KEY = {"authorization": "Bearer k"}
"""The edge asks for one, and looks no closer."""


@pytest.fixture
def rig(tmp_path: Path, free_port: FreePort) -> Iterator[Rig]:
    with edge_rig(tmp_path / "run", free_port()) as running:
        yield running


def raw(rig: Rig, sent: bytes, *, timeout_s: float = 15) -> bytes:
    """Send bytes as they are, and return everything that comes until the connection closes or nothing more does."""
    with socket.create_connection(("127.0.0.1", rig.plan.port), timeout=timeout_s) as connection:
        connection.sendall(sent.replace(b"\r\nhost: a\r\n", b"\r\nhost: a\r\nauthorization: Bearer k\r\n"))
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
        except (TimeoutError, ConnectionResetError):  # a reset: it was refused before all of it was read
            pass
        return received


def request(method: str, url: str, *, headers: dict[str, str] | None = None, **given: Any) -> httpx.Response:
    return httpx.request(method, url, headers={**KEY, **(headers or {})}, trust_env=False, **given)


get = partial(request, "GET")
post = partial(request, "POST")


def error_of(answer: bytes | httpx.Response) -> dict[str, str]:
    body = answer.content if isinstance(answer, httpx.Response) else answer.partition(b"\r\n\r\n")[2]
    return json.loads(body)["error"]  # type: ignore[no-any-return]


def test_envoy_takes_every_form_of_our_configuration(tmp_path: Path, free_port: FreePort) -> None:
    tls, _ = keep_tls(EdgeSection(), tmp_path / "edge", now_s=time.time())
    for name, machines in (("plain", ()), ("machines", (Machine(host="127.0.0.1", port=9),))):
        run = tmp_path / name
        plan = EdgePlan(
            run=run,
            host="127.0.0.1",
            port=free_port(),
            tls=tls,
            workers=(worker_sockets(run, 0), worker_sockets(run, 1)),
            control=str(run / "control.sock"),
            machines=machines,
            machines_ca=str(tmp_path / "edge" / "ca.pem"),
        )
        write_files(plan)
        checked = subprocess.run(
            [find_envoy(), "-c", plan.bootstrap, "--mode", "validate"], capture_output=True, text=True, timeout=60
        )
        assert checked.returncode == 0, checked.stderr
        with subprocess.Popen(
            [find_envoy(), "-c", plan.bootstrap, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
            stderr=subprocess.PIPE,
        ) as process:
            time.sleep(1.5)  # the watched files are read after the start
            process.terminate()
            said = process.communicate(timeout=10)[1].decode()
        assert "reject" not in said.lower() and "deprecated" not in said.lower(), said


def test_identity_that_a_client_claims_never_reaches_a_worker(rig: Rig) -> None:
    claimed = {
        "x-ashore-on-behalf-of": "admin/default",
        "x-ashore-tenant": "other",
        "X-Authz-User": "admin",
        "x-tenant": "other",
        "x-tenant-id": "other",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-retry-on": "5xx",
        "x-ashore-internal-own": "1",
        "x-forwarded-for": "10.9.9.9",
        "x-real-ip": "10.9.9.9",
        "forwarded": "for=10.9.9.9",
        "x_tenant": "other",
        "authorization": "Bearer k",
        "x-ashore-defer": "allow",
        "x-request-id": "mine-1",
    }
    headers = get(rig.url + "/v1/models", headers=claimed).json()["headers"]
    assert "10.9.9.9" not in str(headers) and "," not in headers["x-forwarded-for"]
    assert headers["authorization"] == "Bearer k"
    assert headers["x-ashore-defer"] == "allow" and headers["x-request-id"] == "mine-1"
    gone = set(claimed) - {"authorization", "x-ashore-defer", "x-request-id", "x-forwarded-for"}
    assert not {name.lower() for name in gone} & set(headers)
    told = {name: value for name, value in headers.items() if name.startswith(("x-envoy-", "x-authz", "x-tenant"))}
    assert told == {"x-envoy-external-address": "127.0.0.1"}, "said by the edge itself"


def test_a_path_is_put_in_order_and_an_escaped_slash_is_kept(rig: Rig) -> None:
    answer = raw(rig, b"GET /v1//./x/../models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert b'"path": "/v1/models"' in answer
    assert get(rig.url + "/v1/models/org%2Fname").json()["path"] == "/v1/models/org%2Fname"


def test_who_has_no_key_is_turned_away_before_a_worker_is_asked(rig: Rig) -> None:
    for key in ({"authorization": "Bearer k"}, {"x-api-key": "k"}):
        assert httpx.post(rig.url + "/v1/messages", headers=key, trust_env=False).status_code == 200
    rig.workers[0].seen.clear()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\nx-ashore-hop: 1\r\ncontent-length: 9000000\r\n\r\n"
    answer = raw(rig, head)  # and not one byte of the body
    assert answer.startswith(b"HTTP/1.1 401") and b'www-authenticate: Bearer realm="ashore"' in answer
    assert error_of(answer)["code"] == "invalid_api_key"
    assert rig.workers[0].seen == []
    for path in ("/healthz", "/health", "/readyz"):
        assert httpx.get(rig.url + path, trust_env=False).json()["path"] == path
    body = b"x" * 100_000
    assert httpx.post(rig.url + "/healthz", content=body, trust_env=False).status_code == 413


def test_who_has_no_key_is_turned_away_before_the_message_of_a_call(rig: Rig) -> None:
    async def main() -> None:
        connection = await RawH2.connect(rig.plan.port)
        for _ in range(3):
            stream = connection.head("/ashore.v1.Inference/Chat")
            await connection.until(stream)
            assert stream in connection.ended
        await connection.close()

    asyncio.run(main())
    assert rig.workers[0].seen == []


def test_a_connection_that_resets_what_it_asks_is_ended(rig: Rig) -> None:
    async def main() -> None:
        connection = await RawH2.connect(rig.plan.port)
        for _ in range(100):
            for _ in range(10):
                connection.reset(connection.head("/early", ("authorization", "Bearer k"), end=True, grpc=False))
            await asyncio.sleep(0.001)
            if connection.closed:
                break
        async with asyncio.timeout(5):
            while not connection.closed:
                await asyncio.sleep(0.01)
        await connection.close()

    asyncio.run(main())
    assert rig.stat("http.edge.downstream_rq_too_many_premature_resets") == 1


def test_a_head_without_end_is_cut_off_on_http2_too(rig: Rig) -> None:
    async def main() -> None:
        connection = await RawH2.connect(rig.plan.port)
        connection.writer.write(frame(HEADERS, 0, 1, hpack((":method", "GET"), (":path", "/"), (":scheme", "http"))))
        for number in range(200):
            connection.writer.write(frame(CONTINUATION, 0, 1, hpack((f"x-{number}", "y" * 1000))))
        async with asyncio.timeout(5):
            while not (connection.closed or connection.answered):
                await asyncio.sleep(0.01)
        await connection.close()

    asyncio.run(main())


def test_a_silent_connection_is_closed_soon_once_the_edge_is_full(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.plan.port), timeout=15) as silent:
        deadline = time.monotonic() + 5
        while read_fullness(rig.plan) != 1 / rig.plan.max_connections:
            assert time.monotonic() < deadline
        tell_fullness(rig.plan, 0.75)
        deadline = time.monotonic() + 5
        while rig.stat("overload.envoy.overload_actions.reduce_timeouts.scale_percent") != 100:
            assert time.monotonic() < deadline, rig.said()
            time.sleep(0.05)
        assert silent.recv(1) == b"", "after 10 s, not 620"


def test_too_much_is_refused_in_the_form_of_the_api(rig: Rig) -> None:
    assert raw(rig, b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 31_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    long = raw(rig, b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 34_000 + b"\r\n\r\n")
    assert long.startswith(b"HTTP/1.1 431") and error_of(long)["code"] == "headers_too_large"
    many = b"".join(b"x-%d: 1\r\n" % i for i in range(150))
    assert raw(rig, b"GET / HTTP/1.1\r\nhost: a\r\n" + many + b"\r\n").startswith(b"HTTP/1.1 431")
    rig.apply(max_body_bytes=100_000)
    deadline = time.monotonic() + 5
    while post(rig.url + "/v1/x", content=b"a" * 100_001).status_code != 413:
        assert time.monotonic() < deadline, "the new limit was not taken"
        time.sleep(0.05)
    refused = post(rig.url + "/v1/x", content=b"a" * 200_000)
    assert error_of(refused)["code"] == "payload_too_large" and error_of(refused)["hint"]
    assert post(rig.url + "/v1/x", content=b"a" * 100_000).json()["body_bytes"] == 100_000
    assert post(rig.url + "/v1/files", content=b"a" * 200_000).json()["body_bytes"] == 200_000
    chunked = post(rig.url + "/v1/x", content=(b"a" * 50_000 for _ in range(4)))
    assert chunked.status_code == 413
    for path, cookie, status in (
        ("/console/ask", {"cookie": "__Host-ashore=x"}, 200),
        ("/console/ask", {}, 413),
        ("/console/log-in", {"cookie": "__Host-ashore=x"}, 413),
    ):
        asked = httpx.post(rig.url + path, headers=cookie, content=b"a" * 90_000, timeout=30)
        assert asked.status_code == status, (path, cookie)


def test_what_is_no_http_is_refused(rig: Rig) -> None:
    answered = raw(rig, b"\x16\x03\x01 hello\r\n\r\n", timeout_s=3)
    assert answered == b"" or answered.startswith(b"HTTP/1.1 400")
    smuggled = raw(
        rig, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert smuggled.startswith(b"HTTP/1.1 400") and error_of(smuggled)["code"] == "invalid_request"
    assert rig.workers[0].seen == []


def test_a_client_that_never_ends_its_headers_is_let_go(rig: Rig) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", rig.plan.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        while True:
            try:
                connection.sendall(b"x")
                connection.settimeout(1)
                answer = connection.recv(65_536)
                break
            except TimeoutError:
                assert time.monotonic() - began < 20, "it was held for ever"
    assert answer.startswith(b"HTTP/1.1 408") and error_of(answer)["code"] == "request_timeout"
    assert 8 < time.monotonic() - began < 15
    assert get(rig.url + "/v1/models").status_code == 200


ASK = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer k\r\n\r\n"


def answer_on(connection: socket.socket) -> bytes:
    """Return the next answer of known length on a connection; what it got until then if it is closed."""
    received = b""
    while not (b"\r\n\r\n" in received and b"body_bytes" in received):
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    return received


def test_an_idle_connection_is_closed_and_one_that_was_used_gets_notice(tmp_path: Path, free_port: FreePort) -> None:
    with (
        edge_rig(tmp_path / "run", free_port(), connection_idle_s=1.0) as rig,
        socket.create_connection(("127.0.0.1", rig.plan.port), timeout=10) as unused,
        socket.create_connection(("127.0.0.1", rig.plan.port), timeout=10) as used,
    ):
        used.sendall(ASK)
        first = answer_on(used)
        assert first.startswith(b"HTTP/1.1 200") and b"connection: close" not in first
        assert unused.recv(1) == b"", "closed without a word: nothing was ever asked on it"
        time.sleep(0.3)
        assert rig.stat("http.edge.downstream_cx_idle_timeout") == 2
        used.sendall(ASK)
        last = answer_on(used)
        assert last.startswith(b"HTTP/1.1 200") and b"connection: close" in last, "answered all the same, as the last"
        assert used.recv(1) == b""


def test_an_answer_before_the_end_of_the_request_arrives(rig: Rig) -> None:
    head = b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n"
    for so_far in (0, 1, 100_000):
        assert raw(rig, head + b"a" * so_far, timeout_s=2).startswith(b"HTTP/1.1 429 "), so_far


def test_the_edge_lets_go_of_an_idle_worker_first() -> None:
    assert Limits().header_read_timeout_s > UPSTREAM_IDLE_S, "a request would meet a worker that is closing"


def test_what_may_have_an_effect_is_never_sent_again_once_a_worker_had_it(tmp_path: Path, free_port: FreePort) -> None:
    with edge_rig(tmp_path / "run", free_port(), num_workers=2) as rig:
        for method in ("POST", "DELETE", "PUT"):
            answer = request(method, rig.url + "/break-off")
            assert (answer.status_code, error_of(answer)["code"]) == (503, "worker_died")
            assert answer.headers["retry-after"] == "1"
        assert [path for worker in rig.workers for path in worker.seen] == ["/break-off"] * 3


def test_a_read_is_sent_to_another_worker_once(tmp_path: Path, free_port: FreePort) -> None:
    with edge_rig(tmp_path / "run", free_port(), num_workers=2) as rig:
        assert [get(rig.url + "/break-off/api-0.sock").status_code for _ in range(60)] == [200] * 60
        assert [len(worker.seen) > 0 for worker in rig.workers] == [True, True], "some came to the one that breaks off"
    with edge_rig(tmp_path / "again", free_port(), num_workers=3) as rig:
        answer = get(rig.url + "/break-off")
        assert (answer.status_code, error_of(answer)["code"]) == (503, "worker_died")
        assert sorted(len(worker.seen) for worker in rig.workers) == [0, 1, 1], "it ends no more than two workers"


def test_without_workers_the_error_says_so(tmp_path: Path, free_port: FreePort) -> None:
    with edge_rig(tmp_path / "run", free_port(), num_workers=1) as rig:
        Path(rig.workers[0].path).unlink()
        with httpx.Client(trust_env=False, headers=KEY) as client:
            deadline = time.monotonic() + 10
            while (answer := client.get(rig.url + "/v1/models")).status_code == 200:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready")


def test_a_dead_worker_costs_no_request_of_the_other(tmp_path: Path, free_port: FreePort) -> None:
    with edge_rig(tmp_path / "run", free_port(), num_workers=2) as rig:
        Path(rig.workers[0].path).unlink()  # new connections to it fail from now on
        before = len(rig.workers[1].seen)
        for _ in range(50):
            answer = post(rig.url + "/v1/chat/completions", content=b"{}")
            assert answer.status_code == 200
        assert len(rig.workers[1].seen) - before >= 40


def test_a_flood_is_refused_with_the_time_to_come_back(tmp_path: Path, free_port: FreePort) -> None:
    with (
        edge_rig(tmp_path / "run", free_port(), flood_per_s=5) as rig,
        httpx.Client(trust_env=False, headers=KEY) as client,
    ):
        answers = [client.get(rig.url + "/v1/models") for _ in range(30)]
        refused = [one for one in answers if one.status_code == 429]
        assert len(refused) >= 20
        assert error_of(refused[0]) | {"message": ""} == {
            "message": "",
            "type": "rate_limit_error",
            "code": "overloaded",
            "hint": "retry after the time in `retry-after`",
        }
        assert refused[0].headers["retry-after"] == "1"


def test_the_access_log_holds_no_query_key_or_prompt(rig: Rig) -> None:
    post(rig.url + "/v1/x?secret=q1", headers={"authorization": "Bearer secret-k"}, content=b"secret-p")
    deadline = time.monotonic() + 15
    while "/v1/x" not in rig.said():
        assert time.monotonic() < deadline, "no access log"
        time.sleep(0.2)
    assert "secret" not in rig.said()


def gaps_of(connection: http.client.HTTPConnection) -> tuple[float, list[float]]:
    """Return the seconds until the first event of a stream, and those between sending and receiving each event."""
    began = time.perf_counter()
    connection.request("GET", "/stream", headers={"connection": "close", **KEY})
    answer = connection.getresponse()
    first, lags = 0.0, []
    while line := answer.readline():
        if line.startswith(b"data: "):
            now = time.perf_counter()
            first = first or now - began
            lags.append(now - float(line.split()[2]))
    return first, lags


def test_streams_are_never_held_back(rig: Rig) -> None:
    """Nagle's algorithm against a delayed acknowledgement would show as 40 ms."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.plan.port, timeout=10)
    found = [gaps_of(connection) for _ in range(3)]
    connection.close()
    assert all(len(lags) == 20 for _, lags in found)
    lags = sorted(lag for _, every in found for lag in every)
    assert statistics.median(lags) < 0.010
    assert lags[len(lags) * 9 // 10] < 0.030, "every event passes at once"
    assert min(first for first, _ in found) < 0.030


def test_a_stream_outlives_a_change_of_the_listener(rig: Rig) -> None:
    with httpx.stream("GET", rig.url + "/stream", trust_env=False, headers=KEY) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line)
        rig.apply(max_body_bytes=12_345, flood_per_s=777)
        rest = [line for line in lines if line]
    assert first.startswith("data: 0") and rest[-1].startswith("data: 19"), "the stream was cut"


def test_another_machine_answers_when_nobody_here_can_and_passes_nothing_back(
    tmp_path: Path, free_port: FreePort
) -> None:
    here, there = free_port(), free_port()
    with (
        edge_rig(tmp_path / "a", here, machines=(Machine(host="127.0.0.1", port=there),)) as first,
        edge_rig(tmp_path / "b", there, machines=(Machine(host="127.0.0.1", port=here),)) as second,
        httpx.Client(trust_env=False, headers=KEY) as client,
    ):
        time.sleep(2)  # each has looked at the other once
        for _ in range(10):
            assert client.get(first.url + "/v1/models").status_code == 200
        assert len(first.workers[0].seen) == 10 and second.workers[0].seen == [], "this machine first"

        first.stop_worker(0)
        deadline = time.monotonic() + 15
        while (answer := client.get(first.url + "/v1/models")).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
        assert answer.json()["headers"]["x-ashore-hop"] == "1"
        second.stop_worker(0)
        began = time.monotonic()
        answers = [client.get(first.url + "/v1/models") for _ in range(5)]
        assert {one.status_code for one in answers} == {503} and time.monotonic() - began < 10, "no ring of edges"
        assert error_of(answers[0])["code"] in ("not_ready", "worker_died")
