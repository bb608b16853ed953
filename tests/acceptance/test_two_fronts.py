"""Two servers on one Postgres and one Valkey: what is changed at one is in force at the other, and each keeps its own
audit log. Engine nodes that join at one answer at both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from engine_servers import engine_server
from postgres_server import fresh_database, postgres_server
from served import Served, call, start_served
from tiny_models import make_tiny_model
from valkey_server import ValkeyServer
from waiting import eventually

IN_FORCE_S = 1.0
"""From the answer to a change at one server to the last request at the other that goes by what was before."""
CAP = 40
"""Requests that a tenant may make in all."""


@dataclass(frozen=True)
class Fronts:
    """Both servers, and a key of each office."""

    a: Served
    b: Served
    security: str
    system: str


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Fronts]:
    """Start two servers, each with a home of its own."""
    folder = tmp_path_factory.mktemp("fronts")
    running: list[Served] = []
    (folder / "valkey").mkdir()
    valkey = ValkeyServer(folder / "valkey", port=free_port()).start()
    try:
        with postgres_server() as url:
            (make_tiny_model(folder / "text", "llama") / "model.safetensors").unlink()
            config = f'[[model]]\nname = "fake:echo"\nalias = "chat"\n[redis]\nurl = "{valkey.url}"\n'
            config += f'timeout_ms = 500\n[state]\nurl = "{fresh_database(url, "two_fronts")}"\n'
            config += f'[[model]]\nname = "{folder / "text"}"\nalias = "far"\n[model.engine]\nfleet = true\n'
            config += 'options = { served_model_name = "far" }\n[fleet]\nnetworks = ["127.0.0.0/8"]\n'
            for name in ("a", "b"):
                port = free_port()
                running.append(
                    start_served(folder / name, (), store=None, port=port, grpc_port=0, config=config, wait=False)
                )
            for one in running:
                one.wait_ready()
            keys = []
            for user, role in (("sec", "security-officer"), ("sys", "system-administrator")):
                made = call(
                    running[0], "POST", "/admin/v1/users", (keys or [running[0].key])[0],
                    {"id": user, "roles": [role], "key": {}},
                )  # fmt: skip
                keys.append(made["key"]["key"])
            yield Fronts(running[0], running[1], *keys)
            for one in running:
                assert one.stop() == 0
    finally:
        for one in running:
            one.stop()
        valkey.kill()


def make_user(fronts: Fronts, name: str) -> str:
    """Make a developer at the first server, wait until both processes of the second one know it, and return the key."""
    wish = {"id": name, "roles": ["developer"], "key": {}}
    key = str(call(fronts.a, "POST", "/admin/v1/users", fronts.security, wish)["key"]["key"])
    eventually(lambda: ask(fronts.b, key, f"is {name} known?")[0] == 200)
    eventually(lambda: is_known(fronts.b, key, name))
    return key


def is_known(server: Served, key: str, name: str) -> bool:
    """Return whether the control process knows somebody's key."""
    try:
        call(server, "GET", f"/admin/v1/keys?owner={name}", key)
    except urllib.error.HTTPError as refused:
        assert refused.code == 401
        return False
    return True


def ask(server: Served, key: str, text: str) -> tuple[int, str]:
    """Return the status of a short question, and what the server says of its cache."""
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 20, "temperature": 0}
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions", json.dumps(body).encode(), {"authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return answer.status, str(answer.headers.get("x-ashore-cache"))
    except urllib.error.HTTPError as refused:
        refused.read()
        return refused.code, ""


def last_seen(seen: Callable[[], bool], for_s: float = 1.5) -> float:
    """Look for a while, and return how long after the beginning something was seen last; 0: not at all."""
    began_s, last_s = time.monotonic(), 0.0
    while (at_s := time.monotonic()) < began_s + for_s:
        last_s = at_s - began_s if seen() else last_s
    return last_s


def test_a_key_made_at_one_server_is_good_at_the_other_until_it_is_revoked(fronts: Fronts) -> None:
    key = make_user(fronts, "ann")
    assert ask(fronts.a, key, "hello")[0] == 200
    [made] = call(fronts.b, "GET", "/admin/v1/keys?owner=ann", key)["items"]
    call(fronts.a, "DELETE", f"/admin/v1/keys/{made['id']}", fronts.security)
    late_s = last_seen(lambda: ask(fronts.b, key, "hello")[0] == 200)
    assert late_s <= IN_FORCE_S, f"a revoked key was good for {late_s:.2f} s at the other server"
    assert ask(fronts.a, key, "hello")[0] == 401


def test_a_budget_is_one_for_both_servers(fronts: Fronts) -> None:
    key = make_user(fronts, "bob")
    budget = {"kind": "requests", "cap": CAP, "user": "bob"}
    call(fronts.a, "PUT", "/admin/v1/budgets", fronts.system, budget)
    with ThreadPoolExecutor(8) as pool:
        turns = [(fronts.a, fronts.b)[number % 2] for number in range(2 * CAP)]
        seen = [one for one, _ in pool.map(lambda turn: ask(turn[1], key, f"question {turn[0]}"), enumerate(turns))]
    assert set(seen) == {200, 429}
    assert seen.count(200) <= CAP, f"{seen.count(200)} requests were let in by a budget of {CAP}"


