"""A real vLLM behind ashore, by address and started by ashore: its own tokens, and what ashore puts around them.

`make test-vllm` installs one. The double has the same contract suite, and is in every run.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from node_lists import nodes_at
from real_vllm import OPTIONS, PROGRAM, RealVllm
from served import Served
from waiting import eventually

from ashore.core.errors import EngineFailed, UnsupportedByEngine
from ashore.data.engines import EngineOptions, ModelFiles
from ashore.data.engines.vllm.engine import VllmEngine

pytestmark = [pytest.mark.full, pytest.mark.model]

CONFIG = """
[[model]]
name = "{model}"
alias = "smol"
[model.engine]
kind = "vllm"
{engine}
[model.adapters]
bank = "{adapter}"

[privacy]
prompts = {{ email = "mask" }}
"""
QUESTIONS = [
    f"{verb} {noun}" for verb in ("Explain", "Describe", "List five facts about", "Write a poem on", "What is")
    for noun in ("the sea", "a bank", "gravity", "bread", "the moon", "a river", "music", "chess", "winter", "a loan")
]  # fmt: skip
NEAR_TIE = 0.08
"""Nats. bf16 keeps eight bits: where the two best are this close, a batch of another shape may turn them round."""


@pytest.fixture(scope="module")
def front(served_for_all: Callable[..., Served], real_vllm_server: RealVllm) -> Iterator[Served]:
    """Give ashore in front of the server, which it reaches by its address."""
    engine = 'fleet = true\nkey = "env:FAR_KEY"\noptions = { vocab_size = 49152 }\n'
    config = CONFIG.format(model=real_vllm_server.model, adapter=real_vllm_server.adapter, engine=engine)
    config += f'[[fleet.node]]\nnode = "real"\naddress = "{real_vllm_server.url}"\nmodel = "smol"\n'
    yield served_for_all(config=config, env={"FAR_KEY": real_vllm_server.key})


def post(url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def tokens(url: str, key: str, model: str, question: str, **fields: Any) -> tuple[list[int], list[dict[str, float]]]:
    """Return the ids of a greedy answer, and for each the two best with their log-probabilities."""
    body = {
        "model": model, "prompt": question, "max_tokens": 16, "temperature": 0, "logprobs": 2,
        "return_token_ids": True, "return_tokens_as_token_ids": True, **fields,
    }  # fmt: skip
    [choice] = post(url, key, body)["choices"]
    return choice["token_ids"], choice["logprobs"]["top_logprobs"]


def running(server: RealVllm) -> float:
    request = urllib.request.Request(server.url + "/metrics", headers={"authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))


def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=120)


def test_real_greedy_tokens_are_those_of_vllm_asked_directly(front: Served, real_vllm_server: RealVllm) -> None:
    parted = []
    for question in QUESTIONS:
        here, _ = tokens(front.root_url, front.key, "smol", question)
        there, best = tokens(real_vllm_server.url, real_vllm_server.key, "smol", question, ignore_eos=False)
        stop = next((n for n, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), None)
        if stop is None:
            assert abs(len(here) - len(there)) <= 1, "but for the token that ends it, which vLLM counts too"
            continue
        first, second = sorted(best[stop].values(), reverse=True)[:2]
        assert first - second < NEAR_TIE, f"{question!r} parts at {stop}: {here} and {there}, {best[stop]}"
        parted.append(question)
    assert len(parted) <= 2, f"near-ties are few: {parted}"


def test_real_log_probabilities_and_a_grammar(front: Served) -> None:
    with client(front) as api:
        asked: Any = [{"role": "user", "content": "What is the capital of France?"}]
        told = api.chat.completions.create(
            model="smol", messages=asked, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
        )
        assert "Paris" in str(told.choices[0].message.content)
        entries = told.choices[0].logprobs.content  # type: ignore[union-attr]
        assert entries and all(len(e.top_logprobs) == 3 and e.logprob <= 0 for e in entries)
        assert all(math.isclose(e.logprob, e.top_logprobs[0].logprob, abs_tol=1e-4) for e in entries)
        schema = {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        }
        form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
        made = api.chat.completions.create(
            model="smol", messages=asked, max_tokens=60, temperature=0, response_format=form
        )
        assert list(json.loads(str(made.choices[0].message.content))) == ["city"]


def test_real_adapters_answer_beside_the_model(front: Served, real_vllm_server: RealVllm) -> None:
    plain, _ = tokens(front.root_url, front.key, "smol", QUESTIONS[0])
    adapted, _ = tokens(front.root_url, front.key, "smol:bank", QUESTIONS[0])
    direct, _ = tokens(real_vllm_server.url, real_vllm_server.key, "bank", QUESTIONS[0])
    assert adapted != plain
    assert adapted == direct[: len(adapted)]


def test_a_real_stream_that_its_client_leaves_ends_at_the_server(front: Served, real_vllm_server: RealVllm) -> None:
    with client(front) as api:
        stream = api.completions.create(model="smol", prompt="Once", max_tokens=900, stream=True, temperature=1.0)
        for _ in range(3):
            next(iter(stream))
        assert running(real_vllm_server) == 1
        stream.close()
    eventually(lambda: running(real_vllm_server) == 0, limit_s=10)


def test_a_real_vllm_serves_behind_masking_and_audit(front: Served, ashore: Callable[..., Any]) -> None:
    with client(front) as api:
        asked: Any = [{"role": "user", "content": "Repeat: my address is ada@example.com"}]
        api.chat.completions.create(model="smol", messages=asked, max_tokens=12, temperature=0)
        raw = urllib.request.Request(front.root_url + "/metrics", headers={"authorization": f"Bearer {front.key}"})
    with urllib.request.urlopen(raw, timeout=10) as answer:
        masked = [line for line in answer.read().decode().splitlines() if "ashore_masked_entities_total{" in line]
    assert any('kind="email"' in line and 'action="mask"' in line for line in masked), masked
    found = ashore("audit", "search", "--model", "smol", "--kind", "request", "--json", home=front.home)
    assert '"smol"' in found.stdout, found.stderr
    assert "ada@example.com" not in found.stdout


def test_a_real_vllm_on_a_processor_says_that_it_cannot_sleep(
    real_vllm_server: RealVllm, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its CPU build has no such mode; a server that runs without it says so when it is asked."""
    sleeps = {"enable_sleep_mode": True}
    engine = VllmEngine()
    here = ModelFiles(name="smol", digest="", directory=str(real_vllm_server.model), format="safetensors")
    with pytest.raises(EngineFailed, match="exit code"):
        engine.load(here, EngineOptions(kind="vllm", extra={"executable": PROGRAM, **OPTIONS, **sleeps}))
    engine.close()
    assert "Sleep mode is not supported on current platform" in "".join(capfd.readouterr())
    engine = VllmEngine()
    there = ModelFiles(name="smol", digest="", directory="/nowhere", format="remote")
    reach = {**nodes_at(real_vllm_server.url), "api_key": real_vllm_server.key}
    with pytest.raises(UnsupportedByEngine, match="cannot sleep"):
        engine.load(there, EngineOptions(kind="vllm", extra={**reach, **sleeps}))
    engine.close()


