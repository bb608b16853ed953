"""What ashore adds between a client and what answers: a call of a tool, and an answer of a server that takes text only.

    python -m benchmarks.added_latency FOLDER [--calls 2000] [--answers 200] [--pieces 400] [--report FILE]

One server (`ashore up`) with a server of tools, a `vllm` server and one that takes text only behind it, each a small
process of its own that answers at once. Every question goes in turn straight to the server behind and through ashore,
so that both see the same machine. Audit log, budgets and a masking policy are on, no answer is cached.

A call is what a client of MCP sends after its handshake, on a kept connection. An answer of one token measures the
request, a long one its pieces. `vllm` and text only are compared by what ashore adds to each.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from benchmarks.peers import free_port
from benchmarks.row import Row, report
from home_processes import processes_of
from served import approve_tools, call, officer_and_owner, start_served
from tiny_models import make_tiny_model

WARM = 50
TOOL = {
    "name": "balance", "description": "Return the balance of an account.",
    "inputSchema": {"type": "object", "properties": {"account": {"type": "string"}}},
}  # fmt: skip
CONFIG = """
[[model]]
name = "chat:there"
alias = "text"
[model.engine]
fleet = true

[[model]]
name = "{tiny}"
alias = "ids"
[model.engine]
fleet = true

[[fleet.node]]
node = "text"
address = "{text}"
model = "text"

[[fleet.node]]
node = "ids"
address = "{ids}"
model = "ids"

[[mcp.server]]
name = "bank"
url = "{tools}/mcp"

[privacy.prompts]
phone = "mask"
"""


class Behind(BaseHTTPRequestHandler):
    """Answers at once: tools, completions of token ids, and chats."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def send(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        """Send a whole answer, in one piece."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self) -> None:
        """Say what is served."""
        models = {"data": [{"id": "there", "owned_by": "vllm", "max_model_len": 4096}]}
        self.send(json.dumps(models if self.path.endswith("models") else {"version": "0.1"}).encode())

    def do_POST(self) -> None:
        """Answer a call of a tool, or stream an answer."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/mcp":
            results = {
                "initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}},
                "tools/list": {"tools": [TOOL]},
                "tools/call": {"content": [{"type": "text", "text": "42 yuan"}]},
            }
            if "id" not in asked:
                return self.send(b"", status=202)
            said = {"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]}
            return self.send(json.dumps(said).encode())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        number = asked["max_tokens"]
        usage = {"prompt_tokens": 9, "completion_tokens": number, "total_tokens": 9 + number}
        for at in range(number):
            end = "length" if at + 1 == number else None
            if "prompt" in asked:
                self.event({"index": 0, "text": "a", "token_ids": [97], "logprobs": None, "finish_reason": end})
            else:
                self.event({"index": 0, "delta": {"content": "a "}, "finish_reason": end})
        self.event(None, usage=usage)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")
        return None

    def event(self, choice: dict[str, Any] | None, **more: Any) -> None:
        """Send one event, and have it leave."""
        self.chunk(
            b"data: " + json.dumps({"id": "a", "choices": [choice] if choice else [], **more}).encode() + b"\n\n"
        )

    def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _serve(line: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    line.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


@contextmanager
def behind() -> Iterator[str]:
    """Run a server in a process of its own; give its address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


class Client:
    """One kept connection."""

    def __init__(self, url: str, path: str, key: str = "") -> None:
        self._line = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self._path = path
        self._headers = {"content-type": "application/json", "cache-control": "no-store"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def took_s(self, body: Any) -> float:
        """Ask once, and return how long the whole answer took.

        Raises:
            RuntimeError: it is not the answer that was expected.
        """
        data, began_s = json.dumps(body).encode(), time.perf_counter()
        self._line.request("POST", self._path, data, self._headers)
        answer = self._line.getresponse()
        said, took_s = answer.read(), time.perf_counter() - began_s
        if (
            answer.status != 200
            or b'"isError":true' in said
            or (b"42 yuan" not in said and b"data: [DONE]" not in said)
        ):
            raise RuntimeError(f"{self._path} answered {answer.status}: {said[:300]!r}")
        return took_s


def cpu_s(home: Path) -> float:
    """Return the processor time that the processes of a home have taken so far: what a busy machine does not change."""
    ticks = 0
    for pid in processes_of(home):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def in_turn(ways: Sequence[Callable[[], float]], rounds: int, warm: int = WARM) -> list[list[float]]:
    """Ask each way once in each round; return the seconds of each, without the first rounds."""
    took = [[way() for way in ways] for _ in range(warm + rounds)]
    return [list(column) for column in zip(*took[warm:], strict=True)]


def tool_row(direct: str, root: str, key: str, calls: int, home: Path) -> Row:
    """Measure what the gateway adds to a call."""
    body = {
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "balance", "arguments": {"account": "6222020200112233445"}},
    }  # fmt: skip
    there, through = Client(direct, "/mcp"), Client(root, "/mcp/bank", key)
    before_s = cpu_s(home)
    alone, with_ashore = in_turn((lambda: there.took_s(body), lambda: through.took_s(body)), calls)
    added = [(b - a) * 1e3 for a, b in zip(alone, with_ashore, strict=True)]
    cost_ms = (cpu_s(home) - before_s) / (calls + WARM) * 1e3
    ratio = statistics.median(with_ashore) / statistics.median(alone)
    return Row(
        what="a call of a tool, added p50", value=statistics.median(added), unit="ms", bar=3, lower_is_better=True,
        detail=f"direct {_shown(alone)} ms (p50/p95), through ashore {_shown(with_ashore)}, ratio {ratio:.2f}; "
        f"processor time of ashore {cost_ms:.2f} ms a call",
    )  # fmt: skip


