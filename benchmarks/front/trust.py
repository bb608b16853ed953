"""What access, budgets, masking and the record cost a kept answer: a guarded server beside a bare one, round by round.

Guarded: the key of a tenant's program, made by a security officer; a budget of requests and one of tokens that hold
for it; every kind of personal data masked; the record batched to disk. Bare: the same server with no record, no
budgets and no masking; the key is still looked up, as no server of ours is without that.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from dataclasses import replace

import msgspec
from benchmarks.front.cached import CHAT, CONNECTIONS, STEADY_PER_S, Effort, chat, fill
from benchmarks.front.load import Load, Tools, post, run_load
from benchmarks.front.server import MAIN, Front, family, front, wait_until_ready
from benchmarks.row import Row

from ashore.data.audit import AuditLink
from ashore.data.path import read_topology, write_topology
from ashore.data.privacy import PrivacyPolicy

MASK_ALL = '[privacy]\nprompts = { "*" = "mask" }\n'
SHARE_BAR, SHARE_AIM = 0.75, 0.9


def trust(tools: Tools, effort: Effort) -> list[Row]:
    """Measure both in turn: answers a second when saturated, and p99 at a steady rate."""
    rows: list[Row] = []
    for bodies in (1, 1000):
        with front(config=MASK_ALL) as guarded, front() as bare:
            guarded, bare = guard(guarded), strip(bare)
            readings: dict[str, list[Load]] = {"guarded": [], "bare": []}
            steady: dict[str, list[Load]] = {"guarded": [], "bare": []}
            for served in (guarded, bare):
                fill(tools, served, _requests(served, bodies))
            for _ in range(effort.rounds):
                for name, served in (("guarded", guarded), ("bare", bare)):
                    readings[name].append(_load(tools, served, bodies, effort, 0.0))
                for name, served in (("guarded", guarded), ("bare", bare)):
                    steady[name].append(_load(tools, served, bodies, effort, STEADY_PER_S))
        rows += _rows(bodies, readings, steady)
    return rows


def guard(served: Front) -> Front:
    """Make three administrators, a tenant with a program and budgets; return the server with the program's key."""
    officer = _ashore(served, served.key, "access", "user", "create", "otto", "--role", "security-officer")
    system = _ashore(served, served.key, "access", "user", "create", "sam", "--role", "system-administrator")
    _ashore(served, served.key, "access", "user", "create", "ada", "--role", "auditor")
    _ashore(served, officer, "access", "tenant", "create", "retail")
    _ashore(served, officer, "access", "service", "create", "teller", "--tenant", "retail", "--role", "developer")
    key = _ashore(served, officer, "access", "key", "create", "teller")
    _ashore(served, system, "access", "budget", "set", "requests", "1000000000", "--per", "day", "--tenant", "retail")
    _ashore(served, system, "access", "budget", "set", "tokens", "1000000000", "--per", "day", "--user", "*")
    return replace(served, key=key)


def strip(served: Front) -> Front:
    """Take record, budgets and masking from a running server: its worker starts again without them."""
    path = served.home / "run" / "topology.json"
    topology = read_topology(path)
    bare = msgspec.structs.replace(
        topology, audit=AuditLink(), budgets="", privacy=PrivacyPolicy(prompts={"*": "allow"})
    )
    write_topology(bare, path)
    worker = next(pid for pid, kind in family(served.pid).items() if kind == "api worker")
    os.kill(worker, signal.SIGTERM)
    while worker in family(served.pid):
        time.sleep(0.1)
    wait_until_ready(served)
    return served


def _ashore(served: Front, key: str, *words: str) -> str:
    """Return the last line of what a command says: the key, where it makes one."""
    environ = {**os.environ, "ASHORE_HOME": str(served.home), "ASHORE_API_KEY": key}
    done = subprocess.run([*MAIN, *words], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ashore {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip().splitlines()[-1].strip()


def _requests(served: Front, bodies: int) -> list[bytes]:
    if bodies == 1:
        return [post(CHAT, chat(served.alias), served.headers)]
    return [post(CHAT, chat(served.alias, at), served.headers) for at in range(bodies)]


def _load(tools: Tools, served: Front, bodies: int, effort: Effort, rate_per_s: float) -> Load:
    return run_load(
        tools,
        served.port,
        _requests(served, bodies),
        connections=CONNECTIONS,
        seconds=effort.seconds,
        rate_per_s=rate_per_s,
        tls=served.tls,
        mark="x-ashore-cache: hit-exact",
    )


def _rows(bodies: int, readings: dict[str, list[Load]], steady: dict[str, list[Load]]) -> list[Row]:
    over = f"{bodies:,} {'body' if bodies == 1 else 'bodies'}"
    pairs = list(zip(readings["guarded"], readings["bare"], strict=True))
    errors = sum(load.num_errors for pair in pairs for load in pair)
    shares = [guarded.per_s / bare.per_s for guarded, bare in pairs]
    hits = sum(load.marked for load in readings["guarded"]) / max(1, sum(g.answered for g, _ in pairs))
    middle = {name: statistics.median(load.per_s for load in loads) for name, loads in readings.items()}
    late = {name: statistics.median(load.ok.p99_ms for load in loads) for name, loads in steady.items()}
    plain = {f"{name} {kind}": [one.plain() for one in loads[name]]
             for kind, loads in (("saturated", readings), ("steady", steady)) for name in loads}  # fmt: skip
    return [
        Row(
            what=f"cached answers/s with access, budgets, masking and the record, of those without ({over})",
            value=statistics.median(shares) if not errors else None,
            unit="x",
            bar=SHARE_BAR,
            aim=SHARE_AIM,
            detail=f"median of {len(pairs)} pairs ({min(shares):.2f} to {max(shares):.2f}); {middle['guarded']:,.0f}/s "
            f"against {middle['bare']:,.0f}/s, through Envoy, {errors} errors, {hits:.2%} hits",
            readings=plain,
        ),
        Row(
            what=f"p99 at an open-loop {STEADY_PER_S:,.0f}/s with all of it ({over})",
            value=late["guarded"],
            unit="ms",
            bar=None,
            lower_is_better=True,
            detail=f"median of {len(steady['guarded'])}; without {late['bare']:.2f} ms",
        ),
    ]
