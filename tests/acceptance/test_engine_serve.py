"""`ashore engine serve`: one engine in vLLM's form, asked by hand, by the vllm engine, and by ashore in front of it."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_bench import failure, finish, order, run, token_ids
from engine_servers import Server, engine_server
from node_lists import nodes_at
from tiny_models import make_tiny_model
from waiting import eventually

from ashore.data.engines import FLEET_FILE, FLEET_IDENTITY, EngineOptions, ModelFiles, Token
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.vllm.engine import VllmEngine
from ashore.machine.edge import make_node_certificate

NAME = "fake:random?context=512&tokens=400"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Server]:
    with engine_server(tmp_path_factory.mktemp("home"), free_port(), NAME, "--served-model-name", "m") as one:
        yield one


@pytest.fixture
def engine(server: Server) -> Iterator[VllmEngine]:
    one = VllmEngine()
    files = ModelFiles(name="m", digest="", directory="/nowhere", format="remote")
    one.load(files, EngineOptions(kind="vllm", extra=nodes_at(server.url)))
    yield one
    one.close()


def test_the_vllm_engine_gets_the_tokens_that_the_engine_behind_it_makes(engine: VllmEngine, tmp_path: Path) -> None:
    direct = FakeEngine()
    direct.load(fake_model_files(NAME, tmp_path), EngineOptions(kind="fake"))
    for number in range(5):
        one = order("a", [7, number + 1], top_logprobs=2)
        here, there = run(direct, one)["a"], run(engine, one)["a"]
        assert token_ids(there) == token_ids(here)
        assert [e.top for e in there if isinstance(e, Token)] == [e.top for e in here if isinstance(e, Token)]
        assert finish(there).reason == finish(here).reason
    stop = token_ids(here)[4]
    ended = run(engine, order("s", [7, 5], stop_token_ids=(stop,)))["s"]
    assert (finish(ended).stop_token_id, token_ids(ended)) == (stop, token_ids(here)[: token_ids(here).index(stop)])
    assert failure(run(engine, order("g", [7], top_logprobs=2, adapter=None, max_new_tokens=5000))["g"]).code == (
        "context_length_exceeded"
    )


def test_a_prefix_is_shared_between_requests_of_one_salt_only(server: Server) -> None:
    def cached(salt: str) -> int:
        body = {"model": "m", "prompt": list(range(1, 200)), "max_tokens": 1, "cache_salt": salt}
        return int(server.ask("/v1/completions", body)["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached("bank-a") == 0
    assert cached("bank-a") > 100
    assert cached("bank-b") == 0


def test_the_other_routes_are_those_of_vllm(server: Server) -> None:
    [model] = server.ask("/v1/models")["data"]
    assert (model["id"], model["max_model_len"]) == ("m", 512)
    assert server.ask("/tokenize", {"prompt": "abc"})["tokens"] == [97, 98, 99]
    assert server.ask("/version")["version"]
    whole = server.ask("/v1/completions", {"model": "m", "prompt": [5, 6], "max_tokens": 3, "return_token_ids": True})
    assert len(whole["choices"][0]["token_ids"]) == 3 and whole["choices"][0]["logprobs"] is None
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    assert server.ask("/v1/chat/completions", asked)["choices"][0]["finish_reason"] == "length"
    before = server.metric("vllm:generation_tokens_total")
    server.ask("/v1/completions", {"model": "m", "prompt": [5, 6], "max_tokens": 3})
    assert server.metric("vllm:generation_tokens_total") == before + 3
    with pytest.raises(urllib.error.HTTPError, match="400"):
        server.ask("/v1/completions", {"model": "m", "prompt": [5], "return_token_ids": True, "stop": "x"})


def test_a_host_that_is_killed_comes_back_while_requests_wait(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with engine_server(tmp_path / "home", free_port(), "fake:echo") as one:
        children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split()
        hosts = [c for c in children if b"ashore.data.engines.host" in Path(f"/proc/{c}/cmdline").read_bytes()]
        os.kill(int(hosts[0]), signal.SIGKILL)
        body = {"model": "fake:echo", "prompt": "abc", "max_tokens": 3, "return_token_ids": True}
        assert one.ask("/v1/completions", body)["choices"][0]["token_ids"] == [97, 98, 99]


def test_a_key_is_made_and_needed(tmp_path: Path, free_port: Callable[[], int]) -> None:
    file = tmp_path / "key"
    with engine_server(tmp_path / "home", free_port(), "fake:echo", "--key-file", str(file)) as one:
        body = {"model": "fake:echo", "prompt": "abc", "max_tokens": 3}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            one.ask("/v1/completions", body)
        assert one.ask("/v1/completions", body, key=file.read_text().strip())["usage"]["completion_tokens"] == 3
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_client_that_leaves_ashore_leaves_the_engine_behind_it(
    served: Callable[..., Any], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    slow = "fake:random?tok_per_s=20&tokens=400&context=512"
    with engine_server(tmp_path / "engine", free_port(), slow, "--served-model-name", "far") as behind:
        (make_tiny_model(tmp_path / "text", "llama") / "model.safetensors").unlink()
        config = f'[[model]]\nname = "{tmp_path / "text"}"\nalias = "far"\n'
        config += '[model.engine]\nfleet = true\noptions = { served_model_name = "far" }\n'
        config += f'[[fleet.node]]\nnode = "far"\naddress = "{behind.url}"\nmodel = "far"\n'
        front = served(config=config)
        body = json.dumps({"model": "far", "prompt": "abc", "max_tokens": 300, "stream": True})
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
        connection.request("POST", "/v1/completions", body, {"authorization": f"Bearer {front.key}"})
        connection.getresponse().readline()
        eventually(lambda: behind.metric("vllm:num_requests_running") == 1)
        connection.close()
        eventually(lambda: behind.metric("vllm:num_requests_running") == 0, limit_s=10)
        with openai.OpenAI(base_url=front.base_url, api_key=front.key, max_retries=0, timeout=30) as api:
            assert api.completions.create(model="far", prompt="abc", max_tokens=3).usage
        started_s = time.monotonic()
        assert front.stop() == 0
        assert time.monotonic() - started_s < 20


def test_over_tls_only_a_machine_of_the_fleet_is_heard(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    for home in ("node", "front"):
        make_node_certificate(tmp_path / "authority", tmp_path / home / "fleet", home, ["127.0.0.1"], now)
    with engine_server(tmp_path / "node", free_port(), NAME, "--served-model-name", "m", "--tls") as one:
        bare = ssl.create_default_context(cafile=str(tmp_path / "node" / "fleet" / "ca.pem"))
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{one.url}/health", timeout=30, context=bare).read()
        listed = {"m": [{"url": one.url, "entry": one.url.removeprefix("https://")}]}
        (tmp_path / "fleet.json").write_text(json.dumps(listed))
        monkeypatch.setenv(FLEET_FILE, str(tmp_path / "fleet.json"))
        files = ModelFiles(name="m", digest="", directory="/nowhere", format="remote")
        for home, found in (("front", "ready"), ("nobody", "out")):
            monkeypatch.setenv(FLEET_IDENTITY, str(tmp_path / home / "fleet"))
            engine = VllmEngine()
            engine.load(files, EngineOptions(kind="vllm", extra={"fleet": "m"}))
            try:
                [server] = engine.stats().backends
                assert server.state == found, server.reason
                if found == "ready":
                    assert token_ids(run(engine, order("a", [7, 1]))["a"])
            finally:
                engine.close()
