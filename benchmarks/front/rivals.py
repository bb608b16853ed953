"""Other gateways, installed in a folder of their own and run in front of the same upstream as the edge of ashore."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.front.cached import CHAT, Effort, chat
from benchmarks.front.load import Load, Tools, post, run_load
from benchmarks.front.proxied import CONNECTIONS, FRESH, SHORT, middle, plain
from benchmarks.front.server import CpuMeter, front
from benchmarks.peers import PeerDidNotStart, free_port, process, version_of
from benchmarks.row import Row

PYTHON_PACKAGES = ("smg", "vllm-router", "ferrogw")
NODE_PACKAGE = "@portkey-ai/gateway"
MASTER_KEY = "benchmark-master-key-0123456789"
WAIT_S = 12.0
ALIAS = "gpt-4o-mini"
"""A name that every rival takes for a model; some route by names that they know."""
CONFIG = f'[[model]]\nname = "fake:echo"\nalias = "{ALIAS}"\n[cache]\nmode = "off"\n'
"""No cache behind them: not every rival passes `cache-control: no-store` on, and would be given kept answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway."""

    name: str
    version: str
    port: int
    pid: int
    command: str
    headers: tuple[tuple[str, str], ...] = ()


def install(folder: Path) -> None:
    """Install every rival into `folder`: a virtual environment and a node_modules."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "py")], check=True)
    subprocess.run([str(folder / "py" / "bin" / "pip"), "install", "--quiet", *PYTHON_PACKAGES], check=True)
    if shutil.which("npm"):
        (folder / "node").mkdir(exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder / "node"), NODE_PACKAGE], check=True
        )


@contextmanager
def upstream(tools: Tools, logs: Path) -> Iterator[int]:
    """Run the upstream that answers at once, and yield its port."""
    port = free_port()
    with process(
        [str(tools.upstream), str(port)],
        f"http://127.0.0.1:{port}",
        ready="/health",
        wait_s=5,
        log=logs / "upstream.log",
    ):
        yield port


