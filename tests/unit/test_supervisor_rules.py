"""The parts of supervision that can be looked at alone: restarts, locks, logs, ports, environments."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ashore.core.clock import ManualClock
from ashore.core.errors import EngineFailed, HomeBusy, InvalidSpec, PortTaken
from ashore.kit.processes import SILENCE_S, LoopLife, child_environment
from ashore.kit.processes.child import ChildSpec
from ashore.kit.processes.lock import Holder, HomeLock, read_holder
from ashore.kit.processes.logs import rotate, tail
from ashore.kit.processes.ports import check_port, check_ports, owner_of_port
from ashore.kit.processes.restart import GiveUp, Restart, RestartPolicy, decide
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.reserve import Reserve

POLICY = RestartPolicy(first_wait_s=1, longest_wait_s=10, jitter=0.5, healthy_after_s=60, most_failures=5)


def test_what_waits_for_news_is_called_at_once_and_the_rest_when_it_is_due() -> None:
    clock, called = ManualClock(), [0, 0]
    supervisor = Supervisor(clock=clock, say=lambda line: None)

    def patient() -> None:
        called[0] += 1

    def curious() -> float:
        called[1] += 1
        return 5.0

    supervisor.call_every("patient", 60.0, patient)
    supervisor.call_every("curious", 0.1, curious, at_news=True)
    for _ in range(3):
        supervisor.tick(0.0)
    assert called == [1, 1]
    threading.Thread(target=supervisor.tell_news).start()
    supervisor.tick(10.0)  # ends at the news
    assert called == [1, 2]
    clock.advance(4.9)
    supervisor.tick(0.0)
    assert called == [1, 2]
    clock.advance(0.2)
    supervisor.tick(0.0)
    assert called == [1, 3]


def test_a_job_that_fails_is_said_once_and_tried_again_less_and_less_often_while_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, said, went_on = ManualClock(), list[str](), list[float]()
    supervisor = Supervisor(clock=clock, say=said.append)
    tried, works = list[float](), [False]

    def fails() -> None:
        tried.append(round(clock.monotonic_s() - began_s))
        if not works[0]:
            raise PermissionError(13, "Permission denied", "/proc/1/cwd")

    began_s = clock.monotonic_s()
    supervisor.call_every("releases", 0.1, fails, at_news=True)
    supervisor.call_every("the rest", 1.0, lambda: went_on.append(clock.monotonic_s()))
    for _ in range(200):
        supervisor.tell_news()
        supervisor.tick(0.0)
        clock.advance(1.0)
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183] and len(went_on) == 200
    assert [line for line in said if "releases" in line] == [
        "releases failed: PermissionError: [Errno 13] Permission denied: '/proc/1/cwd'; retrying in 1 s, "
        "then less often"
    ]
    assert caplog.text.count("Traceback") == 1 and "releases failed" in caplog.text
    works[0] = True
    clock.advance(60.0)
    supervisor.tick(0.0)
    assert said[-1] == "releases works again, after 9 failures"
    clock.advance(0.1)
    supervisor.tick(0.0)
    assert tried[-2:] == [260, 260]


def test_a_descriptor_whose_reader_fails_rests_and_is_read_later(caplog: pytest.LogCaptureFixture) -> None:
    clock, said, tried = ManualClock(), list[str](), list[int]()
    supervisor = Supervisor(clock=clock, say=said.append)
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")

    def fails() -> None:
        tried.append(len(tried))
        if len(tried) < 3:
            raise OSError(24, "Too many open files")
        os.read(read_end, 1)

    supervisor.watch("control socket", read_end, fails)
    for _ in range(20):
        supervisor.tick(0.0)
    assert tried == [0] and said[0].startswith("control socket failed: OSError: [Errno 24]")
    for _ in range(10):
        clock.advance(1.0)
        supervisor.tick(0.0)
        supervisor.tick(0.0)
    assert tried == [0, 1, 2] and len(said) == 2
    os.write(write_end, b"x")
    supervisor.tick(0.0)
    assert tried == [0, 1, 2, 3]
    supervisor.unwatch(read_end)
    for end in (read_end, write_end):
        os.close(end)


def test_a_child_that_cannot_be_started_again_counts_as_one_that_fell(tmp_path: Path) -> None:
    clock, said = ManualClock(), list[str]()
    policy = RestartPolicy(first_wait_s=1, jitter=0, most_failures=2)
    logs = tmp_path / "logs"
    with Supervisor(clock=clock, say=said.append, policy=policy) as supervisor:
        spec = ChildSpec(name="jobs", argv=("/bin/false",), log=logs / "jobs.log", control_flag="")
        supervisor.add(spec)
        logs.rename(tmp_path / "away")
        logs.touch()  # its log cannot be opened
        while supervisor.restarts("jobs") == 0:
            supervisor.tick(0.05)
        for _ in range(3):
            clock.advance(10)
            supervisor.tick(0.0)
        assert supervisor.state("jobs") == "given-up" and supervisor.pid("jobs") is None
        assert "jobs could not be started; restarting it in 2.0 s" in said
        with pytest.raises(EngineFailed, match="other cannot be started"):
            supervisor.add(replace(spec, name="other"))
        assert "other" not in supervisor.names()


@pytest.mark.parametrize(
    ("failures", "ran_s", "chance", "expected"),
    [
        (0, 1, 0.0, Restart(wait_s=1, failures=1, exits=1)),
        (0, 1, 1.0, Restart(wait_s=1.5, failures=1, exits=1)),
        (2, 1, 0.0, Restart(wait_s=4, failures=3, exits=3)),
        (4, 1, 0.0, Restart(wait_s=10, failures=5, exits=5)),
        (4, 60, 0.0, Restart(wait_s=1, failures=1, exits=1)),
    ],
)
def test_waits_double_are_bounded_and_forget(failures: int, ran_s: float, chance: float, expected: Restart) -> None:
    done = decide(POLICY, exit_code=1, ran_s=ran_s, failures=failures, exits=failures, chance=chance)
    assert done == expected


def test_patience_ends_with_one_that_exits_and_never_with_one_that_is_killed() -> None:
    assert isinstance(decide(POLICY, exit_code=1, ran_s=0, failures=5, exits=5, chance=0), GiveUp)
    failures = exits = 0
    for _ in range(10_000):
        done = decide(POLICY, exit_code=-11, ran_s=0, failures=failures, exits=exits, chance=0)
        assert isinstance(done, Restart)
        failures, exits = done.failures, done.exits
    assert (done.wait_s, exits) == (POLICY.longest_wait_s, 0)
    after = decide(POLICY, exit_code=1, ran_s=0, failures=failures, exits=exits, chance=0)
    assert isinstance(after, Restart) and after.exits == 1, "what killed it before is not held against its start"


def test_a_child_with_wrong_input_is_not_started_again() -> None:
    assert isinstance(decide(POLICY, exit_code=2, ran_s=99, failures=0, exits=0, chance=0), GiveUp)


def test_a_home_has_one_holder_and_the_second_is_told_who(tmp_path: Path) -> None:
    lock = HomeLock.acquire(tmp_path / "lock", Holder(pid=os.getpid(), address="http://127.0.0.1:8080"))
    with pytest.raises(HomeBusy, match=rf"process {os.getpid()} \(http://127\.0\.0\.1:8080\)"):
        HomeLock.acquire(tmp_path / "lock", Holder(pid=1, address="other"))
    lock.release()
    lock.release()
    assert read_holder(tmp_path / "lock") is None
    HomeLock.acquire(tmp_path / "lock", Holder(pid=2, address="other")).release()


def test_a_lock_dies_with_its_holder_and_is_not_inherited(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\nfrom pathlib import Path\nfrom ashore.kit.processes.lock import Holder, HomeLock\n"
        f"lock = HomeLock.acquire(Path({str(tmp_path / 'lock')!r}), Holder(pid=1, address='x'))\n"
        "child = subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL, close_fds=False)\n"
        "print(child.pid, flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    result = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    orphan = int(result.stdout)
    try:
        os.kill(orphan, 0)  # it lives, and was given every descriptor that may be inherited
        HomeLock.acquire(tmp_path / "lock", Holder(pid=2, address="y")).release()
    finally:
        os.kill(orphan, 9)


def test_a_long_log_is_emptied_in_place_and_three_older_ones_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for text in ("one", "two", "three", "four"):
        os.write(descriptor, text.encode())
        assert rotate(log, max_bytes=3)
    os.write(descriptor, b"five")
    os.close(descriptor)
    assert log.read_text() == "five"
    assert [(tmp_path / f"host.log.{n}").read_text() for n in (1, 2, 3)] == ["four", "three", "two"]
    assert not (tmp_path / "host.log.4").exists()
    assert not rotate(log, max_bytes=100)
    assert not rotate(tmp_path / "none.log")


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"{n}\n" for n in range(100)))
    assert tail(tmp_path / "a.log", lines=2) == "98\n99"
    assert tail(tmp_path / "none.log") == ""


def test_a_taken_port_names_its_owner(free_port: Callable[[], int]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port} is already in use by .*pid {os.getpid()}") as caught:
            check_port("127.0.0.1", port, option="--port")
        assert "--port" in caught.value.hint
    check_port("127.0.0.1", free_port(), option="--port")


def test_all_taken_ports_are_reported_at_once(free_port: Callable[[], int]) -> None:
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        ports = [listener.getsockname()[1] for listener in (one, other)]
        wanted = [("127.0.0.1", port, option) for port, option in zip(ports, ("--port", "--grpc-port"), strict=True)]
        with pytest.raises(PortTaken) as caught:
            check_ports(*wanted, ("127.0.0.1", free_port(), "--other"))
    assert all(f"127.0.0.1:{port} is already in use" in caught.value.message for port in ports)
    assert "--port and --grpc-port" in caught.value.hint and "--other" not in caught.value.hint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python -m ashore.data.worker --run /srv/a b/run --index 0", "ashore (pid 7, home /srv/a b)"),
        ("/v/envoy -c /srv/run/run/envoy.yaml --disable-hot-restart", "ashore (pid 7, home /srv/run)"),
        ("/usr/bin/envoy -c /etc/envoy.yaml", "comm (pid 9)"),
        ("nginx", "comm (pid 9)"),
    ],
)
def test_a_server_of_ashore_that_has_a_port_is_named_with_its_home(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text("head\n 0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0 4711 1\n")
    process = tmp_path / "9"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[4711]")
    (process / "comm").write_text("comm\n")
    (process / "stat").write_text("9 (a) b) S 7 0")
    (process / "cmdline").write_text("\0".join(re.split(r" (?!b/)", line)) + "\0")
    assert owner_of_port(8080, proc=tmp_path) == words


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(InvalidSpec):
        check_port(host, 8080, option="--port")


@pytest.mark.parametrize("port", [-5, 0, 65_536, 99_999])
def test_a_port_that_there_is_not_is_refused(port: int) -> None:
    with pytest.raises(InvalidSpec, match=f"--port is {port}; expected 1 to 65535"):
        check_port("127.0.0.1", port, option="--port")


def test_children_get_no_credentials_and_no_telemetry() -> None:
    environ = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "t", "ASHORE_API_KEY": "k", "PYTHONPATH": "/x"}
    given = child_environment(environ, {"EXTRA": "1"})
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "ASHORE_API_KEY"} & set(given)
    assert given["PATH"] == "/bin" and given["EXTRA"] == "1" and given["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_children_search_nothing_in_the_directory_where_they_start() -> None:
    given = child_environment({"PATH": "/bin::.:bin:/usr/bin:", "LD_LIBRARY_PATH": ":/usr/local/lib", "TMPDIR": "tmp"})
    assert (
        given["PATH"] == "/bin:/usr/bin" and given["LD_LIBRARY_PATH"] == "/usr/local/lib" and given["TMPDIR"] == "tmp"
    )
    assert "LD_LIBRARY_PATH" not in child_environment({"PATH": "/bin", "LD_LIBRARY_PATH": ":"})
    assert given["PYTHONSAFEPATH"] == "1"


def test_telemetry_of_openvino_is_a_stub_in_children() -> None:
    program = (
        "import openvino_telemetry as t; x = t.Telemetry('a', app_version='1', tid='2'); "
        "x.start_session('c'); x.send_event('c', 'a', 'l'); x.end_session('c'); print(t.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert "processes/quiet" in result.stdout


def test_a_process_with_a_loop_is_heard_of_soon_until_that_has_not_turned_for_long() -> None:
    """Silence of the whole process is noticed after seconds; a loop that is busy has half a minute."""
    clock = ManualClock()
    life = LoopLife(30, clock)
    for _ in range(3):
        for _ in range(30 - SILENCE_S):
            assert life.promise_s() == SILENCE_S
            clock.advance(1)
        life.turned()
    clock.advance(30 - SILENCE_S + 0.1)
    assert life.promise_s() is None, "with the last promise that is 30 s of silence"
    life.turned()
    assert life.promise_s() == SILENCE_S


def test_logs_take_nothing_of_the_reserve_of_the_disk(tmp_path: Path) -> None:
    reserve, clock, log = Reserve(tmp_path, num_bytes=4096), ManualClock(), tmp_path / "edge.log"
    reserve.make()
    with Supervisor(clock=clock, say=lambda line: None, reserve=reserve) as supervisor:
        supervisor.add(ChildSpec(name="edge", argv=("sleep", "60"), log=log, control_flag="", drain_s=0.0))

        def grown_by(num_bytes: int) -> int:
            with log.open("a") as file:
                file.write("x" * num_bytes)
            clock.advance(5.0)
            supervisor.tick(0.0)
            return log.stat().st_size

        assert grown_by(1_000) == 1_000
        assert reserve.release()
        assert [grown_by(1_000), grown_by(5_000), grown_by(1 << 25)] == [2_000, 2_000, 2_000]
        reserve.take()
        assert [grown_by(1_000), grown_by(1_000)] == [3_000, 4_000]
