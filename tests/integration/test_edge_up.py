"""`ashore up --edge envoy` with two API workers: every protocol on one port, kills, and reloads."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import openai
import pytest
from benchmarks.inference_stub import InferenceStub
from commands import run_command
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from home_processes import processes_of
from prometheus_client.parser import text_string_to_metric_families
from served import Served
from waiting import eventually

from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.grpc.gen import status_pb2

Start = Callable[..., Served]
SLOW = "fake:random?tok_per_s=40&tokens=120"
EDGE = ("--edge", "envoy", "--workers", "2")


@pytest.fixture
def edge(served: Start) -> Callable[..., Served]:
    """Return a function that starts `ashore up --edge envoy --workers 2` and waits for its welcome."""

    def start(*models: str, **options: object) -> Served:
        server = served(*models, **{"options": EDGE, "wait": False, **options})
        eventually(lambda: "Ctrl-C stops it" in server.said() or server.process.poll() is not None)
        assert server.process.poll() is None, server.everything_said()
        return server

    return start


def authority(server: Served) -> str:
    return str(server.home / "edge" / "ca.pem")


def url(server: Served) -> str:
    return f"https://localhost:{server.port}"


def client(server: Served) -> openai.OpenAI:
    verified = httpx.Client(verify=ssl.create_default_context(cafile=authority(server)), trust_env=False, timeout=60)
    return openai.OpenAI(base_url=url(server) + "/v1", api_key=server.key, max_retries=0, http_client=verified)


def curl(server: Served, *words: str) -> str:
    program = shutil.which("curl")
    assert program, "curl is needed"
    command = [
        program,
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        authority(server),
        "-H",
        f"Authorization: Bearer {server.key}",
    ]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=True).stdout


def channel(server: Served) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(Path(authority(server)).read_bytes())
    return grpc.secure_channel(f"localhost:{server.port}", credentials)


def with_key(server: Served) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {server.key}"),)


def chat(text: str, model: str) -> pb.ChatRequest:
    return pb.ChatRequest(model=model, messages=[pb.Message(role=pb.ROLE_USER, content=text)])


def worker_pid(server: Served, index: int) -> int:
    return processes_of(server.home, f"ashore.data.worker\0--run\0{server.home}/run\0--index\0{index}")[0]


def envoy_pid(server: Served) -> int:
    return processes_of(server.home, "--disable-hot-restart")[0]


def well(server: Served) -> set[str]:
    """Return the sockets of the workers that the edge holds for well, as its administration page tells them."""
    run = server.home / "run"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(run / "envoy-admin.sock")), trust_env=False) as admin:
        page = admin.get("http://edge/clusters").text
    return set(re.findall(rf"::{re.escape(str(run))}/(api-\d+\.sock)::health_flags::healthy", page))


def tcp_ports(server: Served) -> set[int]:
    """Return the TCP ports on which processes of this home listen."""
    held = set()
    for pid in processes_of(server.home):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                held.add(os.readlink(link))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [line for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in held]
    return {int(line[1].rpartition(":")[2], 16) for line in listening}


def requests_of(server: Served) -> float:
    page = curl(server, url(server) + "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return sum(one.value for one in families["ashore_requests"].samples if one.labels["route"].endswith("completions"))


def test_every_protocol_on_one_port_and_the_limits_of_two_workers(edge: Start) -> None:
    server = edge("fake:echo", SLOW)
    assert f"https://127.0.0.1:{server.port}" in server.said()
    run = server.home / "run"
    for name in ("api-0.sock", "api-1.sock", "grpc-0.sock", "grpc-1.sock", "envoy-admin.sock", "board", "envoy.yaml"):
        assert (run / name).stat().st_mode & 0o777 == 0o600, name
    assert tcp_ports(server) == {server.port}, "workers and the administration are reached on their sockets alone"

    # HTTP/1.1, by the official client, whole and streamed
    with client(server) as api:
        answer = api.chat.completions.create(model="fake:echo", messages=[{"role": "user", "content": "hello"}])
        assert answer.choices[0].message.content == "hello"
        pieces = list(
            api.chat.completions.create(
                model=SLOW, messages=[{"role": "user", "content": "go"}], stream=True, max_tokens=20
            )
        )
        assert len(pieces) > 10
        with pytest.raises(openai.NotFoundError) as unknown:
            api.chat.completions.create(model="none", messages=[{"role": "user", "content": "x"}])
        assert unknown.value.code == "model_not_found"

    # HTTP/2, and the printed command
    assert (
        curl(server, "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", url(server) + "/v1/models")
        == "2 200"
    )
    assert curl(server, "--http1.1", "-o", "/dev/null", "-w", "%{http_version}", url(server) + "/readyz") == "1.1"
    command = re.search(r"  (curl -N .*?}')\n", server.said(), re.DOTALL)
    assert command, server.said()
    printed = subprocess.run(["sh", "-c", command[1]], capture_output=True, text=True, timeout=60, check=True)
    assert "data: [DONE]" in printed.stdout

    # gRPC, by the official client
    with channel(server) as wire:
        stub = InferenceStub(wire)
        whole = stub.Chat(chat("hi there", "fake:echo"), metadata=with_key(server), timeout=20)
        assert whole.choices[0].text == "hi there"
        arrived = []
        for event in stub.ChatStream(chat("go", SLOW), metadata=with_key(server), timeout=30):
            if event.WhichOneof("event") == "delta":
                arrived.append(time.monotonic())
        assert len(arrived) > 50 and arrived[-1] - arrived[0] > 1, "not collected and sent at once"
        with pytest.raises(grpc.RpcError) as late:
            stub.Chat(chat("go on", SLOW), metadata=with_key(server), timeout=0.3)  # "go" may be cached
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(grpc.RpcError) as missing:
            stub.Chat(chat("x", "none"), metadata=with_key(server), timeout=60)
        assert missing.value.code() == grpc.StatusCode.NOT_FOUND
        trailers = dict(missing.value.trailing_metadata())
        assert trailers["ashore-code"] == "model_not_found"
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert status.details[0].type_url.endswith("ErrorInfo")
        with pytest.raises(grpc.RpcError) as nobody:
            stub.Chat(chat("x", "fake:echo"), timeout=60)
        assert nobody.value.code() == grpc.StatusCode.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(wire).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        reflection = reflection_pb2_grpc.ServerReflectionStub(wire)
        names = next(reflection.ServerReflectionInfo(asked, metadata=with_key(server), timeout=60))
        assert "ashore.v1.Inference" in {one.name for one in names.list_services_response.service}

    # both workers answer, and one page tells of both
    before = requests_of(server)
    for _ in range(20):
        curl(
            server, "-H", "content-type: application/json", url(server) + "/v1/chat/completions",
            "-d", '{"model": "fake:echo", "messages": [{"role": "user", "content": "x"}]}',
        )  # fmt: skip
    assert requests_of(server) == before + 20
    page = curl(server, url(server) + "/metrics")
    assert "ashore_workers 2.0" in page
    logs = [(server.home / "logs" / name).read_text() for name in ("api.log", "api-1.log")]
    assert all("completions" in log for log in logs), "each worker had its part"
    looks = '"route":"/readyz","model":"-","status":200'
    assert not any(looks in log for log in logs), "what the edge asks every second is not written down"

    # what a client claims, and what an outsider may not see
    refused = httpx.get(url(server) + "/metrics", verify=False, trust_env=False)
    assert refused.status_code == 401, "loopback behind an edge is not trusted"
    assert server.stop() == 0
    assert processes_of(server.home) == []


def test_chat_and_reload_find_an_edge_by_themselves(edge: Start) -> None:
    server = edge("fake:echo")
    said = run_command("bench", "serve", "--requests", "4", "--prompt-tokens", "8", home=server.home)
    assert said.returncode == 0, said.stderr


def test_a_killed_envoy_comes_back_and_a_killed_worker_costs_nothing_elsewhere(edge: Start) -> None:
    server = edge(SLOW)
    # one worker is enough for the welcome, and the edge looks at the other one some fractions of a second later
    eventually(lambda: well(server) == {"api-0.sock", "api-1.sock"})
    first, envoy = worker_pid(server, 0), envoy_pid(server)

    def ask(_: int) -> str:
        with client(server) as api:
            try:
                answer = api.chat.completions.create(
                    model=SLOW, messages=[{"role": "user", "content": "go"}], max_tokens=60
                )
            except openai.APIStatusError as refused:
                return str(refused.code)
            return answer.choices[0].finish_reason or ""

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask, number) for number in range(8)]
        eventually(lambda: requests_in_flight(server) >= 8)
        os.kill(first, signal.SIGKILL)
        ended = [one.result() for one in running]
    whole, broken = ended.count("length"), [one for one in ended if one != "length"]
    assert whole >= 1, "requests on the other worker went on"
    assert set(broken) <= {"worker_died"} and broken, "those of the killed one ended with an error that says so"
    assert [ask(0) for _ in range(2)] == ["length"] * 2
    eventually(lambda: worker_pid(server, 0) != first)

    os.kill(envoy, signal.SIGKILL)
    eventually(lambda: processes_of(server.home, "--disable-hot-restart") not in ([], [envoy]))

    def answers() -> bool:
        try:
            return ask(0) == "length"
        except openai.APIConnectionError:
            return False

    eventually(answers)
    assert "edge was killed by SIGKILL; restarting it" in server.said()
    assert server.stop() == 0
    assert processes_of(server.home) == []


def requests_in_flight(server: Served) -> float:
    page = curl(server, url(server) + "/metrics")
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("ashore_running_sequences{"))


def test_nothing_outlives_a_killed_supervisor(edge: Start) -> None:
    server = edge("fake:echo")
    assert len(processes_of(server.home)) >= 4
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    eventually(lambda: processes_of(server.home) == [], 10)
    sink = open(server.output, "wb")  # noqa: SIM115
    again = subprocess.Popen(
        [sys.executable, "-m", "ashore.cli.main", "up", "fake:echo", *EDGE, "--port", str(server.port)],
        env={**os.environ, "ASHORE_HOME": str(server.home)},
        stdout=sink,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: "Ctrl-C stops it" in server.said())
        assert curl(server, "-o", "/dev/null", "-w", "%{http_code}", url(server) + "/v1/models") == "200"
    finally:
        again.terminate()
        sink.close()
        assert again.wait(30) == 0


CONFIG = """
[[model]]
name = "{model}"
alias = "chat"
[http]
workers = 2
[edge]
kind = "envoy"
max_body_bytes = {max_body_bytes}
{more}
"""


def test_a_reload_changes_edge_and_models_under_running_streams(edge: Start) -> None:
    def config(**changes: object) -> str:
        return CONFIG.format(**{"model": SLOW, "max_body_bytes": 1_000_000, "more": "", **changes})

    server = edge(options=(), config=config())
    where, port = url(server), server.port
    whole: list[str] = []

    def stream() -> None:
        with client(server) as api:
            for chunk in api.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": "go"}], stream=True, max_tokens=120
            ):
                whole.append(chunk.choices[0].finish_reason or "" if chunk.choices else "")

    thread = threading.Thread(target=stream)
    thread.start()
    eventually(lambda: len(whole) > 3)
    certificate = (server.home / "edge" / "edge.pem").read_bytes()
    text = config(model="fake:echo", max_body_bytes=20_000, more='names = ["models.example"]')
    (server.home / "ashore.toml").write_text(text)
    done = run_command("reload", home=server.home)
    assert done.returncode == 0, done.stderr
    assert "applied" in done.stderr

    def too_large() -> bool:
        body = '{"model": "chat", "messages": [{"role": "user", "content": "%s"}]}' % ("a" * 30_000)
        said = curl(server, where + "/v1/chat/completions", "-H", "content-type: application/json", "-d", body)
        return "payload_too_large" in said

    eventually(too_large)
    for _ in range(6):  # both workers serve the new model
        said = curl(
            server, where + "/v1/chat/completions", "-H", "content-type: application/json",
            "-d", '{"model": "chat", "messages": [{"role": "user", "content": "echoed"}]}',
        )  # fmt: skip
        assert "echoed" in said
    assert (server.home / "edge" / "edge.pem").read_bytes() != certificate
    shown = curl(server, "--resolve", f"models.example:{port}:127.0.0.1", f"https://models.example:{port}/readyz")
    assert "ready" in shown, "the new name is on the certificate that Envoy shows"
    thread.join(30)
    assert whole[-1] == "length" or "length" in whole, "the stream that ran was not cut"

    (server.home / "ashore.toml").write_text(config().replace("workers = 2", "workers = 3"))
    refused = run_command("reload", home=server.home)
    assert refused.returncode == 2 and "[http] workers: 2 -> 3" in refused.stderr


def test_what_cannot_be_is_told_before_anything_starts(
    ashore: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    alone = ashore("up", "fake:echo", "--workers", "2", home=tmp_path / "a")
    assert alone.returncode == 2 and "--edge envoy" in alone.stderr
    unknown = ashore("up", "fake:echo", "--edge", "envoi", home=tmp_path / "b")
    assert unknown.returncode == 2 and "envoy" in unknown.stderr
    port = str(free_port())
    plan = ashore("up", "fake:echo", *EDGE, "--port", port, "--dry-run", home=tmp_path / "c")
    assert plan.returncode == 0 and f"https://127.0.0.1:{port}" in plan.stdout and "own authority" in plan.stdout
    shown = ashore("deploy", "render", "envoy", "--workers", "2", home=tmp_path / "d")
    assert shown.returncode == 0 and "api-1.sock" in shown.stdout and "# Only while no byte" in shown.stdout
    assert not (tmp_path / "d" / "run").exists()


@pytest.fixture(autouse=True)
def quick_stop() -> Iterator[None]:
    """Keep a drain that never ends from holding up the suite."""
    os.environ["ASHORE_DRAIN_TIMEOUT_S"] = "5"
    yield
    os.environ.pop("ASHORE_DRAIN_TIMEOUT_S", None)
