"""A worker that begins, is full, is told to stop or to take a new topology."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hostile_http import CHAT, ask, head, read_until, ready_status, still_answers
from http_worker import Worker, http_worker
from waiting import eventually

from ashore.data.path import AdmissionSection, Limits, write_topology


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    limits = Limits(max_body_bytes=1 << 20, body_read_timeout_s=1.0, header_read_timeout_s=1.0)
    with http_worker(tmp_path_factory.mktemp("worker"), limits=limits) as one:
        yield one


def test_a_client_that_reads_nothing_is_cut_off(tmp_path: Path) -> None:
    limits = Limits(write_stall_timeout_s=0.5)
    with http_worker(tmp_path, limits=limits, models={"echo": "echo"}) as worker:
        with worker.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = ask(text="x" * 2000, stream=True, n=8, logprobs=True, top_logprobs=20)
            sock.sendall(head(worker, f"content-length: {len(body)}") + body.encode())
            eventually(lambda: worker.metric('ashore_running_sequences{model="echo"}') == 8)
            eventually(lambda: worker.metric('ashore_running_sequences{model="echo"}') == 0, limit_s=15)
        assert still_answers(worker)


def test_a_full_server_refuses_within_moments_and_never_hangs(tmp_path: Path) -> None:
    admission = AdmissionSection(max_running=2, max_waiting=2)
    with http_worker(tmp_path, admission=admission) as worker:
        results: list[tuple[int, dict[str, str], float]] = []
        lock = threading.Lock()

        def client(at: int) -> None:
            began = time.monotonic()
            status, headers, _ = worker.request("POST", CHAT, ask("slow", "x" * 20))
            with lock:
                results.append((status, headers, time.monotonic() - began))

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(client, range(12)))
        refused = [(headers, took) for status, headers, took in results if status == 429]
        assert len(refused) == 8
        assert sum(status == 200 for status, _, _ in results) == 4
        assert all(int(headers["retry-after"]) >= 1 for headers, _ in refused)
        assert min(took for _, took in refused) < 0.1
        assert max(took for _, took in refused) < 0.8


def test_a_deadline_that_passes_while_waiting(tmp_path: Path) -> None:
    with http_worker(tmp_path, admission=AdmissionSection(max_running=1)) as worker, ThreadPoolExecutor(1) as pool:
        first = pool.submit(worker.request, "POST", CHAT, ask("slow", "x" * 20))
        eventually(lambda: worker.metric('ashore_running_sequences{model="slow"}') == 1)
        status, headers, body = worker.request("POST", CHAT, ask("slow"), headers={"x-ashore-deadline-ms": "50"})
        assert status == 504
        assert json.loads(body)["error"]["code"] == "deadline_exceeded"
        assert "retry-after" in headers
        assert first.result()[0] == 200


def test_sigterm_drains(tmp_path: Path) -> None:
    with http_worker(tmp_path) as worker, ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.request, "POST", CHAT, ask("slow", "x" * 20, stream=True))
        eventually(lambda: worker.metric('ashore_running_sequences{model="slow"}') == 1)
        worker.process.send_signal(signal.SIGTERM)
        eventually(lambda: worker.request("GET", "/readyz")[0] == 503)
        status, headers, body = worker.request("POST", CHAT, ask())
        assert status == 503
        assert json.loads(body)["error"]["code"] == "draining"
        assert "retry-after" in headers
        assert running.result()[2].endswith(b"data: [DONE]\n\n")
        assert worker.process.wait(10) == 0


def test_what_does_not_end_in_time_is_cut_off_and_told_so(tmp_path: Path) -> None:
    with http_worker(tmp_path, drain_timeout_s=0.3) as worker, ThreadPoolExecutor(1) as pool, worker.connect() as idle:
        idle.sendall(head(worker, path="/healthz", method="GET"))
        read_until(idle, b'"ok"}')
        running = pool.submit(worker.request, "POST", CHAT, ask("slow", "x" * 200, stream=True))
        eventually(lambda: worker.metric('ashore_running_sequences{model="slow"}') == 1)
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        answer = running.result()[2]
        assert b'"error"' in answer
        assert b"[DONE]" not in answer
        assert worker.process.wait(10) == 0
        assert time.monotonic() - began < 8, "the answer takes ten seconds"


def test_sighup_takes_the_new_topology_and_keeps_streams(tmp_path: Path) -> None:
    with http_worker(tmp_path) as worker, ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.request, "POST", CHAT, ask("slow", "x" * 20, stream=True))
        eventually(lambda: worker.metric('ashore_running_sequences{model="slow"}') == 1)
        added = msgspec.structs.replace(worker.topology.models[0], alias="added")
        write_topology(
            msgspec.structs.replace(worker.topology, models=(*worker.topology.models, added)),
            worker.run / "topology.json",
        )
        os.kill(worker.process.pid, signal.SIGHUP)
        eventually(lambda: b'"added"' in worker.request("GET", "/v1/models")[2])
        assert running.result()[2].endswith(b"data: [DONE]\n\n")
        (worker.run / "topology.json").write_bytes(b"{broken")
        os.kill(worker.process.pid, signal.SIGHUP)
        eventually(lambda: "kept the old topology" in worker.said())
        assert still_answers(worker)


def test_a_taken_port_is_told_and_nothing_is_shared(worker: Worker, tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "run").mkdir()
    write_topology(worker.topology, tmp_path / "run" / "topology.json")
    result = subprocess.run(
        [sys.executable, "-m", "ashore.data.worker", "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 4
    assert "port_taken" in result.stderr
    assert str(worker.port) in result.stderr


def test_who_asks_a_worker_that_begins_waits_for_its_hosts_to_greet(tmp_path: Path) -> None:
    def listens() -> bool:
        try:
            worker.connect().close()
        except ConnectionRefusedError:
            return False
        return True

    with http_worker(tmp_path, models={"late": "late-300"}, wait=False) as worker:
        eventually(listens)
        status, _, body = worker.request("POST", CHAT, ask("late"))
        assert status == 200, body


def test_a_model_that_loads_is_not_ready(tmp_path: Path) -> None:
    with http_worker(tmp_path, models={"late": "loading"}, wait=False) as worker:
        eventually(lambda: ready_status(worker) == 503)
        status, headers, body = worker.request("POST", CHAT, ask("late"))
        assert status == 503
        assert json.loads(body)["error"]["code"] == "not_ready"
        assert "retry-after" in headers


def test_a_unix_socket_is_its_owners_and_local_only_where_nobody_stands_between(tmp_path: Path) -> None:
    with http_worker(tmp_path) as other:
        from ashore.data.path import HttpListen

        path = tmp_path / "api.sock"
        write_topology(
            msgspec.structs.replace(other.topology, http=HttpListen(uds=str(path))), tmp_path / "u" / "topology.json"
        ) if (tmp_path / "u").mkdir() is None else None
        import subprocess
        import sys

        from http_worker import SCRIPT

        process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path / "u")], stderr=subprocess.DEVNULL)
        try:
            eventually(path.exists)
            assert path.stat().st_mode & 0o777 == 0o600
            for header, status in ((b"", b"200"), (b"x-forwarded-for: 10.0.0.1\r\n", b"401"), (b"via: x\r\n", b"401")):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(path))
                    sock.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n")
                    assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)
        finally:
            process.terminate()
            process.wait(10)