def test_an_answer_is_cached_for_both_until_it_is_purged_at_one(fronts: Fronts) -> None:
    key = make_user(fronts, "cleo")
    assert ask(fronts.a, key, "what is kept?") == (200, "miss")
    eventually(lambda: ask(fronts.b, key, "what is kept?") == (200, "hit-exact"))
    call(fronts.a, "POST", "/admin/v1/cache/purge", fronts.system, {"all": True})
    purged_s = time.monotonic()
    seen = []
    while not seen or seen[-1] != "miss":
        seen.append(ask(fronts.b, key, "what is kept?")[1])
        assert time.monotonic() < purged_s + IN_FORCE_S, f"a purged answer is found a second later: {seen}"


def test_each_server_has_an_audit_log_of_its_own_and_nobody_else_in_its_home(fronts: Fronts) -> None:
    for server in (fronts.a, fronts.b):
        verified = subprocess.run(
            [sys.executable, "-m", "ashore.cli.main", "audit", "verify"],
            env={**os.environ, "ASHORE_HOME": str(server.home)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stdout + verified.stderr
    second = subprocess.run(
        [sys.executable, "-m", "ashore.cli.main", "up", "--config", str(fronts.a.home / "ashore.toml"), "--port", "0"],
        env={**os.environ, "ASHORE_HOME": str(fronts.a.home)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert second.returncode != 0
    assert "is in use by process" in second.stderr, second.stderr


@dataclass
class Load:
    """Streams that are asked for at both servers without a pause, and how each ended."""

    fronts: Fronts
    key: str
    stop: threading.Event
    ends: list[str] = field(default_factory=list)
    """`whole`, `cut`, or the status of a refusal."""

    def run(self, number: int) -> None:
        server = (self.fronts.a, self.fronts.b)[number % 2]
        while not self.stop.is_set():
            self.ends.append(stream(server, self.key))


def stream(server: Served, key: str) -> str:
    """Ask for a streamed answer, and return how it ended."""
    body = {"model": "far", "prompt": "abc", "max_tokens": 24, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.base_url}/completions", json.dumps(body).encode(), {"authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            lines = answer.read().decode().split("\n\n")
    except urllib.error.HTTPError as refused:
        return f"{refused.code} {refused.read().decode()[:200]}"
    return "whole" if "data: [DONE]" in lines and '"error"' not in "".join(lines) else f"cut: {lines[-3:]}"


@contextmanager
def load(fronts: Fronts, key: str, streams: int) -> Iterator[Load]:
    """Keep streams running at both servers until the end of the block."""
    one = Load(fronts, key, threading.Event())
    with ThreadPoolExecutor(streams) as pool:
        running = [pool.submit(one.run, number) for number in range(streams)]
        try:
            yield one
        finally:
            one.stop.set()
    for ended in running:
        ended.result()


def orders(server: Served, url: str) -> float:
    """Return how many orders a server has sent to a node."""
    with urllib.request.urlopen(f"{server.root_url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    found = [one for one in lines if one.startswith("ashore_host_backend_orders_total{") and url in one]
    return sum(float(one.rpartition(" ")[2]) for one in found)


def test_nodes_that_join_at_one_server_answer_at_both_and_drain_without_a_loss(
    fronts: Fronts, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    key = make_user(fronts, "dora")
    nodes = "/admin/v1/fleet/nodes"
    slow = "fake:random?tok_per_s=60&tokens=400&context=512"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        call(fronts.a, "PUT", f"{nodes}/x", fronts.system, {"address": "http://10.1.1.1:80", "model": "far"})
    with ExitStack() as stack:
        urls = {}
        for name in ("one", "two"):
            words = (slow, "--served-model-name", "far")
            urls[name] = stack.enter_context(engine_server(tmp_path / name, free_port(), *words)).url
            joined = call(fronts.a, "PUT", f"{nodes}/{name}", fronts.system, {"address": urls[name], "model": "far"})
            assert joined["items"][0]["state"] == "ready", joined
        for server in (fronts.a, fronts.b):
            eventually(lambda at=server: stream(at, key) == "whole")
        with load(fronts, key, 8) as asked:
            eventually(lambda: all(orders(at, url) > 1 for at in (fronts.a, fronts.b) for url in urls.values()))
            drained = call(fronts.b, "POST", f"{nodes}/one/drain", fronts.system, {"wait_s": 25})
            assert (drained["items"][0]["state"], drained["items"][0]["running"]) == ("drained", 0)
            before = [orders(at, urls["one"]) for at in (fronts.a, fronts.b)]
            done = len(asked.ends)
            eventually(lambda: len(asked.ends) > done + 16)
            assert [orders(at, urls["one"]) for at in (fronts.a, fronts.b)] == before, "a drained node got an order"
            call(fronts.a, "POST", f"{nodes}/one/undrain", fronts.system)
            eventually(
                lambda: all(orders(at, urls["one"]) > was for at, was in zip((fronts.a, fronts.b), before, strict=True))
            )
            call(fronts.a, "DELETE", f"{nodes}/two", fronts.system)
            done = len(asked.ends)
            eventually(lambda: len(asked.ends) > done + 16)
        assert set(asked.ends) == {"whole"}, [one for one in asked.ends if one != "whole"][:3]
        seen = call(fronts.b, "GET", "/admin/v1/fleet", fronts.system)
        assert [(one["node"], one["state"]) for one in seen["nodes"]] == [("one", "ready")]
        assert [one["state"] for one in seen["servers"]] == ["alive", "alive"]