def test_a_real_vllm_that_ashore_starts_serves_and_comes_back_after_a_kill(
    served: Callable[..., Served], real_vllm_server: RealVllm
) -> None:
    words = ", ".join(f"{name} = {json.dumps(value)}" for name, value in OPTIONS.items() if name != "enable_lora")
    engine = f'context_tokens = 1024\nmax_sequences = 8\noptions = {{ executable = "{PROGRAM}", {words} }}\n'
    config = CONFIG.format(model=real_vllm_server.model, adapter=real_vllm_server.adapter, engine=engine)
    server = served(config=config, wait=False)
    server.wait_ready(1200)
    there, _ = tokens(real_vllm_server.url, real_vllm_server.key, "smol", QUESTIONS[1])
    here, _ = tokens(server.root_url, server.key, "smol", QUESTIONS[1])
    assert here == there[: len(here)]
    assert tokens(server.root_url, server.key, "smol:bank", QUESTIONS[1])[0] != here
    first = _started_by(server)
    os.kill(first, signal.SIGKILL)
    end_s = time.monotonic() + 1200
    while True:
        try:
            assert tokens(server.root_url, server.key, "smol", QUESTIONS[1])[0] == here
            break
        except OSError:
            assert time.monotonic() < end_s
            time.sleep(1)
    assert _started_by(server) != first


def _started_by(server: Served) -> int:
    """Return the process of the vLLM whose model lies in the home of a server."""
    mark = str(server.home / "run" / "models").encode()
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if b"serve" in words and any(word.startswith(mark) for word in words):
            return int(folder.name)
    raise AssertionError("no vLLM runs")
