"""What one client can do to the others, and what a process that hangs costs them.

    python -m benchmarks.hostile [--only prompts,hang] [--rounds 3]

A server of its own for each case, on loopback. `prompts`: a developer sends texts that are dear to read; a second
connection asks `/healthz` every 20 ms, another tenant lists its files, a key of the developer is revoked. `hang`: one
of two engine hosts is stopped while it has orders (SIGSTOP).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from benchmarks.peers import free_port
from benchmarks.row import Row
from demo_home import demo_home_path
from home_processes import processes_of
from served import Served, call, start_served

EVERY_S = 0.02
GAP_BAR_MS, OTHERS_BAR_S, NOTICED_BAR_S, ANSWERED_BAR_S = 100.0, 1.0, 10.0, 12.0
PROMPTS: dict[str, tuple[int, str]] = {
    "words, 1 MB": (1, "hello world " * 85_000),
    "phone numbers, 4 MB": (1, "13812345678 " * 340_000),
    "special tokens, 7 MB": (1, "<|im_start|>" * 600_000),
    "eight of '1-', 2 MB each": (8, "1-" * 1_000_000),
    "eight of '1.1.', 4 MB each": (8, "1.1." * 1_000_000),
    "e-mail addresses, 4 MB": (1, "a.b@c.example " * 290_000),
}
"""How many at once, and the text."""
HANG = '[[model]]\nname = "fake:random?tok_per_s=20&tokens=4000"\nalias = "pair"\nreplicas = 2\n'


PING: Final = """
import http.client, select, sys, time
connection, longest_s = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=300), 0.0
while not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    began_s = time.monotonic()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    longest_s = max(longest_s, time.monotonic() - began_s)
print(longest_s)
"""


def timed_s(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def post(server: Served, key: str, body: bytes) -> int:
    """Return the status of a chat completion, whatever it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def chat(model: str, text: str, max_tokens: int = 8) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": model, "max_tokens": max_tokens, "messages": messages}).encode()


@contextmanager
def repeated(work: Callable[[], object], every_s: float) -> Iterator[list[float]]:
    """Do something again and again on a thread; give the list of how long each time took."""
    took_s: list[float] = []
    done = threading.Event()

    def again() -> None:
        while not done.is_set():
            took_s.append(timed_s(work))
            done.wait(every_s)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield took_s
    finally:
        done.set()
        thread.join()


