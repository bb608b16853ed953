"""Real faults of a running server, each found by the doctor, and not found any more once it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from commands import run_command
from examined import Examined, examined
from faults import stopped
from home_processes import processes_of
from served import Served, start_served
from waiting import eventually

from ashore.control.doctor.examine import ANSWER_S

CONFIG = """
[[model]]
name = "fake:random?tok_per_s=200&tokens=20"
alias = "pair"
replicas = 2

[[model]]
name = "fake:random?tok_per_s=5&tokens=10000"
alias = "slow"

[admission]
max_waiting = 2
max_running = 2

[audit]
checkpoint_s = 1
"""
GIB = 1 << 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ports = [socket.socket() for _ in range(2)]
    for one in ports:
        one.bind(("127.0.0.1", 0))
    numbers = [int(one.getsockname()[1]) for one in ports]
    for one in ports:
        one.close()
    running = start_served(
        tmp_path_factory.mktemp("doctor") / "home",
        (),
        store=None,
        port=numbers[0],
        grpc_port=numbers[1],
        config=CONFIG,
        prefix=("env", "-u", "INVOCATION_ID", "-u", "KUBERNETES_SERVICE_HOST"),
    )
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def patient(server: Served) -> Examined:
    return examined(server.home)


def hosts(server: Served, alias: str) -> list[int]:
    topology = json.loads((server.home / "run" / "topology.json").read_text())
    sockets = next(one["sockets"] for one in topology["models"] if one["alias"] == alias)
    return [pid for one in sockets for pid in processes_of(server.home, "ashore.data.engines.host", one)]


def worker(server: Served) -> int:
    return processes_of(server.home, "ashore.data.worker")[0]


def chat(server: Served, alias: str, text: str = "hello", *, timeout_s: float = 60, max_tokens: int = 5) -> int:
    body = {"model": alias, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
    with httpx.Client(trust_env=False, timeout=timeout_s) as client:
        headers = {"authorization": f"Bearer {server.key}"}
        return client.post(f"{server.base_url}/chat/completions", json=body, headers=headers).status_code


def test_a_healthy_server_gets_advice_alone_and_none_of_it_counts(server: Served, patient: Examined) -> None:
    before = patient.look()
    assert [chat(server, "pair", f"question {n}") for n in range(20)] == [200] * 20
    diagnosis = patient.diagnosis(before)
    mine = [one for one in diagnosis.findings if one.area not in ("cpu", "network", "memory", "disk")]
    assert {one.severity for one in mine} <= {"advice"}, "the machine's own areas may have neighbours in them"
    assert diagnosis.rules > 60
    advised = {one.rule for one in diagnosis.findings}
    assert {"D506", "D906", "D913"} <= advised, "it was started by hand, and nothing of it is kept elsewhere"


@contextmanager
def stuck_host(server: Served) -> Iterator[None]:
    with stopped(hosts(server, "pair")[0]):
        yield


@contextmanager
def stopped_jobs(server: Served) -> Iterator[None]:
    with stopped(processes_of(server.home, "ashore.control.jobs.worker")[0]):
        yield


@contextmanager
def silent_supervisor(server: Served) -> Iterator[None]:
    with stopped(server.process.pid):
        yield


@contextmanager
def open_key(server: Served) -> Iterator[None]:
    path = server.home / "first-key"
    path.chmod(0o644)
    try:
        yield
    finally:
        path.chmod(0o600)


@contextmanager
def few_files(server: Served) -> Iterator[None]:
    pid = worker(server)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def starved(server: Served) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root gives a process its class back")
    pid = hosts(server, "pair")[1]
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def locked_state(server: Served) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(server.home / "state.db", isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def changed_file(server: Served) -> Iterator[None]:
    path = server.home / "ashore.toml"
    path.write_text(CONFIG.replace("max_waiting = 2", "max_waiting = 3"))
    try:
        yield
    finally:
        path.write_text(CONFIG)


@contextmanager
def cut_restore(server: Served) -> Iterator[None]:
    path = server.home / ".restoring"
    path.touch()
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def orphan(server: Served) -> Iterator[None]:
    words = [
        sys.executable,
        "-c",
        "import sys; sys.stdin.read()",
        "ashore.data.engines.host",
        f"{server.home}/run/host-77.sock",
    ]
    left = subprocess.Popen(words, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        left.kill()
        left.wait()
        assert left.stdin is not None
        left.stdin.close()


def sparse(*parts: str, size: int, old: bool = False) -> Callable[[Served], contextlib.AbstractContextManager[None]]:
    """Return a fault that is a file of a size, without the bytes."""

    @contextmanager
    def fault(server: Served) -> Iterator[None]:
        path = server.home.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)
        if old:
            os.utime(path, (1e9, 1e9))
        try:
            yield
        finally:
            path.unlink()

    return fault


@contextmanager
def silent_audit(server: Served) -> Iterator[None]:
    """The worker cannot write its chain, and answers nothing that it cannot record."""
    segment = sorted((server.home / "audit" / "chains" / "api-0").glob("*.log"))[-1]
    away = segment.rename(segment.with_suffix(".away"))
    try:
        eventually(lambda: chat(server, "pair", f"{os.urandom(4).hex()}") == 503)
        yield
    finally:
        away.rename(segment)
        eventually(lambda: chat(server, "pair", f"{os.urandom(4).hex()}") == 200)


def out_of_memory(*parts: str, last: str) -> Callable[[Served], contextlib.AbstractContextManager[None]]:
    """Return a fault that is a log which ends with a traceback."""

    @contextmanager
    def fault(server: Served) -> Iterator[None]:
        path = server.home.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Traceback (most recent call last):\n  File 'x', line 1\n{last}\n")
        try:
            yield
        finally:
            path.unlink()

    return fault


ENGINE_LOG = out_of_memory("logs", "host-made-up.log", last="MemoryError")
TRAINING_LOG = out_of_memory(
    "training", "run-1", "train.log",
    last="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
)  # fmt: skip

FAULTS: dict[str, tuple[str, Callable[[Served], contextlib.AbstractContextManager[None]]]] = {
    "an engine host is stopped": ("D508", stuck_host),
    "the job worker is stopped": ("D509", stopped_jobs),
    "the supervisor is stopped": ("D513", silent_supervisor),
    "others may read a key": ("D920", open_key),
    "files run out": ("D501", few_files),
    "a host gets what is left of the processors": ("D114", starved),
    "somebody locks the state": ("D804", locked_state),
    "the file was changed": ("D940", changed_file),
    "a restore was cut off": ("D943", cut_restore),
    "a process was left": ("D512", orphan),
    "blobs that nothing uses": ("D308", sparse("store", "blobs", "sha256", "ab" * 32, size=2 * GIB)),
    "a download was cut off": ("D310", sparse("store", "staging", "x", "part", size=2 * GIB, old=True)),
    "a log without an end": ("D313", sparse("logs", "endless.log.1", size=3 * GIB)),
    "nothing can be recorded": ("D600", silent_audit),
    "an engine runs out of memory": ("D703", ENGINE_LOG),
    "a process fails in a way that nobody expected": ("D515", ENGINE_LOG),
    "a training runs out of memory": ("D704", TRAINING_LOG),
}


@pytest.mark.parametrize(("rule", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_while_it_is_there_and_not_after(
    rule: str,
    fault: Callable[[Served], contextlib.AbstractContextManager[None]],
    server: Served,
    patient: Examined,
) -> None:
    with fault(server):
        found = patient.finds(rule)
        assert found.evidence and found.remedy
    patient.is_silent(rule)


def test_requests_that_fail(server: Served, patient: Examined) -> None:
    with silent_audit(server):
        before = patient.look()
        assert {chat(server, "pair", f"failing {n}") for n in range(3)} == {503}
        found = patient.findings(before)["D613"]
    assert "audit_unavailable" in found.cause and found.severity == "critical"


def test_a_look_is_of_the_moment_at_which_it_began_however_long_somebody_takes_to_answer(
    server: Served, patient: Examined
) -> None:
    """What the kernel counts is read first: rates over a longer time than is said would be too high."""
    with stopped(worker(server)):
        began_s = time.monotonic()
        look = patient.look()
        ended_s = time.monotonic()
    assert ended_s - look.mono_s >= ANSWER_S > look.mono_s - began_s


def test_a_host_that_dies_again_and_again_is_named(server: Served, patient: Examined) -> None:
    for _ in range(3):
        old = hosts(server, "pair")
        os.kill(old[0], signal.SIGKILL)
        eventually(lambda old=old: len(now := hosts(server, "pair")) == 2 and old[0] not in now)  # type: ignore[misc]
    found = patient.finds("D503")
    assert "pair" in found.what and found.severity == "critical"
    eventually(server.ready)


def test_more_than_the_machine_takes_is_called_overload(server: Served, patient: Examined) -> None:
    """Two answers run, two wait, and the others are refused."""
    before = patient.look()
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(chat, server, "slow", f"question {n}", max_tokens=10) for n in range(12)]
        statuses = [one.result() for one in asked]
    assert statuses.count(200) == 4, statuses
    found = patient.findings(before)["D609"]
    assert "slow" in found.what and "refused" in found.what


def test_a_safe_change_is_made_and_undone_and_both_are_recorded(server: Served, patient: Examined) -> None:
    env = {"ASHORE_HOME": str(server.home)}
    key = server.home / "first-key"
    with open_key(server):
        found = run_command("doctor", "--only", "D920", "--for", "0s", "--json", env=env)
        assert found.returncode == 4 and json.loads(found.stdout)["worst"] == "critical"
        dry = run_command("doctor", "apply", "--rules", "D920", "--dry-run", env=env)
        assert dry.returncode == 0 and "would change  D920" in dry.stdout
        assert key.stat().st_mode & 0o777 == 0o644
        made = run_command("doctor", "apply", "--rules", "D920", "--json", env=env)
        assert made.returncode == 0 and [one["stage"] for one in json.loads(made.stdout)["items"]] == ["made"]
        assert key.stat().st_mode & 0o777 == 0o600
        undone = run_command("doctor", "undo", "all", env=env)
        assert undone.returncode == 0 and "undone  D920" in undone.stdout
        assert key.stat().st_mode & 0o777 == 0o644
        again = run_command("doctor", "undo", "1", env=env)
        assert again.returncode == 2 and "change 1 is undone" in again.stderr
    for action in ("doctor:apply", "doctor:undo"):
        kept = run_command("audit", "search", "--action", action, env=env)
        assert f"{action} doctor/D920 done" in kept.stdout, kept.stdout


def test_what_lies_on_the_disk_is_judged_with_the_server_down(
    server: Served, patient: Examined, tmp_path: Path
) -> None:
    """A copy of the home, in which the state and a record are damaged."""
    home = tmp_path / "copy"
    done = subprocess.run(["cp", "-a", "--sparse=always", str(server.home), str(home)], check=False)
    assert done.returncode in (0, 1), "sockets may not be copied"
    one = examined(home)
    diagnosis = one.diagnosis(span_s=0.1)
    assert not {each.rule for each in diagnosis.findings} & {"D806", "D902"}
    (home / "state.db").write_bytes(b"not a database" * 1000)
    for name in ("state.db-wal", "state.db-shm"):
        (home / name).unlink(missing_ok=True)
    segment = sorted((home / "audit" / "chains" / "supervisor").glob("*.log"))[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    found = one.findings(span_s=0.1)
    assert {"D806", "D902"} <= set(found)
    assert all(found[rule].severity == "critical" for rule in ("D806", "D902"))
    assert run_command("doctor", "--for", "0s", env={"ASHORE_HOME": str(home)}).returncode == 4
