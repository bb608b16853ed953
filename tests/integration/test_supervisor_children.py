"""The supervisor with real, tiny children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from waiting import eventually

from ashore.core.clock import SystemClock
from ashore.core.errors import Conflict, EngineFailed, NotReady
from ashore.kit.processes import Caller, ControlServer, ask
from ashore.kit.processes.child import ChildSpec
from ashore.kit.processes.logs import rotate
from ashore.kit.processes.restart import RestartPolicy
from ashore.kit.processes.supervisor import Supervisor

FAST = RestartPolicy(first_wait_s=0.01, longest_wait_s=0.02, most_failures=3)
OBEDIENT = "import signal; signal.pause()"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    with Supervisor(clock=SystemClock(), say=said.append, policy=FAST) as one, one.signals():
        yield one


def child(folder: Path, program: str, name: str = "child", **options: object) -> ChildSpec:
    return ChildSpec(  # type: ignore[arg-type]
        name=name, argv=(sys.executable, "-c", program), log=folder / f"{name}.log", control_flag="", **options
    )


def until(supervisor: Supervisor, what: Callable[[], bool], limit_s: float = 20) -> None:
    end_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end_s, "it did not happen in time"
        supervisor.tick(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_killed_child_comes_back(tmp_path: Path, supervisor: Supervisor, said: list[str]) -> None:
    supervisor.add(child(tmp_path, OBEDIENT))
    first = supervisor.pid("child")
    assert first
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.pid("child") not in (None, first))
    assert "child was killed by SIGKILL; restarting it in 0.0 s" in said


def test_where_memory_runs_out_the_kernel_kills_a_child_and_not_the_supervisor(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    supervisor.add(child(tmp_path, OBEDIENT))
    score = Path(f"/proc/{supervisor.pid('child')}/oom_score_adj")
    assert int(score.read_text()) == min(1000, own + 200)


def test_a_child_that_always_falls_is_given_up_and_an_essential_one_ends_the_run(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.add(child(tmp_path, "raise SystemExit('the disk is on fire')", essential=True))
    with pytest.raises(EngineFailed, match="the disk is on fire") as caught:
        supervisor.run()
    assert "child.log" in caught.value.hint
    assert supervisor.state("child") == "given-up"
    assert sum("restarting it" in line for line in said) == FAST.most_failures


def test_an_essential_child_that_is_killed_again_and_again_never_ends_the_run(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.add(child(tmp_path, "import os; os.abort()", essential=True))
    until(supervisor, lambda: supervisor.restarts("child") > 2 * FAST.most_failures)
    assert supervisor.state("child") != "given-up" and not supervisor.stop_requested
    assert supervisor.endings() == {"child": "was killed by SIGABRT"} and supervisor.exits("child") == 0


def test_stages_stop_in_order(tmp_path: Path, supervisor: Supervisor) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys\ndef stop(*a):\n open({order!r}, 'a').write({name!r}); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('up', flush=True)\nwhile True: signal.pause()"
    )
    for name, stage in (("h", 1), ("a", 0)):
        supervisor.add(child(tmp_path, program.format(order=str(order), name=name), name=name, stage=stage))
    until(supervisor, lambda: all((tmp_path / f"{n}.log").read_text() == "up\n" for n in "ah"))
    supervisor.request_stop()
    supervisor.run()
    assert order.read_text() == "ah"


def test_a_child_that_will_not_stop_is_killed_after_its_time(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.add(child(tmp_path, STUBBORN, drain_s=0.1))
    until(supervisor, lambda: (tmp_path / "child.log").read_text() == "up\n")
    supervisor.stop("child")
    until(supervisor, lambda: supervisor.state("child") == "stopped")
    assert "child did not stop in time; killed" in said


def test_a_second_interrupt_hurries(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.add(child(tmp_path, STUBBORN, drain_s=60))
    until(supervisor, lambda: (tmp_path / "child.log").read_text() == "up\n")
    nag = subprocess.Popen(
        [sys.executable, "-c", f"import os, time\nfor _ in 'ab':\n os.kill({os.getpid()}, 2); time.sleep(.3)"]
    )
    started_s = time.monotonic()
    supervisor.run()
    assert time.monotonic() - started_s < 20
    nag.wait()


def test_grandchildren_go_with_their_parent(tmp_path: Path, supervisor: Supervisor) -> None:
    program = (
        "import subprocess, signal\np = subprocess.Popen(['sleep', '60'])\nprint(p.pid, flush=True)\nsignal.pause()"
    )
    supervisor.add(child(tmp_path, program))
    log = tmp_path / "child.log"
    until(supervisor, lambda: log.read_text().endswith("\n"))
    grandchild = int(log.read_text())
    supervisor.stop("child")
    until(supervisor, lambda: supervisor.state("child") == "stopped")
    until(supervisor, lambda: not alive(grandchild))


def test_two_children_of_one_name_are_a_conflict(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.add(child(tmp_path, OBEDIENT))
    with pytest.raises(Conflict):
        supervisor.add(child(tmp_path, OBEDIENT))
    supervisor.stop("child")
    until(supervisor, lambda: supervisor.state("child") == "stopped")
    supervisor.add(child(tmp_path, OBEDIENT))


def test_what_a_turn_inside_of_another_saw_to_is_not_called_again(supervisor: Supervisor) -> None:
    called: list[str] = []
    ends = {"first": os.pipe(), "second": os.pipe()}

    def call(name: str) -> None:
        called.append(name)
        supervisor.unwatch(ends[name][0])
        os.close(ends[name][0])
        supervisor.tick(0)  # as a change that waits for hosts does

    for name, (read_end, write_end) in ends.items():
        supervisor.watch(name, read_end, partial(call, name))
        os.write(write_end, b"x")
    supervisor.tick(1)
    assert sorted(called) == ["first", "second"]
    for _, write_end in ends.values():
        os.close(write_end)


def test_a_hangup_that_comes_before_its_child_listens_ends_nothing_and_is_not_lost(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    program = (
        "import os, signal, time\nfrom ashore.kit.processes import take_hangups\nprint('up', flush=True)\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "signal.signal(signal.SIGHUP, lambda *told: print('read again', flush=True))\ntake_hangups()\nsignal.pause()"
    )
    supervisor.add(child(tmp_path, program, rereads=True))
    supervisor.send("child", signal.SIGHUP)  # it is not even the program yet
    log = tmp_path / "child.log"
    until(supervisor, lambda: log.read_text() == "up\n")
    supervisor.send("child", signal.SIGHUP)
    (tmp_path / "go").touch()
    until(supervisor, lambda: log.read_text() == "up\nread again\n")
    assert said == []


def test_children_write_no_core_and_see_no_secrets(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    program = (
        "import resource, os, signal\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), os.getenv('HF_TOKEN'), flush=True)\nsignal.pause()"
    )
    supervisor.add(child(tmp_path, program))
    until(supervisor, lambda: (tmp_path / "child.log").read_text().endswith("\n"))
    assert (tmp_path / "child.log").read_text() == "(0, 0) None\n"


def test_a_long_log_is_emptied_on_a_disk_without_room_while_its_child_goes_on_writing(
    small_disk: Path, supervisor: Supervisor, said: list[str]
) -> None:
    log = small_disk / "child.log"
    supervisor.add(child(small_disk, "import signal\nprint('up', flush=True)\nsignal.pause()"))
    until(supervisor, lambda: log.read_text() == "up\n")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    appending = os.open(log, os.O_WRONLY | os.O_APPEND)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(appending, b"0123456789abcde\n" * 4096)
    size = log.stat().st_size
    assert rotate(log, max_bytes=size)
    assert (small_disk / "child.log.1").stat().st_size == size and log.stat().st_size == 0
    ballast.unlink()
    os.write(appending, b"it goes on")
    os.close(appending)
    assert log.read_text() == "it goes on"
    assert supervisor.state("child") == "running" and said == []


SUPERVISING = """
import sys
from pathlib import Path
from ashore.core.clock import SystemClock
from ashore.kit.processes.child import ChildSpec; from ashore.kit.processes.supervisor import Supervisor
folder = Path(sys.argv[1])
program = (
    "import subprocess, signal, os; p = subprocess.Popen(['sleep', '60']); "
    "print(os.getpid(), p.pid, flush=True); signal.pause()"
)
with Supervisor(clock=SystemClock(), say=print) as one, one.signals():
    one.add(ChildSpec(name="child", argv=(sys.executable, "-c", program), log=folder / "child.log", control_flag=""))
    print("up", flush=True)
    one.run()
