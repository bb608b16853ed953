"""A fleet in network namespaces: two servers on one Postgres, three engine nodes, streams at both servers all the time.

Run as a program under `unshare --net --mount`, so that nothing of the machine's own network is touched. Nodes are
killed, lose their line, are drained; a server is killed; Postgres and Valkey are dead for a minute, and stand still for
20 s. One stream in eight is of a user with a budget, whose requests need Postgres. Prints one JSON object with what the
streams saw.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from postgres_server import PostgresServer, fresh_database
from served import Served, call, start_served
from tiny_models import make_tiny_model
from valkey_server import ValkeyServer
from waiting import eventually

HERE = "10.77.0.254"
FRONTS = {"f1": "10.77.0.1", "f2": "10.77.0.2"}
NODES = {"n1": "10.77.0.11", "n2": "10.77.0.12", "n3": "10.77.0.13"}
PORT, ENGINE_PORT, VALKEY_PORT = 8080, 8101, 6390
AWAY_S = 60.0
"""How long Postgres and Valkey are dead."""
STILL_S = 20.0
"""How long they stand still."""
BUDGETED = 8
"""One stream in so many has a budget."""
TOKENS = 30
MODEL = "fake:random?delay_s=0.1&tok_per_s=20&tokens=400&context=512"
SLOW_S = 2.0
"""A first token that took longer was held up by what died."""
CACHED = 4
"""One stream in so many asks for no token ids: its answers are looked for and kept in Valkey."""
_numbers = itertools.count()


def sh(*words: str) -> None:
    subprocess.run(words, check=True)


def make_network(machines: Mapping[str, str]) -> None:
    """Make a namespace for each machine, by name and address, all on one bridge."""
    sh("mount", "-t", "tmpfs", "none", "/run")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "br0", "type", "bridge")
    sh("ip", "addr", "add", f"{HERE}/24", "dev", "br0")
    sh("ip", "link", "set", "br0", "up")
    for name, address in machines.items():
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        sh("ip", "link", "set", f"v-{name}", "master", "br0", "up")
        sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        sh("ip", "-n", name, "link", "set", "lo", "up")


def in_memory(folder: Path) -> None:
    """Make a folder whose files are in memory: a slow disk of the machine is no part of what is measured."""
    folder.mkdir(parents=True, exist_ok=True)
    sh("mount", "-t", "tmpfs", "none", str(folder))


def kill_all(name: str) -> None:
    """Kill every process of a namespace at once, as if its machine had lost power."""
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@dataclass
class Ended:
    """How one streamed request ended."""

    front: str
    began_s: float
    first_s: float = 0.0
    """Until its first token; 0: there was none."""
    took_s: float = 0.0
    tokens: int = 0
    done: bool = False
    """Whether it said that it is whole."""
    error: str = ""
    has_budget: bool = False

    @property
    def is_whole(self) -> bool:
        return self.done and not self.error and self.tokens == TOKENS

    @property
    def has_failed(self) -> bool:
        """Whether it ended badly before its first token."""
        return not self.is_whole and not self.tokens

    @property
    def is_false(self) -> bool:
        """Whether it looked whole and was not."""
        return self.done and not self.error and self.tokens != TOKENS


@dataclass
class Load:
    """Streams without a pause."""

    key: str
    budgeted: str = ""
    """Key of a user with a budget; empty: there is none."""
    stop: threading.Event = field(default_factory=threading.Event)
    ended: list[Ended] = field(default_factory=list)
    fronts: Sequence[str] = tuple(FRONTS)
    away: set[str] = field(default_factory=set)
    """Servers that clients have taken out, as a health check of a load balancer would."""

    def run(self, number: int) -> None:
        while not self.stop.is_set():
            here = [one for one in self.fronts if one not in self.away]
            front = here[number % len(here)]
            has_budget = bool(self.budgeted) and number % BUDGETED == 0
            one = ask(front, self.budgeted if has_budget else self.key, by_ids=number % CACHED != 1)
            one.has_budget = has_budget
            self.ended.append(one)
            if one.has_failed:
                time.sleep(0.2)


def ask(front: str, key: str, *, by_ids: bool = True) -> Ended:
    """Ask one server for a stream that nobody asked for before, and read it to its end. Tokens are counted by their
    ids; without, as the server says."""
    one, number = Ended(front, time.monotonic()), next(_numbers)
    body = {
        "model": "chat", "prompt": [3 + number // 200 % 200, 3 + number % 200], "max_tokens": TOKENS, "stream": True,
        "ignore_eos": True, "temperature": 0, "stream_options": {"include_usage": True}, "return_token_ids": by_ids,
    }  # fmt: skip
    connection = http.client.HTTPConnection(FRONTS[front], PORT, timeout=90)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        if answer.status != 200:
            one.error = f"{answer.status} {answer.read().decode()[:300]}"
            return one
        for line in answer:
            if line.startswith(b"data: [DONE]"):
                one.done = True
            elif line.startswith(b"data: "):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    one.error = chunk["error"]["message"][:300]
                for choice in chunk.get("choices", ()):
                    one.tokens += len(choice.get("token_ids") or ()) if by_ids else bool(choice.get("text"))
                if not by_ids and chunk.get("usage"):
                    one.tokens = chunk["usage"]["completion_tokens"]
                if one.tokens and not one.first_s:
                    one.first_s = time.monotonic() - one.began_s
        return one
    except (OSError, http.client.HTTPException) as fault:
        one.error = one.error or repr(fault)
        return one
    finally:
        one.took_s = time.monotonic() - one.began_s
        connection.close()


@contextlib.contextmanager
def load(key: str, streams: int, fronts: Sequence[str] = tuple(FRONTS), *, budgeted: str = "") -> Iterator[Load]:
    """Keep streams running until the end of the block."""
    one = Load(key, budgeted, fronts=fronts)
    threads = [threading.Thread(target=one.run, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield one
    finally:
        one.stop.set()
        for thread in threads:
            thread.join()


@dataclass
class Seen:
    """What the streams saw of one phase."""

    requests: int = 0
    failed: int = 0
    """Ended badly without a token."""
    cut: int = 0
    """Ended honestly after some tokens."""
    false: int = 0
    """Looked whole, and were not."""
    slowest_first_s: float = 0.0
    """Of the requests that ended whole: the longest wait for a first token."""
    longest_hurt_s: float = 0.0
    """From a fault to the last request that began after it, ended before the next one, and ended badly or waited long
    for its first token."""
    errors: list[str] = field(default_factory=list)


def seen_of(
    ended: list[Ended], since_s: float, faults_s: list[float], *, of: set[str], has_budget: bool = False
) -> Seen:
    """Sum up the requests that ended since a moment."""
    found = Seen()
    for one in ended:
        if one.began_s + one.took_s < since_s or one.front not in of or one.has_budget != has_budget:
            continue
        found.requests += 1
        if one.is_whole:
            found.slowest_first_s = max(found.slowest_first_s, one.first_s)
        found.failed += one.has_failed
        found.false += one.is_false
        found.cut += bool(one.tokens and not one.is_whole and not one.is_false)
        if one.has_failed or one.is_false:
            found.errors.append(one.error)
        before = [at for at in faults_s if at <= one.began_s]
        is_between = len([at for at in faults_s if at <= one.began_s + one.took_s]) == len(before)
        if before and is_between and (not one.is_whole or one.first_s > SLOW_S):
            found.longest_hurt_s = max(found.longest_hurt_s, one.began_s - before[-1])
    found.errors = sorted(set(found.errors))[:5]
    return found


class Fleet:
    """Everything that runs."""

    def __init__(self, folder: Path, state: str, valkey: str) -> None:
        self.folder = folder
        (make_tiny_model(folder / "text", "llama") / "model.safetensors").unlink()
        self.config = f'[state]\nurl = "{state}"\n[fleet]\nnetworks = ["10.77.0.0/24"]\n[redis]\nurl = "{valkey}"\n'
        self.config += f'[[model]]\nname = "{folder / "text"}"\nalias = "chat"\n[model.engine]\nfleet = true\n'
        self.config += 'options = { served_model_name = "chat" }\n'
        self.fronts: dict[str, Served] = {}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.key = ""

    def start_front(self, name: str) -> None:
        self.fronts[name] = start_served(
            self.folder / name, (), store=None, port=PORT, grpc_port=0, config=self.config, wait=False,
            prefix=("ip", "netns", "exec", name), host=FRONTS[name], options=("--host", "0.0.0.0"),
        )  # fmt: skip

    def start_node(self, name: str) -> None:
        log = open(self.folder / f"{name}.log", "ab")  # noqa: SIM115 - the child's
        words = (
            "engine",
            "serve",
            MODEL,
            "--served-model-name",
            "chat",
            "--host",
            "0.0.0.0",
            "--port",
            str(ENGINE_PORT),
        )
        self.nodes[name] = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "ashore.cli.main", *words],
            env={**os.environ, "ASHORE_HOME": str(self.folder / name)}, stdout=log, stderr=log,
        )  # fmt: skip

    def call(self, method: str, path: str, body: object = None, *, at: str = "f1") -> dict[str, object]:
        return call(self.fronts[at], method, f"/admin/v1/fleet{path}", self.key, body)

    def views(self, name: str) -> tuple[str, int]:
        """Return the state of a node, and how many servers use it."""
        [one] = [node for node in self.call("GET", "")["nodes"] if node["node"] == name]  # type: ignore[attr-defined]
        return one["state"], one["used_by"]

    def drains(self, name: str) -> str:
        """Drain a node, wait a little, and return its state."""
        return self.call("POST", f"/nodes/{name}/drain", {"wait_s": 5})["items"][0]["state"]  # type: ignore[index, no-any-return]

    def is_back(self, name: str) -> bool:
        try:
            return self.views(name) == ("ready", len(FRONTS))
        except (OSError, urllib.error.HTTPError):
            return False


def run(folder: Path, kills: int, cuts: int, streams: int, only: Sequence[str] = ()) -> dict[str, object]:
    """Run every phase, or some alone, and return what was seen in each."""
    make_network(FRONTS | NODES)
    in_memory(folder)
    report: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        postgres = PostgresServer(HERE)
        stack.callback(postgres.close)
        postgres.start()
        (folder / "valkey").mkdir()
        valkey = ValkeyServer(folder / "valkey", "--protected-mode", "no", "--bind", HERE, port=VALKEY_PORT).start()
        stack.callback(valkey.kill)
        fleet = Fleet(folder, fresh_database(postgres.url, "fleet"), f"redis://{HERE}:{VALKEY_PORT}")
        stack.callback(lambda: [kill_all(name) for name in FRONTS | NODES])
        for name in FRONTS:
            fleet.start_front(name)
        for name in NODES:
            fleet.start_node(name)
        for front in fleet.fronts.values():
            front.wait_ready()
        first = fleet.fronts["f1"].key
        made = call(fleet.fronts["f1"], "POST", "/admin/v1/users", first, {
            "id": "sys", "roles": ["system-administrator"], "key": {},
        })  # fmt: skip
        fleet.key = made["key"]["key"]
        security = call(fleet.fronts["f1"], "POST", "/admin/v1/users", first, {
            "id": "sec", "roles": ["security-officer"], "key": {},
        })["key"]["key"]  # fmt: skip
        budgeted = call(fleet.fronts["f1"], "POST", "/admin/v1/users", security, {
            "id": "paid", "roles": ["developer"], "key": {},
        })["key"]["key"]  # fmt: skip
        cap = {"kind": "tokens", "cap": 100_000_000, "window": "day", "user": "paid"}
        call(fleet.fronts["f1"], "PUT", "/admin/v1/budgets", fleet.key, cap)
        for name, address in NODES.items():
            wish = {"address": f"http://{address}:{ENGINE_PORT}", "model": "chat"}
            fleet.call("PUT", f"/nodes/{name}", wish)
        for name in NODES:
            eventually(lambda name=name: fleet.is_back(name), limit_s=90)
        eventually(lambda: ask("f2", first).is_whole)
        eventually(lambda: ask("f2", budgeted).is_whole)
        with load(first, streams, budgeted=budgeted) as asked:
            eventually(lambda: len(asked.ended) > streams)

            def phase(name: str, work: Callable[[], list[float]], of: set[str] = set(FRONTS)) -> None:  # noqa: B006
                if only and name not in only:
                    return
                since_s = time.monotonic()
                faults_s = work()
                done, until = time.monotonic(), len(asked.ended) + streams
                eventually(lambda: len(asked.ended) > until, limit_s=90)
                eventually(lambda: time.monotonic() > done + 3, limit_s=10)
                for suffix, has_budget in (("", False), (" with a budget", True)):
                    seen = seen_of(list(asked.ended), since_s, faults_s, of=of, has_budget=has_budget)
                    report[name + suffix] = asdict(seen)
                    print(name + suffix, report[name + suffix], file=sys.stderr, flush=True)

            back_s: list[float] = []

            def kill_nodes() -> list[float]:
                faults_s = []
                for number in range(kills):
                    name = list(NODES)[number % len(NODES)]
                    faults_s.append(time.monotonic())
                    kill_all(name)
                    fleet.nodes[name].wait()
                    eventually(lambda name=name: not fleet.is_back(name))
                    fleet.start_node(name)
                    started_s = time.monotonic()
                    eventually(lambda name=name: fleet.is_back(name), limit_s=90)
                    back_s.append(time.monotonic() - started_s)
                return faults_s

            def cut_lines() -> list[float]:
                faults_s = []
                for number in range(cuts):
                    name = list(NODES)[number % len(NODES)]
                    faults_s.append(time.monotonic())
                    sh("ip", "link", "set", f"v-{name}", "down")
                    eventually(lambda name=name: not fleet.is_back(name))
                    until_s = faults_s[-1] + 17  # a server with orders that says nothing is given up after 15 s
                    eventually(lambda until_s=until_s: time.monotonic() > until_s)
                    sh("ip", "link", "set", f"v-{name}", "up")
                    eventually(lambda name=name: fleet.is_back(name), limit_s=90)
                return faults_s

            def drain() -> list[float]:
                began_s = time.monotonic()
                for name in list(NODES)[:2]:
                    eventually(lambda name=name: fleet.drains(name) == "drained")
                    kill_all(name)
                    fleet.nodes[name].wait()
                    fleet.start_node(name)
                    fleet.call("POST", f"/nodes/{name}/undrain")
                    eventually(lambda name=name: fleet.is_back(name), limit_s=90)
                return [began_s]

            def stand_still(program: str) -> list[float]:
                began_s = time.monotonic()
                pids = pids_of(program)
                assert pids, f"no {program} runs"
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(STILL_S)
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                return [began_s]

            def be_dead(server: PostgresServer | ValkeyServer) -> list[float]:
                began_s = time.monotonic()
                server.kill()
                time.sleep(AWAY_S)
                server.start()
                return [began_s]

            def kill_front() -> list[float]:
                began_s = time.monotonic()
                kill_all("f2")
                asked.away.add("f2")
                fleet.fronts["f2"].process.wait()
                fleet.start_front("f2")
                fleet.fronts["f2"].wait_ready()
                asked.away.discard("f2")
                eventually(lambda: all(fleet.is_back(name) for name in NODES), limit_s=90)
                return [began_s]

            phase("kills", kill_nodes)
            phase("cuts", cut_lines)
            phase("drain", drain)
            phase("postgres still", lambda: stand_still("postgres"))
            phase("postgres dead", lambda: be_dead(postgres))
            report["kept answers"] = valkey.size()
            phase("valkey still", lambda: stand_still("valkey-server"))
            phase("valkey dead", lambda: be_dead(valkey))
            phase("front", kill_front, {"f1"})
            for suffix, has_budget in (("", False), (" with a budget", True)):
                every = seen_of(list(asked.ended), 0, [], of=set(FRONTS), has_budget=has_budget)
                report["front-all" + suffix] = asdict(every)
            report["back_s"] = [round(one, 1) for one in back_s]
    return report


def pids_of(program: str) -> list[int]:
    """Return the processes of this network namespace that run a program."""
    here = os.readlink("/proc/self/ns/net")
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_it = folder.name.isdigit() and (folder / "comm").read_text().strip() == program
            if is_it and os.readlink(folder / "ns" / "net") == here:
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=2)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--only", action="append", help="one phase, such as 'kills'; may be repeated")
    words = parser.parse_args()
    print(json.dumps(run(words.folder, words.kills, words.cuts, words.streams, words.only or ())))
