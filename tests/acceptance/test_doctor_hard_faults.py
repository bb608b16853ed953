"""Faults that need seconds of load, or a server set up for them: each found by the doctor. `make test-doctor`."""

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
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import run_command
from examined import Examined, examined
from faults import chat, many, stopped
from home_processes import processes_of
from served import Served, call, owner_key, start_served
from waiting import eventually

from ashore.control.audit import FeedStanding, forget_feed, keep_feed
from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.probes.beside import look_up
from ashore.control.drills.faults.contents import expire
from ashore.control.drills.undoing import Undoing

pytestmark = pytest.mark.full


# --- a server with everything in front of it


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("front") / "home"
    config = (
        '[[model]]\nname = "fake:random?tok_per_s=200"\nalias = "m"\nreplicas = 2\n'
        "[audit]\ncheckpoint_s = 1\n[backup]\nevery_s = 3\n"
    )
    nodes = [str(home.parent / f"node-{n}") for n in range(3)]
    made = run_command("backup", "init", "--nodes", ",".join(nodes), "--code", "2+1", env={"ASHORE_HOME": str(home)})
    assert made.returncode == 0, made.stderr
    running = start_served(
        home, (), store=None, port=free_port(), grpc_port=free_port(), config=config, wait=False,
        options=("--edge", "envoy", "--workers", "2", "--redis", "embedded"),
    )  # fmt: skip
    try:
        eventually(lambda: "Ctrl-C stops it" in running.said() or running.process.poll() is not None, 90)
        assert running.process.poll() is None, running.everything_said()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def at_front(front: Served) -> Examined:
    return examined(front.home)


@contextmanager
def valkey(front: Served) -> Iterator[Any]:
    from redis import Redis

    client = Redis.from_url(f"unix://{front.home}/run/valkey.sock")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def cache_stands_still(front: Served) -> Iterator[None]:
    with stopped(processes_of(front.home, "valkey-server")[0]):
        yield


@contextmanager
def cache_without_limit(front: Served) -> Iterator[None]:
    with valkey(front) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", 0)
        try:
            yield
        finally:
            client.config_set("maxmemory", before)


@contextmanager
def edge_stands_still(front: Served) -> Iterator[None]:
    with stopped(processes_of(front.home, "--disable-hot-restart")[0]):
        yield


@contextmanager
def ended_certificate(front: Served) -> Iterator[None]:
    with Undoing(front.home.parent / "undo.jsonl", 600) as undoing:
        expire(front.home / "edge", undoing)
        yield


@contextmanager
def host_ends(front: Served) -> Iterator[None]:
    """One of the two, four times in a row: it is then started again after seconds."""
    other = processes_of(front.home, "ashore.data.engines.host")[1:]
    for _ in range(4):
        (new,) = eventually(lambda: {*processes_of(front.home, "ashore.data.engines.host")} - {*other})
        os.kill(new, signal.SIGKILL)
    yield


FRONT = {
    "the shared cache stands still": ("D801", cache_stands_still),
    "the shared cache has no limit": ("D802", cache_without_limit),
    "the edge stands still": ("D811", edge_stands_still),
    "the certificate has ended": ("D407", ended_certificate),
    "a host ends": ("D616", host_ends),
}


@pytest.mark.parametrize(("rule", "fault"), FRONT.values(), ids=FRONT)
def test_faults_of_what_stands_in_front(
    rule: str, fault: Callable[[Served], contextlib.AbstractContextManager[None]], front: Served, at_front: Examined
) -> None:
    assert rule not in at_front.findings()
    with fault(front):
        assert at_front.finds(rule).severity in ("warning", "critical")
    at_front.is_silent(rule)


def test_a_cache_that_has_too_many_clients(front: Served, at_front: Examined) -> None:
    with valkey(front) as client:
        before = at_front.look()
        most = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 12)
        try:
            for _ in range(30):
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as other:
                    other.connect(f"{front.home}/run/valkey.sock")
                    held = [socket.socket(socket.AF_UNIX) for _ in range(20)]
                    for one in held:
                        with contextlib.suppress(OSError):
                            one.connect(f"{front.home}/run/valkey.sock")
                    for one in held:
                        one.close()
        finally:
            client.config_set("maxclients", most)
    eventually(lambda: at_front.findings(before).get("D803"))


def test_copies_on_the_disk_of_the_home(at_front: Examined) -> None:
    assert "node-" in at_front.finds("D907").what
    assert "D906" not in at_front.findings(), "there is a backup"