"""


def test_no_orphan_is_left_when_the_supervisor_is_killed_by_force(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    process = subprocess.Popen([sys.executable, "-c", SUPERVISING, str(tmp_path)], stdout=subprocess.PIPE)
    eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    pids = [int(word) for word in log.read_text().split()]
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.communicate()
    eventually(lambda: not any(alive(pid) for pid in pids), told=lambda: f"orphans: {pids}")


def test_the_control_socket_answers_in_lines_for_the_owner_alone(tmp_path: Path, supervisor: Supervisor) -> None:
    def answer(question: object, caller: Caller) -> None:
        caller.tell({"said": question})
        caller.tell({"done": True})
        caller.close()

    folder = tmp_path / ("deep-" * 30)
    folder.mkdir()
    server = ControlServer(folder / "supervisor.sock", supervisor, answer)
    assert (folder / "supervisor.sock").stat().st_mode & 0o777 == 0o600
    asking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib\nfrom ashore.kit.processes import ask\n"
            "print(list(ask(pathlib.Path(sys.argv[1]), {'op': 'hello'})))",
            str(folder / "supervisor.sock"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    until(supervisor, lambda: asking.poll() is not None)
    assert asking.communicate()[0].strip() == "[{'said': {'op': 'hello'}}, {'done': True}]"
    server.close()
    with pytest.raises(NotReady):
        list(ask(folder / "supervisor.sock", {}))


# --- children that hang


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def monotonic_s(self) -> float:
        return self.at_s

    def now_s(self) -> float:
        return self.at_s


PROMISES = 3
"""What the children below promise with each beat."""
BEATS_WHEN_ASKED = f"""
import signal
from ashore.kit.processes import take_pulse
pulse = take_pulse()
def beat(*words):
    pulse.beat({PROMISES})
    print('beat', flush=True)
