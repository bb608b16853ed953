"""Parts of the queue alone: where webhooks may go and how they are signed, lines of batches, forms."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from ashore.control.jobs import WebhookHandler
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, InvalidSpec, PermissionDenied
from ashore.data.authority import OnBehalf
from ashore.data.http.multipart import Data, FormReader, Part, boundary_of
from ashore.data.jobs import Again, CutOff, Done, Failed, JobQueue, NewJob, Outcome, SqlJobs
from ashore.data.jobs.batchlines import MAX_LINE_BYTES, check_lines, split_lines
from ashore.data.jobs.model import REFUSED
from ashore.data.jobs.request import AskWhetherAllowed, Call, CallHandler, outcome_of
from ashore.data.jobs.rules import LONGEST_PAUSE_S, backoff_s
from ashore.kit.egress import check_addresses, check_url, parse_allow
from ashore.kit.state import open_scratch

SECRET = "whsec_" + "A" * 43 + "="


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example/x?a=1", True),
        ("https://HOOKS.example./x", True),
        ("https://a.wild.example/", True),
        ("https://wild.example/", False),
        ("https://notwild.example/", False),
        ("https://hooks.example:8443/", False),
        ("https://ported.example:8443/", True),
        ("https://ported.example/", False),
        ("https://other.example/", False),
        ("https://hooks.example.evil.example/", False),
        ("https://hooks.example@evil.example/", False),
        ("https://user@hooks.example/", False),
        ("ftp://hooks.example/", False),
        ("file:///etc/passwd", False),
        ("https://hooks.example/a b", False),
        ("https://hooks.example/\r\nx: y", False),
        ("https://hooks.example:99999/", False),
        ("https:///x", False),
        ("", False),
    ],
)
def test_only_named_hosts_may_be_called(url: str, allowed: bool) -> None:
    allow = parse_allow(["hooks.example:443", "*.wild.example", "ported.example:8443"])
    if allowed:
        assert check_url(url, allow).host.endswith("example")
    else:
        with pytest.raises(PermissionDenied):
            check_url(url, allow)


@pytest.mark.parametrize(
    "inside",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0", "fd00::1",
     "::ffff:127.0.0.1", "100.64.0.1", "224.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a01:203", "::127.0.0.1",
     "::ffff:0:127.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "255.255.255.255"],
)  # fmt: skip
def test_a_name_cannot_point_inside_unless_the_operator_says_so(inside: str) -> None:
    target = check_url("https://hooks.example/", parse_allow(["hooks.example"]))
    with pytest.raises(PermissionDenied, match="resolves to"):
        check_addresses(target, ["93.184.216.34", inside])
    with pytest.raises(PermissionDenied, match="no address"):
        check_addresses(target, [])
    for outside in ("93.184.216.34", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d822"):
        assert check_addresses(target, [outside]) == outside


def test_an_inner_host_lies_in_its_network_and_nowhere_else() -> None:
    target = check_url("http://hooks.corp/", parse_allow(["hooks.corp@10.0.0.0/8"]))
    assert check_addresses(target, ["10.1.2.3"]) == "10.1.2.3"
    for outside in ("11.0.0.1", "127.0.0.1", "93.184.216.34", "fd00::1"):
        with pytest.raises(PermissionDenied):
            check_addresses(target, [outside])
    named = check_url("http://10.9.9.9:80/", parse_allow(["10.9.9.9"]))
    assert check_addresses(named, ["10.9.9.9"]) == "10.9.9.9"


@pytest.mark.parametrize("entry", ["", "*", "a/b", "host@nowhere", "u@host", "a*b.example", "host:port"])
def test_a_malformed_entry_of_egress_is_named(entry: str) -> None:
    with pytest.raises(InvalidSpec, match="egress"):
        parse_allow([entry])


class Receiver:
    """A webhook receiver that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def deliver(url: str, allow: list[str], addresses: Sequence[str] = ()) -> Outcome:
    clock = ManualClock()
    queue = JobQueue(SqlJobs(open_scratch()), clock, jitter=lambda: 0.0)
    queue.submit(NewJob(job_id="resp_1", kind="response", tenant="t", principal="p", payload=b"{}", webhook=url))
    [lease] = queue.lease(kinds=("response",), limit=1, owner="w")
    queue.settle(lease, Done(result=b"{}"))
    [hook] = queue.lease(kinds=("webhook",), limit=1, owner="w")

    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    handler = WebhookHandler(allow=parse_allow(allow), secret_of=lambda tenant: SECRET, clock=clock, resolver=resolver)
    return asyncio.run(handler.run(hook))


