"""What bad input and bad clients get, on raw sockets against a worker process."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_http import CHAT, ask, head, read_all, read_until, still_answers
from http_worker import Worker, http_worker
from waiting import eventually

from ashore.data.path import Limits


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    limits = Limits(max_body_bytes=1 << 20, body_read_timeout_s=1.0, header_read_timeout_s=1.0)
    with http_worker(tmp_path_factory.mktemp("worker"), limits=limits) as one:
        yield one


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ("", "invalid_request", None),
        ("{", "invalid_request", None),
        ("[]", "invalid_request", None),
        ("null", "invalid_request", None),
        ("\x00", "invalid_request", None),
        (b"\xff\xfe{}", "invalid_request", None),
        ('{"model":"echo"}', "invalid_request", "messages"),
        ('{"model":"echo","messages":[]}', "invalid_request", "messages"),
        (ask(temperature="hot"), "invalid_request", "temperature"),
        (ask(temperature=9), "invalid_request", "temperature"),
        (ask(top_p=-1), "invalid_request", "top_p"),
        (ask(n=0), "invalid_request", "n"),
        (ask(n=9), "invalid_request", "n"),
        (ask(max_tokens=0), "invalid_request", "max_tokens"),
        (ask(max_tokens=1.5), "invalid_request", "max_tokens"),
        (ask(stop=["x"] * 17), "invalid_request", "stop"),
        (ask(stop=[""]), "invalid_request", "stop[0]"),
        (ask(logprobs=True, top_logprobs=21), "invalid_request", "top_logprobs"),
        (ask(top_logprobs=2), "invalid_request", "top_logprobs"),
        (ask(logit_bias={"x": 1}), "invalid_request", "logit_bias"),
        (ask(logit_bias={str(i): 1 for i in range(1025)}), "invalid_request", "logit_bias"),
        (ask(stream_options={"include_usage": True}), "invalid_request", "stream_options"),
        (ask(tempratur=1), "unknown_field", "tempratur"),
        (ask(functions=[]), "unknown_field", "functions"),
        (ask(no_stop_trim=True), "invalid_request", "no_stop_trim"),
        (ask(skip_special_tokens=False), "invalid_request", "skip_special_tokens"),
        (ask(response_format={"type": "yaml"}), "invalid_request", "response_format.type"),
        (ask(tools=[{"type": "function", "function": {}}]), "invalid_request", "tools[0].function.name"),
        (
            json.dumps({"model": "echo", "messages": [{"role": "robot", "content": "x"}]}),
            "invalid_request",
            "messages[0].role",
        ),
        (
            json.dumps({"model": "echo", "messages": [{"role": "user", "content": 5}]}),
            "invalid_request",
            "messages[0].content",
        ),
        (
            json.dumps({"model": "echo", "messages": [{"role": "user", "content": "x", "nam": "y"}]}),
            "unknown_field",
            "messages[0].nam",
        ),
        ('{"model":"echo","messages":' + "[" * 99_000, "invalid_request", "messages[0]"),
        ('{"model":"echo","messages":' + "[" * 100_000, "invalid_request", None),
    ],
)
def test_bad_bodies_are_named(worker: Worker, body: str | bytes, code: str, param: str | None) -> None:
    status, headers, answer = worker.request("POST", CHAT, body if isinstance(body, bytes) else body.encode())
    error = json.loads(answer)["error"]
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert error["code"] == code
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


@pytest.mark.parametrize(
    ("method", "path", "header", "param"),
    [
        ("POST", CHAT, "x-ashore-deadline-ms: " + "9" * 5000, "x-ashore-deadline-ms"),
        ("POST", CHAT, "x-ashore-priority: " + "9" * 5000, "x-ashore-priority"),
        ("GET", "/v1/files?limit=" + "9" * 5000, "x-a: b", "limit"),
        ("GET", "/v1/files?limit=%C2%B2", "x-a: b", "limit"),
    ],
)
def test_numbers_that_nobody_can_read_are_named(
    worker: Worker, method: str, path: str, header: str, param: str
) -> None:
    name, _, value = header.partition(": ")
    status, _, answer = worker.request(method, path, ask() if method == "POST" else None, {name: value})
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert len(answer) < 500


def test_a_field_with_a_name_of_a_megabyte_is_not_sent_back(worker: Worker) -> None:
    status, _, answer = worker.request("POST", CHAT, json.dumps({"x" * (1 << 19): 1}))
    assert (status, json.loads(answer)["error"]["code"]) == (400, "unknown_field")
    assert len(answer) < 2000


def test_what_a_router_writes_into_each_request_is_taken_where_it_says_what_is_done_anyway(worker: Worker) -> None:
    written = {
        "logprobs": False,
        "no_stop_trim": False,
        "ignore_eos": False,
        "continue_final_message": False,
        "skip_special_tokens": True,
        "separate_reasoning": True,
        "stream_reasoning": True,
        "return_hidden_states": False,
        "include_reasoning": True,
    }
    status, _, answer = worker.request("POST", CHAT, ask(max_tokens=2, stream=False, **written).encode())
    assert status == 200, answer


def test_unknown_fields_offer_the_nearest_name(worker: Worker) -> None:
    _, _, answer = worker.request("POST", CHAT, ask(max_token=5))
    assert "'max_tokens'" in json.loads(answer)["error"]["hint"]
    _, _, answer = worker.request("POST", CHAT, json.dumps({"model": "echo", "messages": [{"rol": "user"}]}))
    assert "'role'" in json.loads(answer)["error"]["hint"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/chat/completion", 404, "unknown_route"),
        ("GET", "/nothing", 404, "unknown_route"),
        ("GET", "/v1/models/" + "x" * 3000, 404, "model_not_found"),
        ("DELETE", "/v1/models/echo", 405, "method_not_allowed"),
    ],
)
def test_wrong_paths_and_methods(worker: Worker, method: str, path: str, status: int, code: str) -> None:
    seen, _, answer = worker.request(method, path)
    assert seen == status
    assert json.loads(answer)["error"]["code"] == code


def test_a_schema_of_a_tool_is_bounded_as_over_grpc(worker: Worker) -> None:
    parameters = {"type": "object", "description": "x" * (256 << 10)}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
    seen, _, answer = worker.request("POST", CHAT, json.dumps(body))
    assert (seen, json.loads(answer)["error"]["param"]) == (400, "tools")


def test_a_slash_at_the_end_is_no_part_of_a_name(worker: Worker) -> None:
    seen, _, answer = worker.request("GET", "/v1/models/echo/")
    assert (seen, json.loads(answer)["id"]) == (200, "echo")


def test_no_key_gets_no_further_than_health(worker: Worker) -> None:
    for path, status in (("/healthz", 200), ("/health", 200), ("/readyz", 200), ("/v1/models", 401)):
        seen, headers, _ = worker.request("GET", path, headers={"authorization": "Bearer nonsense"})
        assert seen == status
        assert ("www-authenticate" in headers) == (status == 401)
    seen, _, _ = worker.request("POST", CHAT, "not even json", headers={"authorization": "Basic eDp5"})
    assert seen == 401
    local, _, _ = worker.request("GET", "/metrics", headers={"authorization": ""})
    assert local == 200
    through_a_proxy, _, _ = worker.request(
        "GET", "/metrics", headers={"authorization": "", "x-forwarded-for": "10.0.0.1"}
    )
    assert through_a_proxy == 401


def test_request_ids_are_echoed_only_when_they_are_harmless(worker: Worker) -> None:
    _, headers, _ = worker.request("GET", "/healthz", headers={"x-request-id": "abc-1.2:3"})
    assert headers["x-request-id"] == "abc-1.2:3"
    for bad in ("x" * 200, "a b", 'a"b', "ä"):
        _, headers, _ = worker.request("GET", "/healthz", headers={"x-request-id": bad})
        assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("name", ["x-ashore-priority", "x-ashore-deadline-ms"])
def test_bad_headers_are_named(worker: Worker, name: str) -> None:
    for value in ("soon", "-99999", "1e3"):
        status, _, answer = worker.request("POST", CHAT, ask(), headers={name: value})
        assert status == 400
        assert json.loads(answer)["error"]["param"] == name
        assert json.loads(answer)["error"]["hint"]


def test_fifty_megabytes_are_refused_before_they_are_read(worker: Worker) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, f"content-length: {50 << 20}"))
        answer = read_until(sock, b"payload_too_large", timeout_s=2)  # not one byte of the body was sent
        assert answer.startswith(b"HTTP/1.1 413")
    status, _, answer = worker.request("POST", CHAT, b"x" * (50 << 20))  # a client that sends all of it, then reads
    assert status == 413
    assert json.loads(answer)["error"]["code"] == "payload_too_large"
    assert still_answers(worker)


@pytest.mark.parametrize(
    ("method", "path", "header", "status"),
    [
        ("POST", CHAT, "authorization: Bearer wrong", b"401"),
        ("POST", "/v1/nothing", "x-a: b", b"404"),
        ("GET", "/healthz", "x-a: b", b"200"),
        ("POST", "/v1/files", "content-type: text/plain", b"400"),
    ],
)
def test_an_answer_arrives_also_when_the_body_was_not_read(
    worker: Worker, method: str, path: str, header: str, status: bytes
) -> None:
    """The body is on its way when the answer is written; a worker that closed at once would reset the connection."""
    size = 1 << 20
    with worker.connect() as sock:
        sent = head(worker, header, f"content-length: {size}", path=path, method=method)
        if header.startswith("authorization"):
            sent = sent.replace(f"authorization: Bearer {worker.key}\r\n".encode(), b"")
        sock.sendall(sent)
        answer = read_until(sock, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status)
        for _ in range(16):
            sock.sendall(b"x" * (size // 16))
            time.sleep(0.01)
        sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in read_until(sock, b'{"status":"ok"}'), "the connection lives on"


def test_a_compressed_body_is_never_unpacked(worker: Worker) -> None:
    bomb = gzip.compress(json.dumps({"model": "x" * (32 << 20)}).encode())
    assert len(bomb) < 100_000
    for encoding in ("gzip", "gzip, gzip", "deflate", "br"):
        status, _, answer = worker.request("POST", CHAT, bomb, headers={"content-encoding": encoding})
        assert status == 400 and json.loads(answer)["error"]["hint"]
    assert still_answers(worker)


@pytest.mark.parametrize("digits", [19, 25])
def test_a_length_of_more_digits_than_any_body_has_is_refused_at_once(worker: Worker, digits: int) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, "content-length: " + "9" * digits))
        assert read_until(sock, b"\r\n", timeout_s=2).startswith(b"HTTP/1.1 413")


def test_a_chunk_that_is_none_is_refused_at_once(worker: Worker) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, "transfer-encoding: chunked") + b"-1\r\n")
        answer = read_all(sock, timeout_s=2)
        assert answer.startswith(b"HTTP/1.1 400") and b'"code":"invalid_request"' in answer


def test_bodies_under_way_are_bounded_in_sum_and_short_ones_go_on(tmp_path: Path) -> None:
    limits = Limits(max_body_bytes=1 << 20, bodies_bytes=3 << 20, tenant_bodies_bytes=2 << 20)
    long = ask("x" * 100_000)
    with http_worker(tmp_path / "worker", limits=limits) as one, contextlib.ExitStack() as held:
        for _ in range(8):  # to announce a length takes nothing from the others
            held.enter_context(one.connect()).sendall(head(one, f"content-length: {1 << 20}"))
        assert one.request("POST", CHAT, long)[0] == 400, "longer than the context: its body was taken"
        held.enter_context(one.connect()).sendall(head(one, f"content-length: {1 << 20}") + b"x" * ((1 << 20) - 1))
        time.sleep(0.5)  # until it has come: a question that meets it under way may be what is taken
        status, headers, body = one.request("POST", CHAT, long)
        assert (status, json.loads(body)["error"]["code"]) == (429, "overloaded") and headers["retry-after"] == "1"
        assert "tenant_bodies_bytes" in json.loads(body)["error"]["hint"]
        chunked = held.enter_context(one.connect())
        chunked.sendall(head(one, "transfer-encoding: chunked") + b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        assert read_until(chunked, b"\r\n", timeout_s=2).startswith(b"HTTP/1.1 429"), "counted as it arrives"
        assert one.request("POST", CHAT, ask())[0] == 200, "a short question is never in the way"
        held.close()
        deadline = time.monotonic() + 5
        while one.request("POST", CHAT, long)[0] != 400:
            assert time.monotonic() < deadline, "given back with the connections"


def test_a_chunked_body_without_end_is_cut_at_the_limit(worker: Worker) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(32):
                sock.sendall(chunk)
        assert b"413" in read_until(sock, b"\r\n")


def test_a_header_flood_is_refused(worker: Worker) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, *(f"x-{i}: y" for i in range(500))))
        assert read_until(sock, b"\r\n").split()[1] in (b"400", b"431")
    with worker.connect() as sock:
        with contextlib.suppress(OSError):
            sock.sendall(head(worker, "x-long: " + "y" * 1_000_000))
        assert read_all(sock).split()[1:2] in ([b"400"], [b"431"], [])
    assert still_answers(worker)


@pytest.mark.parametrize(
    "raw", [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 64]
)
def test_what_is_no_http_is_closed(worker: Worker, raw: bytes) -> None:
    with worker.connect() as sock:
        sock.sendall(raw)
        answer = read_all(sock, timeout_s=5)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
    assert still_answers(worker)


def test_a_slow_loris_is_cut_off(worker: Worker) -> None:
    began = time.monotonic()
    with worker.connect() as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        closed = False
        while time.monotonic() - began < 20 and not closed:
            try:
                sock.sendall(b"x: y\r\n")
                sock.settimeout(0.2)
                closed = sock.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed
    with worker.connect() as sock:  # one that says nothing at all
        assert read_all(sock, timeout_s=5) == b""


def test_a_body_that_trickles_times_out(worker: Worker) -> None:
    with worker.connect() as sock:
        sock.sendall(head(worker, "content-length: 1000") + b"{")
        answer = read_until(sock, b"request_timeout", timeout_s=5)
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_in_mid_body_costs_nothing(worker: Worker) -> None:
    for _ in range(20):
        with worker.connect() as sock:
            sock.sendall(head(worker, "content-length: 1000") + b"{")
    assert still_answers(worker)


def test_connections_are_kept_and_pipelined_requests_answered_in_order(worker: Worker) -> None:
    with worker.connect() as sock:
        requests = b"".join(
            head(worker, f"content-length: {len(ask(text=text))}", f"x-request-id: {text}") + ask(text=text).encode()
            for text in ("one", "two", "three")
        )
        sock.sendall(requests)
        seen = read_until(sock, b'"chatcmpl-three"')
        assert seen.index(b"chatcmpl-one") < seen.index(b"chatcmpl-two") < seen.index(b"chatcmpl-three")
        time.sleep(0.2)
        sock.sendall(head(worker, path="/healthz", method="GET"))
        assert b'{"status":"ok"}' in read_until(sock, b'"ok"}')


def test_a_client_that_goes_away_frees_its_slot_at_once(worker: Worker) -> None:
    gauge = 'ashore_running_sequences{model="slow"}'
    for stream in (True, False):
        socks = [worker.connect() for _ in range(5)]
        body = ask("slow", "x" * 200, stream=stream)
        for sock in socks:
            sock.sendall(head(worker, f"content-length: {len(body)}") + body.encode())
        if stream:
            for sock in socks:
                read_until(sock, b'"content":"x"')
        else:
            eventually(lambda: worker.metric(gauge) == 5)
        assert worker.metric(gauge) == 5
        for sock in socks:
            sock.close()
        eventually(lambda: worker.metric(gauge) == 0, limit_s=5)  # the answers would take ten seconds
        eventually(lambda: worker.metric('ashore_host_running{model="slow",replica="0"}') == 0)


@pytest.mark.parametrize("name", ["x-ashore-priority", "x-ashore-deadline-ms"])
def test_bad_headers_are_named_on_embeddings_too(worker: Worker, name: str) -> None:
    body = json.dumps({"model": "echo", "input": "a"})
    assert worker.request("POST", "/v1/embeddings", body, headers={name: "5"})[0] == 200
    status, _, answer = worker.request("POST", "/v1/embeddings", body, headers={name: "soon"})
    assert (status, json.loads(answer)["error"]["param"]) == (400, name)
