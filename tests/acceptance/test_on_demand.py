"""Models on demand under `ashore up`, with fake engines: loaded when asked for, one load for all, room made, told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from home_processes import processes_of
from served import Served, call, host_of, owner_key
from tiny_models import make_tiny_model
from waiting import eventually

MODELS = {
    "always": ("fake:echo", ""),
    "one": ("fake:echo?load_s=0.5&memory_bytes=1000", "keep_alive_s = 0"),
    "two": ("fake:echo?load_s=0.6&memory_bytes=1000", "keep_alive_s = 0"),
    "slow": ("fake:echo?load_s=6&memory_bytes=1000", "keep_alive_s = 0"),
    "brief": ("fake:echo?load_s=0.1&memory_bytes=1", "keep_alive_s = 1"),
    "dozes": ("fake:echo?load_s=0.5&memory_bytes=10&sleeps=1&wake_s=0.2&asleep_bytes=1", "keep_alive_s = 1"),
    "never": ("fake:echo?sleeps=1&fail_wake=1", "keep_alive_s = 1"),
    "talks": ("fake:random?tok_per_s=20&tokens=60&memory_bytes=2000", "keep_alive_s = 0"),
    "broken": ("fake:echo?fail_load=1", ""),
    "huge": ("fake:echo?memory_bytes=9000", ""),
}


def config() -> str:
    lines = ["[http]", "ollama = true", "[tiers]", "memory_bytes = 2001", "serve_pulled = false"]
    for alias, (name, rest) in MODELS.items():
        load = "start" if alias == "always" else "demand"
        lines += ["[[model]]", f'name = "{name}"', f'alias = "{alias}"', f'load = "{load}"', rest]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def house(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all(config=config())


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return owner_key(house)


def ask(house: Served, key: str, model: str, text: str = "hello", **more: Any) -> str:
    request = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    answer = call(house, "POST", "/v1/chat/completions", key, request)
    return str(answer["choices"][0]["message"]["content"])


def refused(house: Served, key: str, model: str) -> tuple[int, str, float]:
    """Return status, message and `retry-after` of what a request gets that fails."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{house.base_url}/chat/completions", data=body, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request, timeout=60):
        pass
    with caught.value as answer:
        return answer.code, json.load(answer)["error"]["message"], float(answer.headers["retry-after"])


def residents(house: Served, key: str) -> dict[str, dict[str, Any]]:
    return {one["alias"]: one for one in call(house, "GET", "/admin/v1/models", key)["items"]}


def listed(house: Served, key: str) -> dict[str, str]:
    """Return how each model stands, as clients are told."""
    return {one["id"]: one["state"] for one in call(house, "GET", "/v1/models", key)["data"]}


def state(house: Served, key: str, alias: str) -> str:
    return str(residents(house, key)[alias]["state"])


def cool(house: Served, key: str, *aliases: str) -> None:
    for alias in aliases:
        call(house, "POST", f"/admin/v1/models/{alias}/cool", key, {})
        eventually(lambda alias=alias: state(house, key, alias) == "cold", 10)  # type: ignore[misc]


def test_at_the_start_only_what_is_always_there_is_loaded_and_all_are_listed(house: Served, key: str) -> None:
    assert len(processes_of(house.home, "ashore.data.engines.host")) == 1
    listed = {one["id"]: one for one in call(house, "GET", "/v1/models", key)["data"]}
    assert set(listed) == set(MODELS)
    assert {one["state"] for name, one in listed.items() if name != "always"} == {"cold"}
    assert all(one["ready"] for one in listed.values())
    assert len(call(house, "GET", "/api/tags", key)["models"]) == len(MODELS)
    assert [one["name"] for one in call(house, "GET", "/api/ps", key)["models"]] == ["always"]


def test_fifty_who_ask_at_once_wait_for_one_load(house: Served, key: str) -> None:
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda number: ask(house, key, "one", f"hello {number}"), range(50)))
    assert answers == [f"hello {number}" for number in range(50)]
    assert residents(house, key)["one"]["loads"] == 1
    assert house.said().count("loading release one-1") == 1