def test_a_webhook_is_one_that_the_official_client_verifies(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = deliver(f"http://127.0.0.1:{receiver.port}/hook?x=1", [f"127.0.0.1:{receiver.port}"])
    assert outcome == Done(result=b"200")
    [(headers, body)] = receiver.got
    monkeypatch.setattr("time.time", ManualClock().now_s)
    with OpenAI(api_key="x", webhook_secret=SECRET, base_url="http://127.0.0.1:1") as client:
        event = client.webhooks.unwrap(body, headers)
        assert event.type == "response.completed" and event.data.id == "resp_1"
        with pytest.raises(Exception, match=r"[Ss]ignature"):
            client.webhooks.unwrap(body + b" ", headers)


@pytest.mark.parametrize(("status", "kind"), [(204, Done), (500, Again), (404, Again), (302, Again), (410, Failed)])
def test_what_a_receiver_answers_decides(receiver: Receiver, status: int, kind: type[Outcome]) -> None:
    receiver.status = status
    assert isinstance(deliver(f"http://127.0.0.1:{receiver.port}/", ["127.0.0.1"]), kind)
    assert len(receiver.got) == 1, "a redirect is not followed"


def test_a_receiver_that_is_down_is_tried_again_and_one_that_is_not_allowed_is_not(receiver: Receiver) -> None:
    port = receiver.port
    receiver.close()
    down = deliver(f"http://127.0.0.1:{port}/", ["127.0.0.1"])
    assert isinstance(down, Again) and down.counted and down.code == "webhook_unreachable"
    assert isinstance(deliver("http://127.0.0.1:1/", []), Failed)
    receiver.__init__()  # type: ignore[misc]  # the fixture closes it once more


def test_a_name_that_turns_inside_reaches_nobody(receiver: Receiver) -> None:
    outcome = deliver(f"http://hooks.example:{receiver.port}/", ["hooks.example"], ["127.0.0.1"])
    assert isinstance(outcome, Failed) and receiver.got == []
    outcome = deliver(f"http://hooks.example:{receiver.port}/", ["hooks.example@127.0.0.0/8"], ["127.0.0.1"])
    assert isinstance(outcome, Done) and receiver.got[0][0]["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize(
    ("status", "code", "kind", "counted"),  # counted: as an attempt, or as a death
    [
        (200, "", Done, None), (400, "invalid_request", Failed, None), (403, "permission_denied", Failed, None),
        (503, "preempted", Again, False), (429, "overloaded", Again, False), (503, "draining", Again, False),
        (401, "invalid_api_key", Again, False), (500, "internal_error", Again, True),
        (503, "kv_cache_exhausted", Again, True), (504, "deadline_exceeded", Again, True),
        (502, "engine_failed", Again, True), (409, "conflict", Again, True),
        (503, "host_died", CutOff, True), (503, "worker_died", CutOff, True), (500, "kills_hosts", CutOff, True),
        (503, "audit_unavailable", CutOff, None),
        (507, "disk_full", CutOff, None), (502, "source_unreachable", CutOff, None), (503, "", CutOff, None),
        (429, "too_many_attempts", CutOff, None), (504, "", CutOff, None),
    ],
)  # fmt: skip
def test_what_the_api_answers_decides(status: int, code: str, kind: type[Outcome], counted: bool | None) -> None:
    body = json.dumps({"error": {"code": code, "message": "m"}} if code else {"ok": 1}).encode()
    outcome = outcome_of(status, body, "r")
    assert isinstance(outcome, kind)
    if isinstance(outcome, Again):
        assert outcome.counted == counted
    elif isinstance(outcome, CutOff):
        assert outcome.died == bool(counted)
    elif isinstance(outcome, Done | Failed) and outcome.result is not None:
        assert msgspec.json.decode(outcome.result)["status"] == status


def test_a_job_over_its_budget_waits_for_the_reset_and_one_that_never_fits_fails() -> None:
    body = json.dumps({"error": {"code": "budget_exceeded", "message": "m"}}).encode()
    waits = outcome_of(429, body, "r", reset_s=40)
    assert isinstance(waits, Again) and (waits.after_s, waits.counted) == (40, False)
    far = outcome_of(429, body, "r", reset_s=86_400)
    assert isinstance(far, Again) and far.after_s == 300
    assert isinstance(outcome_of(429, body, "r"), Failed)


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(principal=NAMES | st.sampled_from(["a/b", "50%"]), tenant=NAMES | st.sampled_from(["x/rival", "北京", "a\r\nb"]))
def test_a_job_runs_as_who_submitted_it_whatever_they_are_called(principal: str, tenant: str) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"{}")

    async def scenario() -> Outcome:
        queue = JobQueue(SqlJobs(open_scratch()), ManualClock())
        payload = msgspec.json.encode(Call(path="/v1/responses", body=msgspec.Raw(b"{}")))
        queue.submit(NewJob(job_id="job_1", kind="call", tenant=tenant, principal=principal, payload=payload))
        lease = queue.lease(kinds=("call",), limit=1, owner="w")[0]
        async with httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(answer)) as http:
            return await CallHandler(http, lambda: "token").run(lease)

    assert isinstance(asyncio.run(scenario()), Done)
    named = seen[0].headers["x-ashore-on-behalf-of"]
    found = OnBehalf("token").principal("token", named)
    assert found is not None and (found.id, found.tenant) == (principal, tenant)
    assert OnBehalf("token").principal("guess", named) is None


