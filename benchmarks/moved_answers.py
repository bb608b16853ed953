"""Kill, stop and cut off nodes under streams: what becomes of the answers that had begun.

`python -m benchmarks.moved_answers FOLDER [--faults 20] [--streams 32]`

One server, three nodes (`ashore engine serve`) with a tiny model of random weights that really computes, a line before
each node that can break. Faults in turn: every process of a node is killed, is stopped (SIGSTOP), the line closes, the
line goes silent. Half of the streams ask for a JSON schema, a tool or log-probabilities; the others are greedy, or draw
by a seed under penalties. Every answer is compared with the one that was given before the first fault.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from benchmarks.peers import free_port
from home_processes import processes_of
from served import Served, start_served
from tiny_models import make_tiny_model

TOKENS = 160
SILENT_S = 15.0
"""After so long without a word a node is lost (`SILENT_S` in `data/engines/vllm/servers.py`)."""
FAULTS = ("killed", "stopped", "line closed", "line silent")
SCHEMA = {
    "type": "object",
    "properties": {
        "names": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 6, "maxItems": 9},
        "n": {"type": "integer", "minimum": 0, "maximum": 99_999},
    },
    "required": ["names", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "note", "parameters": SCHEMA}}
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "schema": {
        "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    },
    "seed, penalties": {"temperature": 0.8, "seed": 7, "presence_penalty": 0.6, "frequency_penalty": 0.3},
    "log-probabilities": {"temperature": 0, "logprobs": True, "top_logprobs": 3},
    "stop string": {"temperature": 0, "stop": ["qqqq"]},
    "tool": {"temperature": 0, "tools": [TOOL], "tool_choice": "required"},
}  # fmt: skip
PROMPTS = 6


class Line:
    """A way to one port that can break."""

    def __init__(self, to: int) -> None:
        self.port, self._to, self.is_silent, self.is_closed = free_port(), to, False, False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._run, daemon=True).start()

    def close_all(self) -> None:
        self.is_closed = True

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(0.02):
                if self.is_silent:
                    time.sleep(0.02)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass(key.fileobj)  # type: ignore[arg-type]
            if self.is_closed:
                for one in list(self._pairs):
                    self._drop(one)

    def _accept(self) -> None:
        ours, _ = self._listener.accept()
        try:
            theirs = socket.create_connection(("127.0.0.1", self._to), timeout=2)
        except OSError:
            ours.close()
            return
        if self.is_closed:
            ours.close()
            theirs.close()
            return
        for one, other in ((ours, theirs), (theirs, ours)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one: socket.socket) -> None:
        if one not in self._pairs:
            return
        try:
            if data := one.recv(65536):
                self._pairs[one].sendall(data)
                return
        except OSError:
            pass  # broken: both ends go
        self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        self._pairs.pop(other, None)  # type: ignore[arg-type]
        for end in (one, other):
            if end is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()


@dataclass
class Node:
    """One engine server behind its line."""

    home: Path
    model: Path
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.line = Line(self.port)
        subprocess.run(self._words("model", "pull", str(self.model), "--name", "tiny"), env=self._env, check=True)
        self.start()

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "ASHORE_HOME": str(self.home)}

    @staticmethod
    def _words(*words: str) -> list[str]:
        return [sys.executable, "-m", "ashore.cli.main", *words]

    def start(self) -> None:
        words = ("engine", "serve", "tiny", "--served-model-name", "chat", "--port", str(self.port), "--threads", "1")
        with open(self.home / "node.log", "ab") as log:
            self.process = subprocess.Popen(self._words(*words), env=self._env, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        for pid in processes_of(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass
class Told:
    """One answer as its client read it."""

    kind: str
    content: str = ""
    tokens: int = 0
    logprobs: int = 0
    finish: str = ""
    done: bool = False
    error: str = ""
    moved: str = ""
    at_s: list[float] = field(default_factory=list)
    """When each piece came."""

    @property
    def is_whole(self) -> bool:
        return self.done and not self.error and bool(self.finish)


def ask(server: Served, kind: str, number: int) -> Told:
    """Ask for one answer and read it to its end."""
    one = Told(kind)
    body = {
        "model": "chat", "messages": [{"role": "user", "content": f"story number {number}"}], "max_tokens": TOKENS,
        "stream": True, "stream_options": {"include_usage": True}, **KINDS[kind],
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {server.key}"})
        answer = connection.getresponse()
        if answer.status != 200:
            one.error = f"{answer.status} {answer.read().decode()[:300]}"
            return one
        for line in answer:
            if line.startswith(b"data: [DONE]"):
                one.done = True
            elif line.startswith(b"data: "):
                take(one, json.loads(line[6:]))
    except (OSError, http.client.HTTPException) as fault:
        one.error = one.error or repr(fault)
    finally:
        connection.close()
    return one


def take(one: Told, chunk: dict[str, Any]) -> None:
    """Add one event of a stream."""
    one.at_s.append(time.monotonic())
    if "error" in chunk:
        one.error = chunk["error"]["message"][:300]
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        one.content += delta.get("content") or ""
        for call in delta.get("tool_calls") or ():
            one.content += (call["function"].get("name") or "") + (call["function"].get("arguments") or "")
        one.logprobs += len((choice.get("logprobs") or {}).get("content") or ())
        one.finish = choice.get("finish_reason") or one.finish
    if chunk.get("usage"):
        one.tokens, one.moved = chunk["usage"]["completion_tokens"], chunk["usage"].get("moved", "")


@dataclass
class Known:
    """The moments at which the server knew that a node was lost, read from the log of its host."""

    log: Path
    seen: int = 0
    at_s: list[float] = field(default_factory=list)

    def watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.01):
            with contextlib.suppress(OSError), open(self.log, "rb") as file:
                file.seek(self.seen)
                data = file.read()
                self.seen += len(data)
                if re.search(rb"orders are taken from it|-> out", data):
                    self.at_s.append(time.monotonic())


def pause_s(one: Told, faults: list[float], known: list[float]) -> float:
    """Return the longest pause of an answer since the loss behind it was known."""
    longest = 0.0
    for before, after in itertools.pairwise(one.at_s):
        since = max([at for at in (*faults, *known) if before <= at <= after], default=before)
        if after - before > 0.2:
            longest = max(longest, after - since)
    return longest


def until(what: Any, limit_s: float = 120.0) -> None:
    end_s = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} did not come true within {limit_s:g} s")
        time.sleep(0.05)


def hurt(node: Node, fault: str, known: Known, wait: Any) -> None:
    """Do one fault to a node, and undo it once the server has noticed."""
    before = len(known.at_s)
    match fault:
        case "killed":
            node.signal(signal.SIGKILL)
            node.process.wait()
        case "stopped":
            node.signal(signal.SIGSTOP)
        case "line closed":
            node.line.close_all()
        case _:
            node.line.is_silent = True
    until(lambda: len(known.at_s) > before, SILENT_S + 30)
    time.sleep(3.0)
    node.line.is_silent = node.line.is_closed = False
    if fault == "killed":
        node.start()
    node.signal(signal.SIGCONT)
    until(wait)


@contextlib.contextmanager
def house(folder: Path) -> Iterator[tuple[Served, list[Node]]]:
    """Run a server and three nodes."""
    model = make_tiny_model(folder / "tiny", "llama")
    config_file = model / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"max_position_embeddings": 2048}))
    nodes: list[Node] = []
    server: Served | None = None
    try:
        for number in range(3):
            (folder / f"node-{number}").mkdir(parents=True)
            nodes.append(Node(folder / f"node-{number}", model))
        config = "".join(
            f'[[fleet.node]]\nnode = "n{number}"\naddress = "http://127.0.0.1:{node.line.port}"\nmodel = "chat"\n'
            for number, node in enumerate(nodes)
        )
        config += f'[[model]]\nname = "{model}"\nalias = "chat"\n[model.engine]\nfleet = true\n'
        config += 'options = { served_model_name = "chat" }\n[cache]\nmode = "off"\n'
        server = start_served(
            folder / "front", (), store=None, port=free_port(), grpc_port=0, config=config, wait=False
        )
        server.wait_ready(120)
        yield server, nodes
    finally:
        if server is not None:
            server.stop()
        for node in nodes:
            node.signal(signal.SIGKILL)


def run(folder: Path, faults: int, streams: int) -> dict[str, Any]:
    """Run it all and return what was seen."""
    with house(folder) as (server, nodes):
        log = next(iter(sorted((server.home / "logs").glob("host-*.log"))))
        known, stop = Known(log), threading.Event()
        threading.Thread(target=known.watch, args=(stop,), daemon=True).start()
        asked = [(kind, number) for kind in KINDS for number in range(PROMPTS)]
        until(lambda: all(ask(server, "greedy", number).is_whole for number in range(3)))
        time.sleep(3)
        expected = {one: ask(server, *one) for one in asked}
        assert all(one.is_whole for one in expected.values()), [one.error for one in expected.values() if one.error]
        ended: list[tuple[tuple[str, int], Told]] = []

        def keep_asking(number: int) -> None:
            for at in itertools.count(number):
                if stop.is_set():
                    return
                one = asked[at * 7 % len(asked)]
                ended.append((one, ask(server, *one)))

        threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(streams)]
        for thread in threads:
            thread.start()
        at_s: list[float] = []
        for number in range(faults):
            time.sleep(2)
            fault = FAULTS[number % len(FAULTS)]
            node = nodes[number % len(nodes)]
            at_s.append(time.monotonic())
            hurt(node, fault, known, lambda: all_ready(server))
            print(f"{number + 1}/{faults} {fault}: {len(ended)} answers so far", file=sys.stderr, flush=True)
        stop.set()
        for thread in threads:
            thread.join()
    return summary(ended, expected, at_s, known.at_s)


def all_ready(server: Served) -> bool:
    """Return whether the metrics of the server count three nodes that are ready."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {server.key}"})
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return sum(line.endswith((" 1.0", " 1")) for line in text.splitlines() if "backend_up" in line) == 3