def test_a_backup_that_loses_its_nodes_or_its_process(
    front: Served, at_front: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_front.is_silent("D903")
    nodes = [front.home.parent / f"node-{n}" for n in range(2)]
    with contextlib.ExitStack() as stack:
        for node, rule in zip(nodes, ("D903", "D904"), strict=True):
            away = node.rename(node.with_suffix(".away"))
            stack.callback(away.rename, node)
            at_front.finds(rule)
    at_front.is_silent("D904")
    with stopped(processes_of(front.home, "ashore.control.jobs.worker")[0]):
        assert "D905" not in at_front.findings()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 7200)
        assert "2 h late" in at_front.findings()["D905"].what


def test_releases_that_fail_get_stuck_and_leave_no_warm_way_back(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start_served(
        tmp_path / "home", (), store=None, port=free_port(), grpc_port=free_port(),
        config='[[model]]\nname = "fake:random?tok_per_s=200"\nalias = "m"\n',
    )  # fmt: skip
    try:
        one, key = examined(running.home), owner_key(running)

        def release(*words: str) -> None:
            done = run_command("release", *words, "--key", key, env={"ASHORE_HOME": str(running.home)})
            assert done.returncode == 0, done.stderr

        assert not {"D930", "D931", "D932"} & set(one.findings())
        release("create", "--alias", "m", "--model", "fake:random?tok_per_s=200&seed=7")
        release("shadow", "m-2")
        eventually(lambda: call(running, "GET", "/admin/v1/releases/m-2", key)["state"] == "shadow")
        real = time.time
        with monkeypatch.context() as later:
            later.setattr(time, "time", lambda: real() + 2 * 86_400)
            assert "m-2 (shadow for 2 days)" in one.findings()["D932"].what
        release("promote", "m-2", "--override", "urgent", "--standby", "0")
        one.finds("D931")
        release("create", "--alias", "m", "--model", "fake:echo?fail_load=1")
        run_command("release", "shadow", "m-3", "--key", key, env={"ASHORE_HOME": str(running.home)})
        assert "m-3" in one.finds("D930").what
    finally:
        running.stop()


def test_secrets_in_clear_though_they_could_be_sealed(front: Served, tmp_path: Path) -> None:
    env = {"ASHORE_HOME": str(front.home), "ASHORE_SEALING_KEY": f"keyring:{tmp_path}/ring"}
    done = run_command("doctor", "--only", "D925", "--for", "0s", "--json", env=env)
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D925"], done.stderr


# --- a server that was set up badly

ODD = """
[http]
host = "0.0.0.0"

[[model]]
name = "fake:random?tok_per_s=400"
alias = "m"

[[model]]
name = "fake:random?tok_per_s=40&tokens=400"
alias = "tight"
[model.engine]
kv_tokens = 256
max_sequences = 8

[[model]]
name = "fake:echo?fail_load=1"
alias = "broken"
load = "demand"

[admission]
max_running = 2
max_waiting = 64

[audit]
checkpoint_s = 1
anchors = ["{anchor}"]

[otel]
endpoint = "http://127.0.0.1:9"
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "anchor").mkdir()
    running = start_served(
        folder / "home", (), store=None, port=free_port(), grpc_port=free_port(), wait=False,
        config=ODD.format(anchor=folder / "anchor"),
        env={"PYTHONMALLOC": "debug", "https_proxy": "http://127.0.0.1:9"},
        prefix=("sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh"),
    )  # fmt: skip
    try:
        eventually(lambda: "Ctrl-C stops it" in running.said() or running.process.poll() is not None, 90)
        assert running.process.poll() is None, running.everything_said()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def at_odd(odd: Served) -> Examined:
    return examined(odd.home)


def test_what_is_wrong_with_a_server_from_its_start(odd: Served, at_odd: Examined) -> None:
    found = at_odd.findings()
    assert {"D107", "D409", "D514", "D605", "D941"} <= set(found), sorted(found)
    assert "PYTHONMALLOC" in found["D107"].what and "tight" in found["D605"].what


def test_requests_that_wait_longer_than_they_are_computed(odd: Served, at_odd: Examined) -> None:
    before = at_odd.look()
    answers = many(30, lambda n: chat(odd, "tight", f"wait {n}", max_tokens=30, temperature=1).status_code, at_once=30)
    assert answers.count(200) >= 10
    assert "tight" in at_odd.findings(before)["D608"].what


def test_answers_that_end_by_their_length_and_a_cache_that_finds_nothing(odd: Served, at_odd: Examined) -> None:
    before = at_odd.look()
    assert set(many(1010, lambda n: chat(odd, "m", f"one {n}", max_tokens=1, temperature=0).status_code)) == {200}
    found = at_odd.findings(before)
    assert {"D612", "D624"} <= set(found), sorted(found)


def test_prompts_that_are_too_long_or_have_nothing_in_common_and_traces_that_nobody_takes(
    odd: Served, at_odd: Examined
) -> None:
    before = at_odd.look()
    assert set(many(5, lambda n: chat(odd, "m", f"{n} " + "word " * 4000).status_code)) == {400}
    assert set(many(20, lambda n: chat(odd, "m", f"{n} " + "word " * 500).status_code)) == {200}
    eventually(
        lambda: {"D603", "D617", "D944"} <= set(at_odd.findings(before)), told=lambda: str(set(at_odd.findings(before)))
    )


def test_tokens_that_come_unevenly(odd: Served, at_odd: Examined) -> None:
    """A host stands still in the middle of two answers of eighteen."""
    before = at_odd.look()

    def ask(number: int) -> int:
        return chat(odd, "tight", f"uneven {number}", max_tokens=30, temperature=1).status_code

    assert set(many(16, ask, at_once=2)) == {200}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, 16 + n) for n in range(2)]
        time.sleep(0.4)
        for pid in processes_of(odd.home, "ashore.data.engines.host"):
            stack.enter_context(stopped(pid))
        time.sleep(5)
        stack.close()
        assert [one.result() for one in asked] == [200, 200]
    assert "tight" in at_odd.findings(before)["D607"].what


def test_clients_that_go_away(odd: Served, at_odd: Examined) -> None:
    before = at_odd.look()

    def leave(number: int) -> None:
        with contextlib.suppress(httpx.HTTPError):
            chat(odd, "tight", f"leave {number}", max_tokens=200, temperature=1, timeout_s=0.5)

    many(24, leave, at_once=4)
    eventually(lambda: at_odd.findings(before).get("D614"))


def test_fields_that_are_left_out(odd: Served, at_odd: Examined) -> None:
    before = at_odd.look()
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "made_up_field": 1}
    with httpx.Client(trust_env=False, timeout=30, headers={"authorization": f"Bearer {odd.key}"}) as client:
        for n in range(30):
            body["messages"] = [{"role": "user", "content": f"field {n}"}]
            assert client.post(f"{odd.base_url}/messages", json=body).status_code == 200
    assert "D620" in at_odd.findings(before)


def test_a_model_on_demand_that_cannot_be_loaded(odd: Served, at_odd: Examined) -> None:
    before = at_odd.look()
    assert chat(odd, "broken", "wake up").status_code >= 500
    eventually(lambda: at_odd.findings(before).get("D619"))


def test_an_anchor_that_takes_nothing(odd: Served, at_odd: Examined) -> None:
    assert not {"D912", "D913"} & set(at_odd.findings())
    anchor = odd.home.parent / "anchor"
    away = anchor.rename(anchor.with_name("away"))
    anchor.write_text("no folder")
    try:
        chat(odd, "m", "something to sign")
        eventually(lambda: at_odd.findings().get("D912"))
    finally:
        anchor.unlink()
        away.rename(anchor)


def test_a_receiver_of_the_audit_log_that_is_away(odd: Served, at_odd: Examined) -> None:
    def found() -> bool:  # a reload of the server forgets a feed that ashore.toml does not have
        since_us = time.time_ns() // 1000 - 600_000_000
        away = FeedStanding(name="siem", to="x", silent_us=since_us, failures=9, error="refused")
        keep_feed(odd.home / "audit", away)
        return "D914" in at_odd.findings()

    try:
        eventually(found)
    finally:
        forget_feed(odd.home / "audit", "siem")


def test_a_directory_and_a_channel_of_alerts_that_do_not_work(odd: Served, at_odd: Examined) -> None:
    """Their syncs and messages fail for ten minutes already, as the state says."""
    assert not {"D926", "D927"} & set(at_odd.findings())
    since_s = time.time() - 600
    body = json.dumps({"channels": {"ops": {"failures": 9, "since_s": since_s, "error": "refused"}}})
    with closing(sqlite3.connect(odd.home / "state.db", timeout=60)) as state, state:
        state.execute(
            "INSERT INTO directory_sync (directory, synced_s, failed_s, says, held) VALUES ('ad', ?, ?, 'away', '')",
            (int(since_s), int(since_s)),
        )
        state.execute("INSERT INTO alert_book VALUES ('other', ?, ?)", (int(time.time()), body))
    try:
        eventually(lambda: {"D926", "D927"} <= set(at_odd.findings()), told=lambda: str(sorted(at_odd.findings())))
    finally:
        with closing(sqlite3.connect(odd.home / "state.db", timeout=60)) as state, state:
            state.execute("DELETE FROM directory_sync WHERE directory = 'ad'")
            state.execute("DELETE FROM alert_book WHERE home = 'other'")


def test_keys_that_end_and_budgets_that_are_used_up(odd: Served, at_odd: Examined) -> None:
    assert "D923" in at_odd.findings(), "nobody has taken over yet"
    made = call(odd, "POST", "/admin/v1/users", odd.key, {"id": "sec", "roles": ["security-officer"], "key": {}})
    security = made["key"]["key"]
    made = call(odd, "POST", "/admin/v1/users", security, {"id": "sys", "roles": ["system-administrator"], "key": {}})
    soon = call(
        odd, "POST", "/admin/v1/users", security,
        {"id": "app", "roles": ["developer"], "key": {"expires_in_s": 86_400}},
    )  # fmt: skip
    key = soon["key"]["key"]
    call(
        odd, "PUT", "/admin/v1/budgets", made["key"]["key"],
        {"kind": "requests", "cap": 20, "window": "day", "user": "app"},
    )  # fmt: skip
    many(20, lambda n: chat(odd, "m", f"budget {n}", key=key, temperature=1).status_code, at_once=2)
    eventually(lambda: {"D922", "D924"} <= set(at_odd.findings()), told=lambda: str(sorted(at_odd.findings())))
    assert "D921" not in at_odd.findings()
    call(odd, "POST", "/admin/v1/users", security, {"id": "aud", "roles": ["auditor"], "key": {}})
    at_odd.finds("D921")


# --- faults of the machine


def test_a_listener_whose_queue_is_full(front: Served, at_front: Examined) -> None:
    """More connections come than Envoy's queue holds while it takes none; the full queue of another program is none of
    this server's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = at_front.look()
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        connect(stack, int(other.getsockname()[1]), 8)
        assert "D405" not in at_front.findings(before)
        with stopped(processes_of(front.home, "envoy.yaml")[0]):
            connect(stack, front.port, 1100)
        found = at_front.finds("D405", before)
    assert f"to port {front.port} found the queue full" in found.what


def connect(stack: contextlib.ExitStack, port: int, number: int) -> None:
    """Begin so many connections, which end with the stack."""
    for _ in range(number):
        one = stack.enter_context(socket.socket())
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))