@pytest.mark.parametrize(
    ("fault", "kind", "counted"),
    [
        (httpx.ConnectError("refused"), Again, False),
        (httpx.ConnectTimeout("late"), Again, False),
        (httpx.ReadError("reset"), CutOff, True),
        (httpx.WriteError("broken pipe"), CutOff, True),
        (httpx.ReadTimeout("silent"), CutOff, None),
        (httpx.RemoteProtocolError("peer closed connection"), CutOff, True),
        (httpx.LocalProtocolError("illegal header"), Again, True),
    ],
)
def test_only_what_the_request_did_itself_counts(fault: httpx.HTTPError, kind: type[Outcome], counted: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise fault

    async def scenario() -> Outcome:
        queue = JobQueue(SqlJobs(open_scratch()), ManualClock())
        payload = msgspec.json.encode(Call(path="/v1/responses", body=msgspec.Raw(b"{}")))
        queue.submit(NewJob(job_id="job_1", kind="call", tenant="t", principal="p", payload=payload))
        lease = queue.lease(kinds=("call",), limit=1, owner="w")[0]
        async with httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(answer)) as http:
            return await CallHandler(http, lambda: "token").run(lease)

    outcome = asyncio.run(scenario())
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Again) or outcome.counted == counted
    assert not isinstance(outcome, CutOff) or outcome.died == bool(counted)


@pytest.mark.parametrize(
    ("status", "code", "becomes"),
    [
        (200, "", None),
        (403, "permission_denied", Failed),
        (400, "invalid_request", Failed),
        (404, "not_found", Failed),
        (404, "unknown_route", Again),
        (404, "", Again),
        (401, "unauthenticated", Again),
        (429, "overloaded", Again),
        (500, "internal_error", Again),
    ],
)
def test_an_operation_of_whom_nobody_will_ever_allow_it_does_not_wait_for_good(
    status: int, code: str, becomes: type[Outcome] | None
) -> None:
    """Its submitter is of another tenant now: asked every few seconds, it would hold a place of the tenant for ever."""
    body = msgspec.json.encode({"error": {"code": code, "message": "why"}} if code else {})

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/admin/v1/jobs/op_1/allowed"
        return httpx.Response(status, content=body)

    async def scenario() -> Outcome | None:
        queue = JobQueue(SqlJobs(open_scratch()), ManualClock())
        queue.submit(NewJob(job_id="op_1", kind="model verify", tenant="t", principal="p", payload=b"{}"))
        lease = queue.lease(kinds=("model verify",), limit=1, owner="w")[0]
        async with httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(answer)) as http:
            return await AskWhetherAllowed([http], lambda: "token")(lease)

    outcome = asyncio.run(scenario())
    assert type(outcome) is (becomes or type(None)), outcome
    assert not isinstance(outcome, Failed) or (outcome.code == REFUSED and "why" in outcome.message)


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_pauses_grow_to_a_bound(attempts: int, jitter: float) -> None:
    assert 0.25 <= backoff_s(attempts, jitter) <= LONGEST_PAUSE_S
    assert backoff_s(attempts + 1, jitter) >= backoff_s(attempts, jitter)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=8), st.integers(1, 7))
