"""How quickly an alias is led elsewhere under load, what that costs, and how soon a standby answers after a crash.

    python -m benchmarks.release_switch [--model NAME] [--other NAME] [--streams 16] [--rounds 20]

Starts `ashore up` in a folder of its own with two releases of one alias, keeps streams running, promotes and rolls back
in turn, then kills the host of what is live. Prints JSON. Without `--model` the fake engine answers, which measures the
switch and not an engine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALIAS = "chat"
SETTLE_S = 0.6
"""Between two switches, so that both releases have begun requests."""
FAKE = ("fake:random?tok_per_s=100&tokens=16", "fake:random?tok_per_s=100&tokens=16&seed=2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of the load."""

    began_s: float
    ended_s: float
    release: str
    whole: bool
    status: int


class Server:
    """A running `ashore up`."""

    def __init__(self, folder: Path, model: str, *, store: Path | None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = folder / "home"
        self.home.mkdir()
        if store is not None:
            (self.home / "store").symlink_to(store)
        (self.home / "ashore.toml").write_text(
            f'[[model]]\nname = "{model}"\nalias = "{ALIAS}"\n[grpc]\nport = 0\n[cache]\nmode = "off"\n'
        )
        words = ["up", "--port", str(self.port), "--config", str(self.home / "ashore.toml")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ashore.cli.main", *words],
            env={**os.environ, "ASHORE_HOME": str(self.home)},
            stdout=(self.home / "up.out").open("wb"),
            stderr=subprocess.STDOUT,
        )
        end_s = time.monotonic() + 300
        while self.call("GET", "/readyz", "")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit((self.home / "up.out").read_text())
            time.sleep(0.1)

    def call(self, method: str, path: str, key: str, body: object = None) -> tuple[int, Any]:
        """Send one request; status 0 where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            read = answer.read()
            return answer.status, json.loads(read) if read.startswith((b"{", b"[")) else read
        except OSError:
            return 0, None
        finally:
            connection.close()

    def must(self, method: str, path: str, key: str, body: object = None) -> Any:
        status, answer = self.call(method, path, key, body)
        if status != 200:
            raise SystemExit(f"{method} {path}: {status} {answer}")
        return answer

    def owner(self) -> str:
        """Return the key of a model owner, made by a security officer."""
        key = (self.home / "first-key").read_text().strip()
        for user, role in (("sec", "security-officer"), ("owner", "model-owner")):
            body = {"id": user, "roles": [role], "key": {}}
            key = self.must("POST", "/admin/v1/users", key, body)["key"]["key"]
        return str(key)

    def ask(self, key: str, text: str) -> Asked:
        """Stream one answer to its end."""
        began_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        status, release, whole = 0, "", False
        try:
            body = {
                "model": ALIAS, "stream": True, "max_tokens": 16, "messages": [{"role": "user", "content": text}],
            }  # fmt: skip
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            status, release = answer.status, answer.getheader("x-ashore-release") or ""
            whole = answer.read().rstrip().endswith(b"data: [DONE]")
        except (OSError, http.client.HTTPException):
            whole = False
        finally:
            connection.close()
        return Asked(began_s=began_s, ended_s=time.monotonic(), release=release, whole=whole, status=status)

    def hosts(self) -> dict[str, int]:
        """Return the process of the host behind each release."""
        topology = json.loads((self.home / "run" / "topology.json").read_text())
        sockets = {one["sockets"][0]: one["release"] for one in (*topology["models"], *topology.get("beside", ()))}
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                found.update({sockets[word]: int(folder.name) for word in words if word in sockets})
        return found


def measure(server: Server, other: str, *, streams: int, rounds: int) -> dict[str, Any]:
    """Switch to and fro under load, then kill what is live."""
    key = server.owner()
    made = server.must("POST", "/admin/v1/releases", key, {"alias": ALIAS, "model": other})["name"]
    first = f"{ALIAS}-1"
    server.must("POST", f"/admin/v1/releases/{made}/shadow", key, {"share_percent": 0.1})
    while server.must("GET", f"/admin/v1/releases/{made}", key)["state"] == "warming":
        time.sleep(0.1)
    time.sleep(1.0)
    asked: list[Asked] = []
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            asked.append(server.ask(key, f"stream {number}, turn {turn}"))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    switches = []
    for turn in range(2 * rounds):
        old, verb = (first, "promote") if turn % 2 == 0 else (made, "rollback")
        path = f"/admin/v1/releases/{made}/promote" if verb == "promote" else f"/admin/v1/aliases/{ALIAS}/rollback"
        began_s = time.monotonic()
        server.must("POST", path, key, {})
        switches.append((verb, old, began_s, time.monotonic()))
        time.sleep(SETTLE_S)
    server.must("POST", f"/admin/v1/releases/{made}/promote", key, {})
    time.sleep(SETTLE_S)
    stop.set()
    for thread in threads:
        thread.join()
    lasts: dict[str, list[float]] = {"promote": [], "rollback": []}
    for verb, old, began_s, ended_s in switches:
        late = [one.began_s - began_s for one in asked
                if one.release == old and began_s < one.began_s < ended_s + SETTLE_S]  # fmt: skip
        lasts[verb].append(max(late, default=0.0) * 1e3)
    broken = [one for one in asked if not one.whole]
    os.kill(server.hosts()[made], signal.SIGKILL)
    killed_s = time.monotonic()
    one = server.ask(key, "who answers?")
    while not one.whole:
        one = server.ask(key, "who answers?")
    return {
        "requests": len(asked),
        "failed_or_cut": len(broken),
        "by_release": {name: sum(one.release == name for one in asked) for name in (first, made)},
        "command_ms_median": statistics.median((ended - began) * 1e3 for _, _, began, ended in switches),
        **{f"last_new_request_on_the_old_ms_after_{verb}": summary(values) for verb, values in lasts.items()},
        "crash_to_whole_answer_s": round(one.ended_s - killed_s, 3),
        "answered_by": one.release,
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return median and largest, which is the 99th percentile of twenty."""
    return {"median": round(statistics.median(values), 1), "max": round(max(values), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=FAKE[0])
    parser.add_argument("--other", default="")
    parser.add_argument("--store", type=Path, help="a store that has the models")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    other = given.other or (FAKE[1] if given.model == FAKE[0] else given.model)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), given.model, store=given.store)
        try:
            found = measure(server, other, streams=given.streams, rounds=given.rounds)
        finally:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
    print(json.dumps({"model": given.model, "other": other, "streams": given.streams, **found}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