@contextmanager
def edge(tools: Tools, logs: Path, threads: int) -> Iterator[Gateway]:
    """Run the edge of ashore, as `ashore deploy render envoy` prints it, before an upstream on a unix socket."""
    from ashore.data.engines import read_inventory
    from ashore.machine.edge import EdgePlan, WorkerSockets, find_envoy, threads_for, write_files

    threads = threads_for(threads, read_inventory().cores)
    run = logs / f"edge-{threads}"
    run.mkdir(exist_ok=True)
    port, socket = free_port(), run / "up.sock"
    workers = (WorkerSockets(http=str(socket), grpc=str(run / "none.sock")),)
    plan = EdgePlan(run=run, host="127.0.0.1", port=port, tls=None, workers=workers)
    write_files(plan)
    envoy = str(find_envoy())
    command = [envoy, "-c", str(plan.bootstrap), "--disable-hot-restart", "--concurrency", str(threads)]
    command += ["--log-level", "error"]
    with ExitStack() as stack:
        with open(logs / "upstream-unix.log", "wb") as sink:
            behind = subprocess.Popen([str(tools.upstream), str(socket)], stdout=sink, stderr=sink)
        stack.callback(behind.wait)
        stack.callback(behind.kill)
        url = f"http://127.0.0.1:{port}"
        child = stack.enter_context(process(command, url, ready="/health", wait_s=WAIT_S, log=logs / "envoy.log"))
        version = subprocess.run([envoy, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        yield Gateway(
            name="ashore's edge (Envoy)",
            version=version.partition("version: ")[2].split("/")[1] if "/" in version else version,
            port=port,
            pid=child.pid,
            command=f"envoy on the rendered configuration, --concurrency {threads}",
        )


@contextmanager
def _rust(folder: Path, package: str, port_up: int, logs: Path, key: str) -> Iterator[Gateway]:
    binary, python = folder / "py" / "bin" / package, str(folder / "py" / "bin" / "python")
    if not binary.exists():
        raise PeerDidNotStart(f"no {package} in {folder}; run with --install-rivals")
    port = free_port()
    words = [*(["launch"] if package == "smg" else []), "--worker-urls", f"http://127.0.0.1:{port_up}"]
    words += ["--port", str(port), "--policy", "round_robin", "--prometheus-port", str(free_port())]
    words += ["--log-level", "warn" if package == "smg" else "warning"]
    words += ["--health-check-endpoint", "/readyz"]
    command = " ".join([package, *words])
    words += ["--api-key", key] if package == "smg" and key else []  # with which it asks the worker for its models
    url = f"http://127.0.0.1:{port}"
    with process([str(binary), *words], url, ready="/readiness", wait_s=WAIT_S, log=logs / f"{package}.log") as child:
        yield Gateway(name=package, version=version_of(python, package), port=port, pid=child.pid, command=command)


@contextmanager
def _portkey(folder: Path, port_up: int, logs: Path) -> Iterator[Gateway]:
    home = folder / "node" / "node_modules" / NODE_PACKAGE
    script = home / "build" / "start-server.js"
    if not script.exists() or not shutil.which("node"):
        raise PeerDidNotStart(f"no {NODE_PACKAGE} in {folder}, or no node here; run with --install-rivals")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["node", str(script), f"--port={port}", "--headless"]
    # its own patch script asks for NODE_ENV; production is what its image sets
    with process(
        ["env", "NODE_ENV=production", *words], url, ready="/", wait_s=WAIT_S, log=logs / "portkey.log"
    ) as child:
        yield Gateway(
            name="portkey",
            version=str(json.loads((home / "package.json").read_text())["version"]),
            port=port,
            pid=child.pid,
            command=" ".join(["node start-server.js", *words[2:]]),
            headers=(("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"http://127.0.0.1:{port_up}/v1")),
        )


@contextmanager
def _ferrogw(folder: Path, port_up: int, logs: Path, key: str) -> Iterator[Gateway]:
    binary, python = folder / "py" / "bin" / "ferrogw", str(folder / "py" / "bin" / "python")
    if not binary.exists():
        raise PeerDidNotStart(f"no ferrogw in {folder}; run with --install-rivals")
    port = free_port()
    set_to = {
        "PORT": str(port),
        "MASTER_KEY": MASTER_KEY,
        "OPENAI_API_KEY": key or "none",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port_up}",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
        "LOG_LEVEL": "error",
        "FERRO_MODEL_CATALOG_URL": f"http://127.0.0.1:{port_up}/none",
    }
    command = ["env", *(f"{name}={value}" for name, value in set_to.items()), str(binary), "serve"]
    url = f"http://127.0.0.1:{port}"
    with process(command, url, ready="/health", wait_s=WAIT_S, log=logs / "ferrogw.log") as child:
        shown = " ".join(f"{name}={value}" for name, value in set_to.items() if "KEY" not in name)
        yield Gateway(
            name="ferrogw",
            version=version_of(python, "ferrogw"),
            port=port,
            pid=child.pid,
            command=f"{shown} ferrogw serve",
            headers=(("authorization", f"Bearer {MASTER_KEY}"),),
        )


def start_all(
    stack: ExitStack, folder: Path | None, port_up: int, logs: Path, key: str = ""
) -> tuple[list[Gateway], dict[str, str]]:
    """Start every rival that is installed; return them, and why others did not start."""
    if folder is None:
        return [], {"every rival": "no folder of rivals was given (--rivals DIR)"}
    starters: dict[str, Callable[[], AbstractContextManager[Gateway]]] = {
        "smg": lambda: _rust(folder, "smg", port_up, logs, key),
        "vllm-router": lambda: _rust(folder, "vllm-router", port_up, logs, key),
        "portkey": lambda: _portkey(folder, port_up, logs),
        "ferrogw": lambda: _ferrogw(folder, port_up, logs, key),
    }
    running, absent = [], {}
    for name, start in starters.items():
        try:
            running.append(stack.enter_context(start()))
        except PeerDidNotStart as fault:
            absent[name] = shorten(str(fault))
    return running, absent


def shorten(text: str, most: int = 240) -> str:
    """Return the end of what a program said, without colours and drawings."""
    plain_text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join("".join(char if char.isascii() else " " for char in plain_text).split())[-most:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was measured of one gateway."""

    gateway: Gateway
    alone: list[Load]
    many: list[Load]
    cpu_us: dict[str, float]

    def added_p99_ms(self, direct: Sequence[Load]) -> float:
        return statistics.median(mine.ok.p99_ms - its.ok.p99_ms for mine, its in zip(self.alone, direct, strict=True))

    def added_p50_ms(self, direct: Sequence[Load]) -> float:
        return middle(self.alone, "p50_ms") - middle(list(direct), "p50_ms")

    @property
    def per_s(self) -> float:
        return statistics.median(load.per_s for load in self.many)

    @property
    def num_errors(self) -> int:
        return sum(load.num_errors for load in (*self.alone, *self.many))

    def line(self, direct: Sequence[Load]) -> str:
        bad = f", {self.num_errors} ERRORS" if self.num_errors else ""
        return (
            f"{self.gateway.name} {self.gateway.version} {self.per_s:,.0f}/s, "
            f"{self.added_p99_ms(direct):+.3f} ms p99, {self.added_p50_ms(direct):+.3f} ms p50, "
            f"{sum(self.cpu_us.values()):.0f} µs{bad}"
        )


def compare(
    tools: Tools, ways: list[Gateway], body: object, base: Sequence[tuple[str, str]], effort: Effort
) -> list[Seen]:
    """Measure each of `ways` in turn within each round, so that a busy moment hits all of them."""
    requests = {way.name: [post(CHAT, body, [*way.headers, *merge(base, way.headers)])] for way in ways}
    alone: dict[str, list[Load]] = {way.name: [] for way in ways}
    many: dict[str, list[Load]] = {way.name: [] for way in ways}
    cpu: dict[str, dict[str, float]] = {}
    for _ in range(effort.rounds):
        for way in ways:
            alone[way.name].append(
                run_load(tools, way.port, requests[way.name], connections=1, seconds=effort.seconds / 3, warmup_s=0.3)
            )
        for way in ways:
            meter = CpuMeter(way.pid)
            load = run_load(
                tools, way.port, requests[way.name], connections=CONNECTIONS, seconds=effort.seconds / 2, warmup_s=0.5
            )
            many[way.name].append(load)
            cpu[way.name] = meter.per_request_us(load.sent)
    return [Seen(gateway=w, alone=alone[w.name], many=many[w.name], cpu_us=cpu[w.name]) for w in ways]


def merge(base: Sequence[tuple[str, str]], mine: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `base` without what a gateway needs to have its own way."""
    taken = {name for name, _ in mine}
    return [(name, value) for name, value in base if name not in taken]


def rivals(tools: Tools, effort: Effort, folder: Path | None, logs: Path) -> list[Row]:
    """Compare gateways before the upstream that answers at once, and before the API worker of ashore."""
    rows = []
    with ExitStack() as stack:
        port_up = stack.enter_context(upstream(tools, logs))
        others, absent = start_all(stack, folder, port_up, logs)
        ours = stack.enter_context(edge(tools, logs, effort.threads))
        direct = Gateway(name="direct", version="", port=port_up, pid=os.getpid(), command="")
        seen = compare(tools, [direct, ours, *others], chat(ALIAS), [], effort)
        rows += judge("an upstream that answers at once", seen, absent)
    with ExitStack() as stack:
        served = stack.enter_context(front("", edge=False, config=CONFIG))
        others, absent = start_all(stack, folder, served.port, logs, served.key)
        behind = stack.enter_context(front("", workers=effort.workers, threads=effort.threads, config=CONFIG))
        direct = Gateway(name="direct", version="", port=served.port, pid=served.pid, command=served.command)
        ours = Gateway(
            name="ashore (Envoy and its own API worker)",
            version="",
            port=behind.port,
            pid=behind.pid,
            command=behind.command,
            headers=tuple(behind.headers),
        )
        base = [*served.headers, *FRESH]
        seen = compare(tools, [direct, ours, *others], chat(served.alias, max_tokens=SHORT), base, effort)
        rows += judge("the API worker of ashore on the fake engine", seen, absent)
    return rows


def judge(before: str, seen: list[Seen], absent: dict[str, str]) -> list[Row]:
    """Return two rows: our requests/s by the best rival's, and our added p99 less the best rival's."""
    direct, ours, others = seen[0], seen[1], [one for one in seen[2:] if not one.num_errors]
    lines = "; ".join(one.line(direct.alone) for one in seen[1:])
    lines += f"; direct {direct.per_s:,.0f}/s, p99 {middle(direct.alone, 'p99_ms'):.2f} ms"
    lines += "".join(f"; {name} not measured: {why}" for name, why in absent.items())
    raw: dict[str, object] = {
        "gateways": {
            one.gateway.name: {
                "version": one.gateway.version,
                "command": one.gateway.command,
                "cpu_us_per_request": one.cpu_us,
                **plain({"alone": one.alone, "many": one.many}),
            }
            for one in seen
        }
    }
    ratio = gap = None
    if others and not ours.num_errors:
        ratio = ours.per_s / max(one.per_s for one in others)
        gap = ours.added_p99_ms(direct.alone) - min(one.added_p99_ms(direct.alone) for one in others)
    return [
        Row(
            what=f"requests/s by the best rival's, before {before}",
            value=ratio,
            unit="",
            bar=1.0,
            detail=lines,
            readings=raw,
        ),
        Row(
            what=f"added p99 less the best rival's, before {before}",
            value=gap,
            unit="ms",
            bar=0.0,
            lower_is_better=True,
            detail="as above",
        ),
    ]