def test_lines_are_the_same_however_the_file_was_cut(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    expected = data.split(b"\n")
    assert list(split_lines(pieces)) == (expected[:-1] if expected[-1] == b"" else expected)


def test_lines_too_long_or_none_are_told() -> None:
    assert check_lines([], "/v1/embeddings")[1][0].code == "empty_file"
    pieces = [b"x" * (1 << 20)] * ((MAX_LINE_BYTES >> 20) + 1)
    total, errors = check_lines(split_lines(pieces), "/v1/embeddings")
    assert [e.code for e in errors] == ["line_too_long"] and errors[0].line == 1 and total == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{"model":"\xff"}}', "invalid_body"),
        (b'{"custom_id":"\xff","method":"POST","url":"/v1/embeddings","body":{}}', "invalid_json_line"),
        (b'{"custom_id":"\\ud800","method":"POST","url":"/v1/embeddings","body":{}}', "invalid_json_line"),
        (b'{"custom_id":"1","method":"POST","url":"/v1/files","body":{"model":"m"}}', "mismatched_url"),
        (b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":' + b"[" * 100_000, "invalid_json_line"),
        (b'{"' + b"x" * 100_000 + b'":1}', "invalid_line"),
        (
            b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{"model":[' + b"1e300," * 9999 + b"1]}}",
            "invalid_json_line",
        ),
    ],
)
def test_a_hostile_line_is_told_in_few_words(line: bytes, code: str) -> None:
    total, errors = check_lines([line], "/v1/embeddings")
    assert (total, [error.code for error in errors]) == (1, [code])
    assert len(errors[0].message) <= 300


def form_of(parts: list[tuple[str, str | None, bytes]], boundary: bytes) -> bytes:
    out = b""
    for name, filename, data in parts:
        file = f'; filename="{filename}"'.encode() if filename is not None else b""
        out += b"--" + boundary + b'\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + file
        out += b"\r\n\r\n" + data + b"\r\n"
    return out + b"--" + boundary + b"--\r\n"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["file", "purpose"]), st.none() | st.just("a.jsonl"),
            st.lists(st.sampled_from([b"\r\n", b"--", b"--bound", b"\r", b"\r\n--boun", b"data"])).map(b"".join),
        ),
        max_size=4,
    ).filter(lambda parts: all(b"\r\n--bound" not in b"\r\n" + data for _, _, data in parts)),
    st.integers(1, 30),
)  # fmt: skip
def test_a_form_is_the_same_however_it_was_cut(parts: list[tuple[str, str | None, bytes]], size: int) -> None:
    body = form_of(parts, b"bound")
    reader = FormReader(b"bound")
    seen: list[tuple[str, str | None, bytes]] = []
    for at in range(0, len(body), size):
        for event in reader.feed(body[at : at + size]):
            if isinstance(event, Part):
                seen.append((event.name, event.filename, b""))
            else:
                assert isinstance(event, Data)
                name, filename, data = seen[-1]
                seen[-1] = (name, filename, data + event.piece)
    reader.end()
    assert seen == parts


def test_broken_forms_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="multipart"):
        boundary_of(b"application/json")
    assert boundary_of(b'multipart/form-data; boundary="a b"') == b"a b"
    reader = FormReader(b"x")
    list(reader.feed(b'--x\r\ncontent-disposition: form-data; name="f"\r\n\r\nhalf'))
    with pytest.raises(InvalidRequest, match="last boundary"):
        reader.end()
    with pytest.raises(InvalidRequest, match="no name"):
        list(FormReader(b"x").feed(b"--x\r\ncontent-type: text/plain\r\n\r\nhalf"))
    with pytest.raises(InvalidRequest, match="head"):
        list(FormReader(b"x").feed(b"--x\r\n" + b"a" * 20_000))
