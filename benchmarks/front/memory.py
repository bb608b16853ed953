"""Memory of the API worker over a million requests, while the shared cache hangs and dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.front.cached import CHAT, Effort
from benchmarks.front.load import SERIAL, Load, Tools, post, run_load
from benchmarks.front.server import Front, family, front, resident_mib
from benchmarks.peers import free_port
from benchmarks.row import Row

CACHE_BYTES = 8 << 20
FILL = 60_000
REQUESTS = 1_000_000
PARTS = 20
CONFIG = f"[cache]\nmax_bytes = {CACHE_BYTES}\n"
BAR_MIB = 5.0


@contextmanager
def valkey(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Valkey server of our own, whose death nobody mends."""
    from ashore.data.cache.embedded import valkey_program

    words = [str(valkey_program()), "--port", str(port), "--save", "", "--appendonly", "no", "--maxmemory", "256mb"]
    words += ["--maxmemory-policy", "allkeys-lru", "--bind", "127.0.0.1"]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield child
    finally:
        if child.poll() is None:
            os.kill(child.pid, signal.SIGCONT)
            child.kill()
        child.wait()


def mixed(served: Front) -> list[bytes]:
    """Return seven questions that are new each time, two that are always the same, and one that streams."""
    requests = []
    for at in range(10):
        text = f"say {SERIAL}" if at not in (3, 7) else f"always {at}"
        body = {"model": served.alias, "messages": [{"role": "user", "content": text}], "temperature": 0}
        requests.append(post(CHAT, body | {"stream": True} if at == 5 else body, served.headers))
    return requests


def memory(tools: Tools, effort: Effort) -> list[Row]:
    """Fill the caches, then ask a million times; the server hangs in the second quarter and is dead in the third."""
    count = (100_000 if effort.quick else REQUESTS) // PARTS
    fill = FILL // 2 if effort.quick else FILL
    port = free_port()
    loads: list[Load] = []
    with valkey(port) as server, front(edge=False, config=CONFIG, redis=f"redis://127.0.0.1:{port}") as served:
        worker = next(pid for pid, kind in family(served.pid).items() if kind == "api worker")

        def ask(number: int) -> None:
            first = 1 + sum(load.sent for load in loads)
            loads.append(
                run_load(
                    tools,
                    served.port,
                    mixed(served),
                    connections=32,
                    count=number,
                    warmup_s=0,
                    first_serial=first,
                )
            )

        ask(fill)
        began = time.monotonic()
        curve = [round(resident_mib(worker), 2)]
        for part in range(PARTS):
            if part == PARTS // 4:
                server.send_signal(signal.SIGSTOP)
            elif part == PARTS // 2:
                server.send_signal(signal.SIGCONT)
                server.kill()
                server.wait()
            elif part == 3 * PARTS // 4:
                with valkey(port):
                    for _ in range(PARTS - part):
                        ask(count)
                        curve.append(round(resident_mib(worker), 2))
                break
            ask(count)
            curve.append(round(resident_mib(worker), 2))
        seconds = time.monotonic() - began
        up = b"ashore_shared_cache_up 1.0" in served.get("/metrics")
        command = served.command
    errors = sum(load.num_errors for load in loads)
    grown = curve[-1] - curve[0]
    quarter = PARTS // 4
    return [
        Row(
            what=f"memory of the API worker over {PARTS * count:,} requests, Redis away for half of them",
            value=grown if not errors else None,
            unit="MiB",
            bar=BAR_MIB,
            lower_is_better=True,
            detail=f"{curve[0]:.1f} MiB after {fill:,} that filled a cache of {CACHE_BYTES >> 20} MiB; "
            f"{curve[quarter]:.1f} when the server began to hang, {curve[2 * quarter]:.1f} when it was killed, "
            f"{curve[3 * quarter]:.1f} when another started, {curve[-1]:.1f} at the end, highest {max(curve):.1f}; "
            f"{'found the new server' if up else 'DID NOT FIND the new server'}; {errors} errors; "
            f"{PARTS * count / seconds:,.0f}/s",
            readings={"command": command, "curve_mib": curve, "loads": [load.plain() for load in loads]},
        )
    ]
