"""Cached answers at a steady rate with two feeds of the audit log, against the same without any."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from benchmarks.front.cached import CONNECTIONS, STEADY_PER_S, Effort, fill, questions
from benchmarks.front.load import Load, Tools, run_load
from benchmarks.front.server import Front, front
from benchmarks.peers import free_port
from benchmarks.row import Row
from syslog_server import certificate

from ashore.control.drills import receivers

BAR = 1.03
FLOODED_MS = 50.0
"""A p99 without feeds above this says that the machine does not keep up with the rate, and nothing of feeds."""


def feeds(tools: Tools, effort: Effort) -> list[Row]:
    """Measure p99 of both in turns, on one machine: a file, and a receiver of syslog over TLS that writes a file.

    The receiver runs at the lowest priority: it stands for another machine, and shares this one's processors.
    """
    with tempfile.TemporaryDirectory(prefix="feeds.") as name:
        folder, port = Path(name), free_port()
        ca, chain, key = certificate(folder / "tls")
        for made, wanted in ((chain, "node.pem"), (key, "node.key")):
            (folder / wanted).write_bytes(made.read_bytes())
        got, written = folder / "siem.got", folder / "feed.log"
        words = [
            "nice",
            "-n",
            "19",
            sys.executable,
            "-I",
            "-S",
            receivers.__file__,
            "syslog",
            str(port),
            str(folder),
            str(got),
        ]
        config = f'[[feed]]\nname = "file"\nto = "file://{written}"\n'
        config += f'[[feed]]\nname = "siem"\nto = "syslog+tls://127.0.0.1:{port}"\nca_file = "{ca}"\n'
        receiver = subprocess.Popen(words)
        try:
            with (
                front(workers=effort.workers, threads=effort.threads, nice=effort.nice) as without,
                front(workers=effort.workers, threads=effort.threads, nice=effort.nice, config=config) as fed,
            ):
                for one in (without, fed):
                    fill(tools, one, questions(one, 1))
                rows: list[Row] = []
                for rate_per_s in (STEADY_PER_S, STEADY_PER_S / 2):  # half of it where the machine cannot keep up
                    pairs = [
                        (_steady(tools, without, effort, rate_per_s), _steady(tools, fed, effort, rate_per_s))
                        for _ in range(effort.rounds)
                    ]
                    lines = [file.read_bytes().count(b"\n") if file.exists() else 0 for file in (written, got)]
                    rows.append(_row(rate_per_s, pairs, lines))
                    if rows[-1].value is not None:
                        break
        finally:
            receiver.kill()
            receiver.wait()
    return rows


def _steady(tools: Tools, served: Front, effort: Effort, rate_per_s: float) -> Load:
    return run_load(
        tools, served.port, questions(served, 1), connections=CONNECTIONS, seconds=effort.seconds,
        rate_per_s=rate_per_s, tls=served.tls, mark="x-ashore-cache: hit-exact",
    )  # fmt: skip


def _row(rate_per_s: float, pairs: list[tuple[Load, Load]], lines: list[int]) -> Row:
    ratios = [fed.ok.p99_ms / without.ok.p99_ms for without, fed in pairs]
    errors = sum(one.num_errors for pair in pairs for one in pair)
    flooded = any(without.ok.p99_ms > FLOODED_MS for without, _ in pairs)
    why = "the machine does not keep up with the rate; " if flooded else ""
    told = ", ".join(f"{without.ok.p99_ms:.2f} and {fed.ok.p99_ms:.2f}" for without, fed in pairs)
    return Row(
        what=f"p99 of cached answers at {rate_per_s:,.0f}/s with two feeds, against none",
        value=None if errors or flooded or not all(lines) else statistics.median(ratios), unit="times", bar=BAR,
        lower_is_better=True,
        detail=f"{why}ms without and with, by round: {told}; {errors} errors; lines that the receivers have: {lines}",
        readings={"pairs": [[one.plain() for one in pair] for pair in pairs], "lines": lines},
    )  # fmt: skip