def test_another_program_takes_the_processors(odd: Served, at_odd: Examined) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        found = at_odd.finds("D111")
        assert "process" in found.what
    finally:
        for one in busy:
            one.kill()
            one.wait()


def test_a_name_that_nobody_knows() -> None:
    seen = look_up({"no-such-machine.invalid": "[redis] url"})
    found = [one.rule for one in diagnose(Readings(lookups=seen), load_rules()).findings]
    assert found == ["D403"]


def test_a_clock_that_is_set_while_the_doctor_looks(
    odd: Served, at_odd: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = at_odd.look()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    found = at_odd.findings(before)["D402"]
    assert "set back" in found.what


def test_a_variable_with_a_typing_error(odd: Served) -> None:
    done = run_command(
        "doctor", "--only", "D942", "--for", "0s", "--json", env={"ASHORE_HOME": str(odd.home), "ASHORE_HOEM": "x"}
    )
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D942"]


def test_code_that_was_replaced_since_the_start(odd: Served, at_odd: Examined) -> None:
    import ashore

    file = Path(ashore.__file__)
    before = file.stat()
    os.utime(file, (time.time(), time.time()))
    try:
        assert at_odd.finds("D507")
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_worker_that_is_bound_to_a_busy_processor(odd: Served, at_odd: Examined) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or os.getloadavg()[0] > len(cores) - 1:
        pytest.skip("no processor is idle")
    worker = processes_of(odd.home, "ashore.data.worker")[0]
    tasks = [int(one) for one in os.listdir(f"/proc/{worker}/task")]
    words = ["taskset", "-c", str(cores[0]), sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(words) for _ in range(4)]
    try:
        for task in tasks:
            os.sched_setaffinity(task, {cores[0]})
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(chat, odd, "m", f"bound {n}") for n in range(400)]
            assert "api" in at_odd.finds("D116").what
            for one in asked:
                one.cancel()
    finally:
        for each in busy:
            each.kill()
            each.wait()
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, set(cores))