def text_rows(text: str, ids: str, root: str, key: str, answers: int, pieces: int, home: Path) -> list[Row]:
    """Measure what ashore adds to a request and a piece of a server of text, beyond what it adds to one of ids."""
    ways = {
        "text direct": (Client(text, "/v1/chat/completions"), {"messages": [{"role": "user", "content": "Hello."}]}),
        "text": (Client(root, "/v1/chat/completions", key), {"messages": [{"role": "user", "content": "Hello."}]}),
        "ids direct": (Client(ids, "/v1/completions"), {"prompt": [72, 101]}),
        "ids": (Client(root, "/v1/chat/completions", key), {"messages": [{"role": "user", "content": "Hello."}]}),
    }

    def way(name: str, tokens: int) -> Callable[[], float]:
        client, body = ways[name]
        whole = {"model": name.split()[0], "stream": True, "temperature": 0, "max_tokens": tokens, **body}
        return lambda: client.took_s(whole)

    one = [statistics.median(took) for took in in_turn([way(name, 1) for name in ways], answers)]
    long = [statistics.median(took) for took in in_turn([way(name, pieces) for name in ways], answers // 4, warm=3)]
    a_piece = [(whole - first) / (pieces - 1) for whole, first in zip(long, one, strict=True)]
    cost = {name: _cost_s(home, way(name, pieces), answers // 4) / pieces * 1e6 for name in ("text", "ids")}
    costs = {"a request": "", "a piece": f"; processor time {cost['text']:.0f} µs, `vllm` {cost['ids']:.0f}"}
    rows = []
    for what, unit, scale, bar, (text_direct, text_through, ids_direct, ids_through) in (
        ("a request", "ms", 1e3, 1.0, one), ("a piece", "µs", 1e6, 30.0, a_piece),
    ):  # fmt: skip
        added, usual = (text_through - text_direct) * scale, (ids_through - ids_direct) * scale
        detail = f"text only: {added:.3g} {unit} added, `vllm`: {usual:.3g}, ratio {added / usual:.2f}{costs[what]}"
        rows.append(
            Row(
                what=f"{what} of a text-only server, beyond `vllm`", value=added - usual, unit=unit, bar=bar,
                lower_is_better=True, detail=detail,
            )
        )  # fmt: skip
    return rows


def _cost_s(home: Path, way: Callable[[], float], times: int) -> float:
    """Return the processor time that ashore takes for one answer."""
    before_s = cpu_s(home)
    for _ in range(times):
        way()
    return (cpu_s(home) - before_s) / times


def _shown(seconds: Sequence[float]) -> str:
    p50, p95 = statistics.median(seconds) * 1e3, statistics.quantiles(seconds, n=20)[-1] * 1e3
    return f"{p50:.2f}/{p95:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--pieces", type=int, default=400)
    parser.add_argument("--report", type=Path, help="also write the table there")
    words = parser.parse_args()
    tiny = make_tiny_model(words.folder / "tiny", "qwen2")
    with ExitStack() as stack:
        tools, text, ids = (stack.enter_context(behind()) for _ in range(3))
        config = CONFIG.format(tiny=tiny, tools=tools, text=text, ids=ids)
        server = start_served(
            words.folder / "home", (), store=None, port=free_port(), grpc_port=0, config=config, forked=False
        )
        stack.callback(server.stop)
        officer, _ = officer_and_owner(server)
        rules = {"rules": ["mcp:call on tool/bank/*", "infer on model/*"]}
        call(server, "PUT", "/admin/v1/roles/bencher", officer, rules)
        wish = {"id": "agent", "roles": ["bencher"], "key": {}}
        key = call(server, "POST", "/admin/v1/users", officer, wish)["key"]["key"]
        approve_tools(server, officer, "bank")
        rows = [
            tool_row(tools, server.root_url, key, words.calls, server.home),
            *text_rows(text, ids, server.root_url, key, words.answers, words.pieces, server.home),
        ]
    table = report(rows, "benchmarks.added_latency", size="one worker, masking of telephone numbers, audit log on")
    print(table)
    if words.report is not None:
        words.report.write_text(f"# What ashore adds to a call\n\n{__doc__}\n{table}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
