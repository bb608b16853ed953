"""Kept answers over gRPC through the edge, asked by h2load: unary calls, many streams on a few connections."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.front.cached import QUESTION, SYSTEM, Effort
from benchmarks.front.load import Tools
from benchmarks.front.server import CpuMeter, Front, front
from benchmarks.row import Row

METHOD = "/ashore.v1.Inference/Chat"
CLIENTS, STREAMS = 8, 8


def frame(alias: str) -> bytes:
    """Return a length-prefixed message of gRPC."""
    from ashore.data.grpc.gen import inference_pb2 as pb

    message: bytes = pb.ChatRequest(
        model=alias,
        messages=[
            pb.Message(role=pb.ROLE_SYSTEM, content=SYSTEM),
            pb.Message(role=pb.ROLE_USER, content=QUESTION),
        ],
        generation=pb.Generation(sampling=pb.Sampling(temperature=0)),
    ).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def answered(served: Front) -> dict[str, float]:
    """Return how many calls ended with each status, from the worker's own metrics: h2load does not read trailers."""
    page = served.get("/metrics").decode()
    found: dict[str, float] = {}
    for route, status, count in re.findall(r'ashore_requests_total\{route="([^"]+)",status="([^"]+)"\} (\S+)', page):
        if "Chat" in route:
            found[status] = found.get(status, 0.0) + float(count)
    return found


def h2load(served: Front, body: Path, seconds: float) -> tuple[float, int, str]:
    """Return calls a second, those that failed on the wire, and what h2load printed."""
    words = ["h2load", f"--duration={seconds:g}", "--warm-up-time=2", f"-c{CLIENTS}", f"-m{STREAMS}", "-d", str(body)]
    headers = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {served.key}"}
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    words.append(f"{served.scheme}://127.0.0.1:{served.port}{METHOD}")
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    rate = re.search(r"finished in [\d.]+\w*, ([\d.]+) req/s", said)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
    if rate is None or counts is None:
        raise SystemExit(f"h2load said: {said[-400:]}")
    return float(rate[1]), int(counts[1]) + int(counts[2]) + int(counts[3]), said


def unary(tools: Tools, effort: Effort) -> list[Row]:
    """Measure with TLS and without."""
    if shutil.which("h2load") is None:
        return [Row(what="cached gRPC unary/s through Envoy", value=None, unit="/s", bar=2000, detail="no h2load here")]
    rows = []
    for tls in (False, True):
        with (
            front(tls=tls, workers=effort.workers, threads=effort.threads) as served,
            tempfile.TemporaryDirectory() as folder,
        ):
            body = Path(folder) / "call"
            body.write_bytes(frame(served.alias))
            h2load(served, body, 1)
            before, meter = answered(served), CpuMeter(served.pid)
            runs = [h2load(served, body, effort.seconds) for _ in range(effort.rounds)]
            after = answered(served)
            calls = {status: after[status] - before.get(status, 0.0) for status in after}
            cpu = meter.per_request_us(int(sum(calls.values())))
        failed = sum(run[1] for run in runs)
        cut = calls.get("CANCELLED", 0.0)  # under way when h2load's time was up
        good = calls.get("OK", 0.0) > 0 and sum(calls.values()) - cut == calls["OK"]
        good = good and cut <= CLIENTS * STREAMS * (len(runs) + 1)
        rates = [run[0] for run in runs]
        shown = ", ".join(f"{kind} {us:.0f}" for kind, us in cpu.items() if us >= 1)
        rows.append(
            Row(
                what=f"cached gRPC unary/s through Envoy ({'TLS' if tls else 'plain'})",
                value=statistics.median(rates) if good and not failed else None,
                unit="/s",
                bar=2000,
                aim=4000,
                detail=f"h2load, {CLIENTS} connections of {STREAMS} streams, median of {len(runs)} "
                f"({min(rates):,.0f} to {max(rates):,.0f}); status by the worker's metrics: {calls}; "
                f"{failed} failed; µs/call: {shown}",
                readings={"command": served.command, "rates": rates, "statuses": calls, "cpu_us_per_request": cpu},
            )
        )
    return rows