def summary(
    ended: list[tuple[tuple[str, int], Told]], expected: dict[tuple[str, int], Told], faults: list[float],
    known: list[float],
) -> dict[str, Any]:  # fmt: skip
    """Return the counts of a run."""
    whole = [(key, one) for key, one in ended if one.is_whole]
    moved = [(key, one) for key, one in whole if one.moved]
    equal = [(key, one) for key, one in moved if one.content == expected[key].content]
    false = [
        one
        for key, one in whole
        if (one.kind == "log-probabilities" and one.logprobs != one.tokens)
        or (one.kind in ("schema", "tool") and one.finish != "length" and not is_json(one))
        or (one.finish != expected[key].finish and one.content == expected[key].content)
    ]
    same = [one for key, one in whole if not one.moved and one.content == expected[key].content]
    return {
        "answers": len(ended),
        "failed": sum(not one.is_whole and not one.content for _, one in ended),
        "cut": sum(not one.is_whole and bool(one.content) for _, one in ended),
        "false": len(false),
        "moved": len(moved),
        "moved, equal": len(equal),
        "moved, by kind": {kind: sum(one.kind == kind for _, one in moved) for kind in KINDS},
        "moved, unequal by kind": {
            kind: sum(one.kind == kind and one.content != expected[key].content for key, one in moved) for kind in KINDS
        },
        "not moved": len(whole) - len(moved),
        "not moved, equal": len(same),
        "longest pause after the loss was known, s": round(
            max((pause_s(one, faults, known) for _, one in moved), default=0.0), 2
        ),
        "errors": sorted({one.error for _, one in ended if one.error})[:5],
    }


def is_json(one: Told) -> bool:
    """Return whether an answer under the schema is whole JSON of its form."""
    try:
        found = json.loads(one.content.removeprefix("note"))
    except ValueError:
        return False
    return set(found) == {"names", "n"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--streams", type=int, default=32)
    given = parser.parse_args()
    print(json.dumps(run(given.folder, given.faults, given.streams), indent=1))
