"""Memory of the API worker over many requests on the fake engine: it must not grow once its caches are full.

    python benchmarks/api_memory.py [--requests 200000] [--warm-up 20000] [--connections 32]

The mix: streamed and whole answers, Anthropic's form, embeddings, errors of several kinds, unknown names and paths that
differ each time, clients that leave in mid-stream. Prints resident memory after the warm-up and at the end.
Bar: at most 2 MiB more. Exits with 1 above it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ashore.data.engines import EngineOptions, HostLaunch, host_command
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.path import HttpListen, ServedModel, Topology, write_topology
from ashore.kit.processes.launchfiles import write_launch

BAR_MIB = 2.0


def requests(at: int) -> bytes:
    """Return request number `at`."""
    text = f"hello {at}"
    kind = at % 16
    if kind < 7:
        body = {"model": "fake", "messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 16}
        return post("/v1/chat/completions", body)
    if kind < 11:
        return post("/v1/chat/completions", {"model": "fake", "messages": [{"role": "user", "content": text}], "n": 2})
    match kind:
        case 11:
            return post(
                "/v1/messages", {"model": "fake", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
            )
        case 12:
            return post("/v1/embeddings", {"model": "fake", "input": [text, "x"]})
        case 13:
            return post("/v1/chat/completions", {"model": f"no-{at}", "messages": [{"role": "user", "content": text}]})
        case 14:
            return post("/v1/chat/completions", {"model": "fake", f"odd_{at}": 1})
        case _:
            return f"GET /nowhere/{at} HTTP/1.1\r\nhost: x\r\nx-request-id: id-{at}\r\n\r\n".encode()


def post(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
    if length is not None:
        await reader.readexactly(int(length.split(b":")[1]))
        return
    await reader.readuntil(b"\r\n0\r\n\r\n")


async def client(port: int, numbers: range, leave_every: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    for done, at in enumerate(numbers):
        writer.write(requests(at))
        if done % leave_every == leave_every - 1:
            await reader.read(1)
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
            continue
        await read_answer(reader)
    writer.close()


async def load(port: int, first: int, count: int, connections: int) -> None:
    each = count // connections
    await asyncio.gather(
        *(client(port, range(first + c * each, first + (c + 1) * each), leave_every=50) for c in range(connections))
    )


def resident_mib(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


def wait_ready(port: int) -> None:
    for _ in range(200):
        time.sleep(0.05)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
                sock.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if b" 200 " in sock.recv(100):
                    return
        except OSError:
            continue
    raise SystemExit("the worker was not ready")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--warm-up", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        files = fake_model_files("fake:echo", run / "model")
        write_launch(HostLaunch(files=files, options=EngineOptions(kind="fake")), run / "launch.json")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        model = ServedModel(
            alias="fake", release="fake-1", kind="fake", sockets=(str(run / "host.sock"),), text_dir=str(run / "model")
        )
        write_topology(Topology(models=(model,), http=HttpListen(port=port)), run / "topology.json")
        host = subprocess.Popen(host_command(run / "host.sock", run / "launch.json"), stderr=subprocess.DEVNULL)
        with open(os.devnull, "wb") as nowhere:
            worker = subprocess.Popen([sys.executable, "-m", "ashore.data.worker", "--run", str(run)], stderr=nowhere)
        try:
            wait_ready(port)
            asyncio.run(load(port, 0, given.warm_up, given.connections))
            before = resident_mib(worker.pid)
            began = time.monotonic()
            parts = 10
            for part in range(parts):
                first = given.warm_up + part * given.requests // parts
                asyncio.run(load(port, first, given.requests // parts, given.connections))
                print(
                    f"  {(part + 1) * given.requests // parts:>8,} requests: {resident_mib(worker.pid):.1f} MiB",
                    flush=True,
                )
            after, seconds = resident_mib(worker.pid), time.monotonic() - began
        finally:
            worker.terminate()
            host.terminate()
            worker.wait(20)
            host.wait(20)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{given.requests:,} requests in {seconds:.0f} s ({given.requests / seconds:,.0f}/s)")
    print(
        f"resident after {given.warm_up:,} to warm up: {before:.1f} MiB; at the end: {after:.1f} MiB; "
        f"grown {after - before:+.2f} MiB"
    )
    print(f"bar: +{BAR_MIB} MiB: {'met' if after - before <= BAR_MIB else 'MISSED'}")
    return 0 if after - before <= BAR_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
