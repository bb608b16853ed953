"""`ashore up` on a fake model with or without its edge, and what its processes cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from benchmarks.peers import free_port

MAIN = (sys.executable, "-m", "ashore.cli.main")
READY_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KINDS = {
    "ashore.cli.main": "supervisor",
    "ashore.data.worker": "api worker",
    "ashore.data.engines": "engine host",
    "ashore.control.jobs": "job worker",
    "valkey": "valkey",
    "envoy": "envoy",
}
"""The first that a command line holds: a supervisor's says envoy too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A running `ashore up`."""

    port: int
    grpc_port: int
    """The same as `port` behind an edge."""
    tls: bool
    key: str
    alias: str
    pid: int
    command: str
    home: Path

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.key}")]

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def get(self, path: str) -> bytes:
        """Return what a GET with the first key answers."""
        request = urllib.request.Request(f"{self.scheme}://127.0.0.1:{self.port}{path}", headers=dict(self.headers))
        with urllib.request.urlopen(request, timeout=10, context=unchecked()) as answer:
            return bytes(answer.read())

    def ask(self, body: object, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one chat completion."""
        request = urllib.request.Request(
            f"{self.scheme}://127.0.0.1:{self.port}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", **dict(self.headers), **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=unchecked()) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as fault:
            return fault.code, {k.lower(): v for k, v in fault.headers.items()}, fault.read()


def unchecked() -> ssl.SSLContext:
    """Return a context that takes any certificate: what is measured here is on this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def front(
    model: str = "fake:echo",
    *,
    edge: bool = True,
    tls: bool = False,
    workers: int = 1,
    threads: int = 0,
    config: str = "",
    redis: str = "",
    nice: int = 0,
) -> Iterator[Front]:
    """Run `ashore up MODEL` in a home of its own until the block ends.

    Args:
        model: With its options; empty where `config` names one.
        edge: Behind Envoy on one port; otherwise the API worker itself listens.
        tls: Of the edge, with a certificate of its own making.
        workers: API workers behind the edge.
        threads: Of the edge; 0: as many as it chooses.
        config: More of `ashore.toml`, without `[edge]`.
        redis: As in `--redis`.
        nice: Added to the nice value of all its processes, as the unit for systemd does.
    """
    home = Path(tempfile.mkdtemp(prefix="front."))
    port, grpc_port = free_port(), free_port()
    words = ["up", *([model] if model else []), "--offline", "--port", str(port)]
    if edge:
        config += f'\n[edge]\ntls = "{"generate" if tls else "off"}"\nthreads = {threads}\n'
        words += ["--edge", "envoy", "--workers", str(workers)]
    else:
        words += ["--grpc-port", str(grpc_port)]
    file = home / "ashore.toml"
    file.write_text(config)
    words += ["--config", str(file)]
    words += ["--redis", redis] if redis else []
    environ = {**os.environ, "ASHORE_HOME": str(home)}
    log = home / "up.log"
    with open(log, "wb") as sink:
        child = subprocess.Popen([*MAIN, *words], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environ)
    if nice:
        os.setpriority(os.PRIO_PROCESS, child.pid, nice)  # before it has children, which take it over
    made = Front(
        port=port,
        grpc_port=port if edge else grpc_port,
        tls=edge and tls,
        key="",
        alias=model,
        pid=child.pid,
        command=(f"nice -n {nice} " if nice else "")
        + "ashore "
        + " ".join(words[:-2] if not redis else words).replace(str(home), "HOME"),
        home=home,
    )
    try:
        wait_ready(made, child, log)
        key = (home / "first-key").read_text().strip()
        alias = next(one["id"] for one in json.loads(_with_key(made, key).get("/v1/models"))["data"])
        yield Front(**{**{name: getattr(made, name) for name in Front.__slots__}, "key": key, "alias": alias})
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        shutil.rmtree(home, ignore_errors=True)


def _with_key(one: Front, key: str) -> Front:
    return Front(**{**{name: getattr(one, name) for name in Front.__slots__}, "key": key})


def wait_until_ready(one: Front) -> None:
    """Return when `/readyz` answers 200 again.

    Raises:
        SystemExit: it did not in time.
    """
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            one.get("/readyz")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"`ashore up` was not ready again in {READY_S:g} s")


def wait_ready(one: Front, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return when `/readyz` answers 200.

    Raises:
        SystemExit: it did not in time; the message holds the end of the log.
    """
    until = time.monotonic() + READY_S
    while True:
        try:
            one.get("/readyz")
            return
        except (urllib.error.URLError, OSError):
            if child.poll() is not None or time.monotonic() > until:
                tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-8:])
                raise SystemExit(f"`ashore up` was not ready in {READY_S:g} s: {tail}") from None
            time.sleep(0.1)


def family(pid: int) -> dict[int, str]:
    """Return a process and all that descend from it, by what they are."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, todo = {}, [pid]
    while todo:
        one = todo.pop()
        found[one] = _kind(one)
        todo += [child for child, parent in parents.items() if parent == one]
    return found


def _kind(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone"
    return next((kind for word, kind in KINDS.items() if word in words), words[:40])


def cpu_s(pids: dict[int, str]) -> dict[str, float]:
    """Return the seconds of processor time that each kind of process has used so far."""
    used: dict[str, float] = {}
    for pid, kind in pids.items():
        with suppress(psutil.NoSuchProcess):
            used[kind] = used.get(kind, 0.0) + sum(psutil.Process(pid).cpu_times()[:2])
    return used


def busy_s() -> float:
    """Return the seconds of processor time that the whole machine has used so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[at]) for at in (0, 1, 2, 5, 6)) / TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return float(psutil.Process(pid).memory_info().rss) / (1 << 20)


class CpuMeter:
    """Says what each kind of process used between its start and `per_request_us`."""

    def __init__(self, pid: int) -> None:
        self._pids = family(pid)
        self._before = cpu_s(self._pids)
        self._busy_before, self._began = busy_s(), time.monotonic()

    def others_share(self, own_s: float) -> float:
        """Return the share of the machine that neither these processes took, nor `own_s` seconds of the caller's."""
        used = sum(cpu_s(self._pids).values()) - sum(self._before.values())
        room_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (busy_s() - self._busy_before - used - own_s) / room_s)

    def per_request_us(self, requests: int) -> dict[str, float]:
        """Return microseconds of processor time for each of `requests` requests."""
        after = cpu_s(self._pids)
        return {
            kind: round((after[kind] - self._before[kind]) / max(1, requests) * 1e6, 1)
            for kind in sorted(after)
            if after[kind] > self._before[kind]
        }