def test_the_least_used_makes_room_and_comes_back_when_it_is_asked(house: Served, key: str) -> None:
    for number in range(5):
        ask(house, key, "one", f"again {number}")
    ask(house, key, "two")
    assert (state(house, key, "one"), state(house, key, "two")) == ("loaded", "loaded")
    order = {name: one["evict_order"] for name, one in residents(house, key).items() if one["evict_order"]}
    assert order == {"two": 1, "one": 2}
    eventually(lambda: (two := residents(house, key)["two"])["idle_s"] > two["load_s"] + 0.5)  # it may go again
    assert ask(house, key, "slow", "third") == "third"
    found = residents(house, key)
    assert (found["two"]["unloads"], found["one"]["unloads"]) == (1, 0)
    cool(house, key, "one", "slow")


def test_a_stream_gets_comments_while_its_model_loads(house: Served, key: str) -> None:
    body = json.dumps({"model": "slow", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.port), timeout=60) as client:
        client.sendall((head + body).encode())
        said = b""
        while piece := client.recv(65_536):
            said += piece
    text = said.decode()
    assert text.startswith("HTTP/1.1 200") and ": loading\n\n" in text
    assert text.index(": loading") < text.index('"content":"h') and "data: [DONE]" in text
    cool(house, key, "slow")


def test_one_that_answers_is_not_unloaded_under_its_answer(house: Served, key: str) -> None:
    pieces: list[str] = []

    def stream() -> None:
        pieces.append(ask(house, key, "talks", max_tokens=60))

    talking = threading.Thread(target=stream)
    talking.start()
    eventually(lambda: state(house, key, "talks") == "loaded", 10)
    time.sleep(0.3)
    assert ask(house, key, "one") == "hello", "it waits until the answer is whole"
    talking.join()
    assert pieces and residents(house, key)["talks"]["unloads"] == 1
    cool(house, key, "one")


def test_a_load_that_fails_tells_everybody_why_and_is_not_tried_at_once(house: Served, key: str) -> None:
    with ThreadPoolExecutor(10) as crowd:
        found = list(crowd.map(lambda number: refused(house, key, "broken"), range(10)))
    assert {status for status, _, _ in found} == {503}
    assert all("loading fails, as requested by fail_load" in message for _, message, _ in found)
    began = time.monotonic()
    status, message, retry_after_s = refused(house, key, "broken")
    assert time.monotonic() - began < 5.0 and status == 503 and "fail_load" in message and 1 <= retry_after_s <= 10
    assert house.said().count("loading release broken-1") == 1
    assert house.ready(), "one that cannot be loaded does not take the others out of the line"


def test_one_that_can_never_fit_is_refused_with_the_figures(house: Served, key: str) -> None:
    status, message, _ = refused(house, key, "huge")
    assert status == 503 and "it needs 8.79 KiB; of the 1.95 KiB for all models" in message


def test_who_has_nothing_left_of_a_budget_has_nothing_loaded(house: Served, key: str) -> None:
    asked = {"id": "adm", "roles": ["system-administrator"], "key": {}}
    admin = call(house, "POST", "/admin/v1/users", house.key, asked)["key"]["key"]
    budget = {"kind": "requests", "cap": 0, "window": "day", "model": "one"}
    made = call(house, "PUT", "/admin/v1/budgets", admin, budget)
    cool(house, key, "one")
    before = residents(house, key)["one"]["loads"]
    try:
        with pytest.raises(urllib.error.HTTPError, match="429"):
            ask(house, key, "one")
        assert residents(house, key)["one"]["loads"] == before and state(house, key, "one") == "cold"
    finally:
        call(house, "DELETE", f"/admin/v1/budgets/{made['id']}", admin)
    assert ask(house, key, "one") == "hello"
    cool(house, key, "one")


def test_an_idle_one_is_let_go_after_its_time_and_its_memory_is_back(house: Served, key: str) -> None:
    assert ask(house, key, "brief") == "hello"
    assert len(processes_of(house.home, "ashore.data.engines.host")) == 2
    eventually(lambda: state(house, key, "brief") == "cold", 10)
    eventually(lambda: len(processes_of(house.home, "ashore.data.engines.host")) == 1, 5)
    assert ask(house, key, "brief", "again") == "again"
    eventually(lambda: state(house, key, "brief") == "cold", 10)