@contextmanager
def pinged(server: Served, longest_ms: list[float]) -> Iterator[None]:
    """Ask `/healthz` on one connection from a process of its own; put the longest wait into the list."""
    words = [sys.executable, "-c", PING, str(server.port), str(EVERY_S)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield
        finally:
            said, _ = child.communicate("")
    longest_ms.append(1e3 * float(said))


def keys_of(server: Served) -> tuple[str, str, str]:
    """Return the keys of a security officer, of a developer, and of another tenant's developer."""
    made = call(server, "POST", "/admin/v1/users", server.key, {"id": "sec", "roles": ["security-officer"], "key": {}})
    officer = made["key"]["key"]
    call(server, "POST", "/admin/v1/tenants", officer, {"name": "bank-b"})
    keys = []
    for name, tenant in (("alice", "default"), ("bob", "bank-b")):
        wish = {"id": name, "tenant": tenant, "roles": ["developer"], "key": {}}
        keys.append(call(server, "POST", "/admin/v1/users", officer, wish)["key"]["key"])
    return officer, keys[0], keys[1]


def prompts(folder: Path, rounds: int) -> list[Row]:
    """Return the longest wait of `/healthz`, of another tenant and of a revocation, by prompt."""
    server = start_served(
        folder / "prompts",
        ["smollm2"],
        store=demo_home_path() / "store",
        port=free_port(),
        grpc_port=free_port(),
        options=["--offline"],
    )
    rows = []
    try:
        officer, attacker, other = keys_of(server)
        for what, (many, text) in PROMPTS.items():
            body = chat("smollm2", text)
            gaps: list[float] = []
            others, revoked, answered, statuses = [], [], [], set()
            for _ in range(rounds):
                wish = {"owner": "alice"}
                spare = call(server, "POST", "/admin/v1/keys", officer, wish)
                with (
                    ThreadPoolExecutor(many) as pool,
                    pinged(server, gaps),
                    repeated(lambda: call(server, "GET", "/v1/files", other), 0.1) as lists,
                ):
                    time.sleep(0.5)
                    began_s = time.monotonic()
                    sent = [pool.submit(post, server, attacker, body) for _ in range(many)]
                    time.sleep(0.2)
                    path = f"/admin/v1/keys/{spare['key'][:12]}"
                    revoked.append(timed_s(lambda path=path: call(server, "DELETE", path, officer)))  # type: ignore[misc]
                    statuses |= {one.result() for one in sent}
                    answered.append(time.monotonic() - began_s)
                    time.sleep(0.5)
                others.append(max(lists))
            detail = (
                f"answer {', '.join(map(str, sorted(statuses)))} in {max(answered):.2f} s; another tenant's files "
                f"{max(others):.3f} s, revocation {max(revoked):.3f} s (bar {OTHERS_BAR_S:g} s)"
            )
            if max(*others, *revoked) > OTHERS_BAR_S:
                detail += ": MISSED"
            rows.append(
                Row(
                    what=f"longest wait of /healthz: {what}", value=max(gaps), unit="ms", bar=GAP_BAR_MS,
                    lower_is_better=True, detail=detail,
                )
            )  # fmt: skip
    finally:
        server.stop()
    return rows


def hang(folder: Path, rounds: int) -> list[Row]:
    """Return when a host that was stopped is noticed, and when what waited has its answers."""
    server = start_served(
        folder / "hang", (), store=None, port=free_port(), grpc_port=free_port(), config=HANG, options=["--offline"]
    )
    noticed, answered = [], []
    try:
        for at in range(rounds):
            topology = json.loads((server.home / "run" / "topology.json").read_text())
            sockets = next(one["sockets"] for one in topology["models"] if one["alias"] == "pair")
            (pid,) = processes_of(server.home, "ashore.data.engines.host", sockets[at % 2])
            told = server.said().count("it hung: ")
            with ThreadPoolExecutor(16) as pool:
                long = [pool.submit(post, server, server.key, chat("pair", f"story {at} {n}", 400)) for n in range(4)]
                time.sleep(0.5)  # each has begun somewhere
                began_s = time.monotonic()
                os.kill(pid, signal.SIGSTOP)
                fresh = [pool.submit(post, server, server.key, chat("pair", f"new {at} {n}", 2)) for n in range(8)]
                while server.said().count("it hung: ") == told and time.monotonic() - began_s < 60:
                    time.sleep(0.02)
                noticed.append(time.monotonic() - began_s)
                assert [one.result() for one in fresh] == [200] * 8
                answered.append(time.monotonic() - began_s)
                for one in long:
                    one.result()
            server.wait_ready()
            time.sleep(3)  # the new host is there, and has lived for a while
    finally:
        server.stop()

    def row(what: str, found: Sequence[float], bar: float) -> Row:
        shown = ", ".join(f"{one:.1f}" for one in found)
        return Row(what=what, value=max(found), unit="s", bar=bar, lower_is_better=True, detail=f"each: {shown} s")

    return [
        row("an engine host stopped with orders is noticed", noticed, NOTICED_BAR_S),
        row("eight requests sent then are all answered", answered, ANSWERED_BAR_S),
    ]


CASES: dict[str, Callable[[Path, int], list[Row]]] = {"prompts": prompts, "hang": hang}


def main() -> int:
    """Run the cases; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    missed = False
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="hostile.") as folder:
        for name in given.only.split(","):
            for one in CASES[name](Path(folder), given.rounds):
                print(" | ".join(one.cells()), flush=True)
                missed = missed or one.verdict == "MISSED" or one.detail.endswith("MISSED")
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
