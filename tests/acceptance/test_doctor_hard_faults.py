"""Faults that need root, seconds of load, or a server set up for them: each found by the doctor. `make test-doctor`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import run_command
from examined import Examined, examined
from home_processes import processes_of
from served import Served, call, start_served
from waiting import eventually

from ashore.doctor import RULES, Readings, diagnose
from ashore.doctor.probes.beside import look_up
from ashore.drills.certificate import expire
from ashore.drills.undoing import Undoing

pytestmark = pytest.mark.full
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make this fault")


def chat(
    server: Served, alias: str, text: str, *, key: str = "", timeout_s: float = 60, **fields: Any
) -> httpx.Response:
    body = {"model": alias, "messages": [{"role": "user", "content": text}], "max_tokens": 2, **fields}
    headers = {"authorization": f"Bearer {key or server.key}"}
    with httpx.Client(trust_env=False, timeout=timeout_s) as client:
        return client.post(f"{server.base_url}/chat/completions", json=body, headers=headers)


def many(number: int, ask: Callable[[int], Any], at_once: int = 8) -> list[Any]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, range(number)))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# --- a server with everything in front of it


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("front") / "home"
    config = (
        '[[model]]\nname = "fake:random?tok_per_s=200"\nalias = "m"\nreplicas = 2\n'
        "[audit]\ncheckpoint_s = 1\n[backup]\nevery_s = 86400\n"
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
    os.kill(processes_of(front.home, "ashore.engines.host")[0], signal.SIGKILL)
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
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "anchor").mkdir()
    running = start_served(
        folder / "home", (), store=None, port=free_port(), grpc_port=free_port(), wait=False,
        config=ODD.format(anchor=folder / "anchor"),
        env={"PYTHONMALLOC": "debug", "https_proxy": "http://127.0.0.1:9"},
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
    assert {"D107", "D409", "D605", "D941"} <= set(found), sorted(found)
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
    found = [one.rule for one in diagnose(Readings(lookups=seen), RULES).findings]
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


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@root
def test_a_disk_that_is_full_read_only_or_has_no_inodes(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=8m,mode=700") as home:
        one = examined(home)
        assert not {"D301", "D315"} & set(one.findings(span_s=0.1))
        with open(home / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        found = one.findings(span_s=0.1)
        assert {"D301", "D315"} <= set(found) and found["D315"].severity == "critical"
    with mounted(tmp_path / "ro", "size=8m,mode=700") as home:
        one = examined(home)
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        assert {"D306", "D315"} <= set(one.findings(span_s=0.1))
    with mounted(tmp_path / "few", "size=8m,nr_inodes=40,mode=700") as home:
        one = examined(home)
        assert "D312" not in one.findings(span_s=0.1)
        with contextlib.suppress(OSError):
            for number in range(60):
                (home / f"file-{number}").touch()
        assert "D312" in one.findings(span_s=0.1)


@root
def test_a_memory_disk_that_is_full(tmp_path: Path) -> None:
    script = (
        "mount -t tmpfs -o size=1m tmpfs /dev/shm && dd if=/dev/zero of=/dev/shm/x bs=1k count=950 2>/dev/null; "
        f"exec {sys.executable} -m ashore.cli.main doctor --only D208 --for 0s --json"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "ASHORE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D208"], done.stderr


def test_a_disk_that_is_slow(tmp_path: Path) -> None:
    words = [
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=150000",
        sys.executable, "-m", "ashore.cli.main", "doctor", "--only", "D302", "--for", "0s", "--json",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, "ASHORE_HOME": str(tmp_path)}
        )
    except FileNotFoundError:
        pytest.skip("strace is not here")
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D302"], done.stderr


def group_of(controller: str) -> Path:
    """Return a new control group of version 1, or of version 2 where that rules here."""
    parent = Path("/sys/fs/cgroup") / controller
    if not parent.is_dir():
        pytest.skip("this machine has no control groups of version 1")
    group = parent / f"ashore-test-{os.getpid()}"
    group.mkdir(exist_ok=True)
    return group


@pytest.fixture
def bound(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Served, Examined, dict[str, Path]]]:
    """Give a server in control groups of its own, without limits yet."""
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    groups = {name: group_of(name) for name in ("cpu", "memory", "pids")}
    enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups.values())
    config = '[[model]]\nname = "fake:random?tok_per_s=2000"\nalias = "m"\nreplicas = 2\n'
    running = start_served(
        tmp_path / "home", (), store=None, port=free_port(), grpc_port=free_port(), config=config,
        prefix=("sh", "-c", f'{enter}; exec "$@"', "sh"),
    )  # fmt: skip
    try:
        yield running, examined(running.home), groups
    finally:
        (groups["cpu"] / "cpu.cfs_quota_us").write_text("-1")
        (groups["memory"] / "memory.limit_in_bytes").write_text("-1")
        (groups["pids"] / "pids.max").write_text("max")
        running.stop()
        for group in groups.values():
            eventually(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]
            group.rmdir()


def test_limits_of_control_groups(bound: tuple[Served, Examined, dict[str, Path]]) -> None:
    server, one, groups = bound
    assert not {"D102", "D202", "D212", "D502"} & set(one.findings())
    (groups["cpu"] / "cpu.cfs_quota_us").write_text("5000")
    before = one.look()
    many(16, lambda n: chat(server, "m", f"quota {n}", max_tokens=20, temperature=1).status_code)
    found = one.findings(before)["D102"]
    assert "0.05 processors" in found.cause
    (groups["cpu"] / "cpu.cfs_quota_us").write_text("-1")

    pids = int((groups["pids"] / "pids.current").read_text())
    (groups["pids"] / "pids.max").write_text(str(pids + 3))
    assert "D502" in one.findings()
    (groups["pids"] / "pids.max").write_text("max")

    before = one.look()
    used = int((groups["memory"] / "memory.usage_in_bytes").read_text())
    (groups["memory"] / "memory.limit_in_bytes").write_text(str(used + (64 << 20)))
    script = f"echo $$ > {groups['memory']}/cgroup.procs; exec {sys.executable} -c 'x = bytearray(600 << 20)'"
    hungry = subprocess.run(["sh", "-c", script], check=False, capture_output=True)
    assert hungry.returncode in (-9, 137)
    assert "D202" in one.findings(before)
    (groups["memory"] / "memory.limit_in_bytes").write_text("-1")


def test_a_disk_that_a_control_group_keeps_away(tmp_path: Path, free_port: Callable[[], int]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    group = group_of("blkio")
    device = os.stat(tmp_path).st_dev
    running = start_served(
        tmp_path / "home", (), store=None, port=free_port(), grpc_port=free_port(),
        config='[[model]]\nname = "fake:echo"\nalias = "m"\n',
        prefix=("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"),
    )  # fmt: skip
    limit = group / "blkio.throttle.write_iops_device"
    try:
        one = examined(running.home)
        assert "D316" not in one.findings()
        limit.write_text(f"{os.major(device)}:{os.minor(device)} 3")
        assert "3 operations a second" in one.findings()["D316"].what
    finally:
        limit.write_text(f"{os.major(device)}:{os.minor(device)} 0")
        running.stop()
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_a_worker_that_is_bound_to_a_busy_processor(odd: Served, at_odd: Examined) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or os.getloadavg()[0] > len(cores) - 1:
        pytest.skip("no processor is idle")
    worker = processes_of(odd.home, "ashore.api.worker")[0]
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


# --- a real engine


def test_an_engine_that_computes_more_exactly_than_it_must_and_lets_prompts_hold_up_others(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = (
        '[[model]]\nname = "smollm2@int8"\nalias = "m"\n'
        "[model.engine]\noptions = {full_precision = true, max_stall_ms = 60000, INFERENCE_NUM_THREADS = 16}\n"
    )
    running = start_served(
        tmp_path / "home", (), store=(demo_home / "store").resolve(), port=free_port(), grpc_port=free_port(),
        config=config, options=("--offline",),
    )  # fmt: skip
    try:
        one = examined(running.home)
        with ThreadPoolExecutor(3) as pool:
            for n in range(3):
                pool.submit(chat, running, "m", f"tell me a long story of {n}", max_tokens=400)
            found = one.finds("D627")
        assert "60 s" in found.what
        found_beside = one.findings()
        assert "full_precision" in found_beside["D611"].what
        assert "16 threads" in found_beside["D101"].what
    finally:
        running.stop()


def test_an_engine_on_fewer_processors_than_threads(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    home = tmp_path / "home"
    running = start_served(
        home, ("smollm2",), store=(demo_home / "store").resolve(), port=free_port(), grpc_port=free_port()
    )
    all_of_them = os.sched_getaffinity(0)
    try:
        one = examined(home)
        assert not {"D101", "D113"} & set(one.findings())
        assert "D602" in one.findings(), "nobody measured it here"
        host = processes_of(home, "ashore.engines.host")[0]
        os.sched_setaffinity(host, {min(all_of_them)})
        assert "D113" in one.findings()
        os.sched_setaffinity(0, {min(all_of_them)})
        assert "threads on 1 processors" in one.findings()["D101"].what
    finally:
        os.sched_setaffinity(0, all_of_them)
        running.stop()