signal.signal(signal.SIGUSR1, beat)
beat()
while True: signal.pause()
"""


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def watcher(said: list[str], clock: HandClock) -> Iterator[Supervisor]:
    with Supervisor(clock=clock, say=said.append, policy=FAST) as one, one.signals():
        yield one


def num_beats(folder: Path) -> int:
    return (folder / "child.log").read_text().count("beat\n")


def look(supervisor: Supervisor, clock: HandClock, times: int) -> None:
    for _ in range(times):
        clock.at_s += 1.0
        supervisor.tick(0.0)


def test_a_child_that_breaks_its_promise_to_beat_is_killed_and_started_again(
    tmp_path: Path, watcher: Supervisor, clock: HandClock, said: list[str]
) -> None:
    why = tmp_path / "child.why"
    watcher.add(child(tmp_path, BEATS_WHEN_ASKED, why=why))
    until(watcher, lambda: num_beats(tmp_path) == 1)
    first = watcher.pid("child")
    assert first
    os.kill(first, signal.SIGSTOP)  # SIGTERM would wait until it goes on
    look(watcher, clock, PROMISES)
    assert alive(first) and not why.exists()
    look(watcher, clock, 1)
    assert "child: it hung: it did not respond for 3 s, and the supervisor killed it" in said
    assert "it hung" in why.read_text(), "so that those who talk to it can tell"
    until(watcher, lambda: watcher.state("child") == "waiting")
    clock.at_s += 1.0
    until(watcher, lambda: num_beats(tmp_path) == 2)
    assert watcher.pid("child") != first and watcher.restarts("child") == 1
    assert not why.exists(), "that was the one before"


def test_a_child_that_keeps_its_promise_lives(tmp_path: Path, watcher: Supervisor, clock: HandClock) -> None:
    watcher.add(child(tmp_path, BEATS_WHEN_ASKED))
    for round_ in range(1, 5):
        until(watcher, lambda round_=round_: num_beats(tmp_path) == round_)  # type: ignore[misc]
        look(watcher, clock, PROMISES)
        watcher.send("child", signal.SIGUSR1)
    assert watcher.restarts("child") == 0 and watcher.state("child") == "running"


def test_a_child_that_never_beats_is_not_judged(tmp_path: Path, watcher: Supervisor, clock: HandClock) -> None:
    """Envoy and Valkey do not know the pipe, and a child that is still importing has promised nothing yet."""
    watcher.add(child(tmp_path, "import signal; print('up', flush=True); signal.pause()"))
    until(watcher, lambda: (tmp_path / "child.log").read_text() == "up\n")
    look(watcher, clock, 300)
    assert watcher.restarts("child") == 0 and watcher.state("child") == "running"


def test_a_supervisor_that_stood_still_blames_nobody(tmp_path: Path, watcher: Supervisor, clock: HandClock) -> None:
    watcher.add(child(tmp_path, BEATS_WHEN_ASKED))
    until(watcher, lambda: num_beats(tmp_path) == 1)
    clock.at_s += 3600.0  # the whole machine slept
    watcher.tick(0.0)
    watcher.tick(0.0)
    assert watcher.restarts("child") == 0 and watcher.state("child") == "running"


def test_a_stop_does_not_wait_for_a_child_that_hangs(tmp_path: Path, watcher: Supervisor, clock: HandClock) -> None:
    watcher.add(child(tmp_path, BEATS_WHEN_ASKED, drain_s=3600.0))
    until(watcher, lambda: num_beats(tmp_path) == 1)
    os.kill(watcher.pid("child") or 0, signal.SIGSTOP)
    watcher.stop("child")
    look(watcher, clock, PROMISES + 1)
    until(watcher, lambda: watcher.state("child") == "stopped")


def test_what_a_child_starts_does_not_beat_for_it(tmp_path: Path, watcher: Supervisor) -> None:
    program = """
import os, subprocess, sys
from ashore.kit.processes import take_pulse
descriptor = int(os.environ["ASHORE_CHILD_PULSE_FD"])
take_pulse()
look = "import os, sys; print('ASHORE_CHILD_PULSE_FD' in os.environ, flush=True); os.fstat(int(sys.argv[1]))"
print(subprocess.run([sys.executable, "-c", look, str(descriptor)], close_fds=False).returncode, flush=True)
"""
    watcher.add(child(tmp_path, program))
    log = tmp_path / "child.log"
    until(watcher, lambda: log.read_text().rstrip().endswith("\n1"))
    assert log.read_text().startswith("False\n") and "Bad file descriptor" in log.read_text()
