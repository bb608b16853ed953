"""A server with two releases of one alias, and clients that ask it, for the benchmark of switching."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from release_load import Asked, ask

ALIAS = "chat"
READY_S = 600.0
LONGEST_ANSWER_S = 300.0


class Server:
    """A running `ashore up`."""

    def __init__(self, home: Path, model: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = home
        (home / "ashore.toml").write_text(
            f'[[model]]\nname = "{model}"\nalias = "{ALIAS}"\n[grpc]\nport = 0\n[cache]\nmode = "off"\n'
        )
        self.process = subprocess.Popen(
            command("up", "--port", str(self.port), "--config", str(home / "ashore.toml")),
            env={**os.environ, "ASHORE_HOME": str(home)},
            stdout=(home / "up.out").open("wb"),
            stderr=subprocess.STDOUT,
        )
        end_s = time.monotonic() + READY_S
        while self.call("GET", "/readyz", "")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > end_s:
                self.process.kill()
                raise SystemExit((home / "up.out").read_text())
            time.sleep(0.1)
        self.key = self._owner()

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

    def must(self, method: str, path: str, body: object = None, *, key: str = "") -> Any:
        """Send one request as the owner; what is not answered 200 ends the benchmark."""
        status, answer = self.call(method, path, key or self.key, body)
        if status != 200:
            raise SystemExit(f"{method} {path}: {status} {answer}")
        return answer

    def _owner(self) -> str:
        """Return the key of a model owner, made by a security officer."""
        key = (self.home / "first-key").read_text().strip()
        for user, role in (("sec", "security-officer"), ("owner", "model-owner")):
            body = {"id": user, "roles": [role], "key": {}}
            key = self.must("POST", "/admin/v1/users", body, key=key)["key"]["key"]
        return str(key)

    def ask(self, text: str, *, tokens: int) -> Asked:
        """Stream one answer of so many tokens to its end."""
        return ask(
            self, self.key, ALIAS, text, tokens=tokens, timeout_s=LONGEST_ANSWER_S, ignore_eos=True, temperature=0
        )

    def state(self, release: str) -> str:
        return str(self.must("GET", f"/admin/v1/releases/{release}")["state"])

    def wait(self, release: str, *states: str) -> None:
        """Return when a release is in one of these states, and every worker knows."""
        end_s = time.monotonic() + READY_S
        while self.state(release) not in states:
            if time.monotonic() > end_s:
                raise SystemExit(f"{release} is {self.state(release)}, not {' or '.join(states)}, after {READY_S:g} s")
            time.sleep(0.1)
        time.sleep(0.5)

    def host(self, release: str) -> int:
        """Return the process of the host behind a release; 0 while there is none."""
        topology = json.loads((self.home / "run" / "topology.json").read_text())
        sockets = {one["sockets"][0] for one in (*topology["models"], *topology["beside"]) if one["release"] == release}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if sockets & set(words):
                    return int(folder.name)
        return 0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)


def command(*words: str) -> list[str]:
    """Return the words that run `ashore` with this Python."""
    return [sys.executable, "-m", "ashore.cli.main", *words]


def known_models(home: Path) -> set[str]:
    """Return the references of the models and variants in the store of a home."""
    environment = {**os.environ, "ASHORE_HOME": str(home)}
    listed = subprocess.run(command("model", "list", "--json"), env=environment, stdout=subprocess.PIPE, check=True)
    return {one["reference"] for one in json.loads(listed.stdout)["items"]}


def prepare_models(home: Path, name: str, variants: tuple[str, ...], *, source: str = "") -> None:
    """Bring a model, from `source` or by its name, and the variants of it into the store of a home. What is there
    already stays."""
    environment = {**os.environ, "ASHORE_HOME": str(home)}
    known = known_models(home)
    if name not in known:
        subprocess.run(command("model", "pull", source or name, "--name", name), env=environment, check=True)
    for variant in variants:
        if f"{name}@{variant}" not in known:
            subprocess.run(command("optimize", "quantize", name, "--to", variant), env=environment, check=True)


@contextmanager
def streams(server: Server, count: int, *, tokens: int) -> Iterator[list[Asked]]:
    """Keep so many clients asking, each the next question when it has its answer. The list grows until they are done.

    Entering returns when each has had time for its first answer to begin.
    """
    asked: list[Asked] = []
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            asked.append(server.ask(f"stream {number}, turn {turn}", tokens=tokens))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    try:
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def arrivals(server: Server, rate_per_s: float, seconds: float, *, tokens: int, seed: int) -> list[Asked]:
    """Ask at times that chance draws, whether answers are there or not, and return all. One seed, one schedule; no two
    questions begin alike, so that no prompt is known from an earlier window."""
    draws = random.Random(seed)
    asked: list[Asked] = []
    threads = []
    due_s, end_s, number = time.monotonic(), time.monotonic() + seconds, 0
    while (due_s := due_s + draws.expovariate(rate_per_s)) < end_s:
        number += 1
        time.sleep(max(0.0, due_s - time.monotonic()))
        text = f"{time.time_ns()}: schedule {seed}, question {number}"
        threads.append(threading.Thread(target=lambda said=text: asked.append(server.ask(said, tokens=tokens))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return asked