def test_one_whose_engine_can_sleep_sleeps_when_it_is_idle_and_is_woken_by_a_request(house: Served, key: str) -> None:
    assert ask(house, key, "dozes", "first") == "first"
    host = host_of(house, "dozes-1")
    eventually(lambda: state(house, key, "dozes") == "asleep")
    one = residents(house, key)["dozes"]
    assert (one["memory_bytes"], one["tier"], one["loads"], one["unloads"]) == (1, "memory", 1, 0)
    eventually(lambda: listed(house, key)["dozes"] == "asleep")
    with ThreadPoolExecutor(8) as crowd:
        assert list(crowd.map(lambda n: ask(house, key, "dozes", f"again {n}"), range(8))) == [
            f"again {n}" for n in range(8)
        ]
    assert host_of(house, "dozes-1") == host, "the same process goes on"
    one = residents(house, key)["dozes"]
    assert (one["state"], one["loads"]) == ("loaded", 1) and one["wake_s"] >= 0.2
    eventually(lambda: state(house, key, "dozes") == "asleep")
    os.kill(host, signal.SIGKILL)
    eventually(lambda: state(house, key, "dozes") == "cold")
    assert ask(house, key, "dozes", "once more") == "once more"
    cool(house, key, "dozes")


def test_one_that_does_not_wake_up_is_loaded_anew(house: Served, key: str) -> None:
    assert ask(house, key, "never", "first") == "first"
    eventually(lambda: state(house, key, "never") == "asleep")
    assert ask(house, key, "never", "second") == "second"
    [why] = [line for line in house.said().splitlines() if line.startswith("release never-1 is unloaded instead")]
    assert "it does not wake up" in why
    assert residents(house, key)["never"]["loads"] == 2
    cool(house, key, "never")


def test_operators_warm_pin_and_cool(house: Served, key: str) -> None:
    call(house, "POST", "/admin/v1/models/one/pin", key, {})
    eventually(lambda: state(house, key, "one") == "loaded", 10)
    assert residents(house, key)["one"]["pin"]
    ashore = [sys.executable, "-m", "ashore.cli.main", "model"]
    environment = {**os.environ, "ASHORE_HOME": str(house.home), "ASHORE_API_KEY": key}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*ashore, *words], env=environment, capture_output=True, text=True, check=False)

    said = run("cool", "one")
    assert said.returncode != 0 and "one is pinned" in said.stderr and "ashore model unpin one" in said.stderr
    assert run("unpin", "one").returncode == 0
    assert run("cool", "one").stdout == "one is cold, on disk\n"
    assert run("warm", "one").stdout == "one is loaded, in memory\n"
    table = run("ps").stdout
    assert "planned 1000 B of 1.95 KiB for all models" in table
    items = json.loads(run("ps", "--json").stdout)["items"]
    assert {one["alias"] for one in items} == set(MODELS)
    said = run("warm", "nothing")
    assert said.returncode != 0 and "'nothing' is not a model on demand" in said.stderr
    said = run("cool", "one", "--to", "s3")
    assert said.returncode != 0 and "there is no bucket for weights" in said.stderr
    cool(house, key, "one")


def test_what_comes_and_goes_is_counted(house: Served, key: str) -> None:
    page = urllib.request.urlopen(f"{house.root_url}/metrics").read().decode()
    assert 'ashore_model_loaded{model="one"} 0.0' in page
    assert 'ashore_model_failed_loads{model="broken"} 1.0' in page
    loads = next(line for line in page.splitlines() if line.startswith('ashore_model_loads{model="one"}'))
    assert float(loads.split()[-1]) >= 3


def test_a_model_that_is_pulled_is_served_without_a_restart(served: Callable[..., Served], tmp_path: Path) -> None:
    files = '[tiers]\nserve_pulled = true\n[[model]]\nname = "fake:echo"\nalias = "always"\n'
    house = served(config=files)
    environment = {**os.environ, "ASHORE_HOME": str(house.home)}
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    words = [sys.executable, "-m", "ashore.cli.main", "model", "pull", str(folder), "--name", "tiny"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "+ tiny: tiny" in said.stdout
    request = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    answer = call(house, "POST", "/v1/chat/completions", house.key, request)
    assert answer["system_fingerprint"] == "tiny-1" and answer["usage"]["completion_tokens"] >= 1
