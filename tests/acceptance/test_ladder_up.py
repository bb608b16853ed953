"""A model that answers in several precisions, through a real server: what answered is visible, floors hold, and only
answers of the best precision are kept. The fake engine says which one computes; the engine's tests have a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from benchmarks.inference_stub import InferenceStub
from served import Served, owner_key

from ashore.data.grpc.gen import inference_pb2 as pb

CONFIG = """\
[[model]]
name = "fake:echo?rungs=3&rung_from=4&tok_per_s=60"
alias = "chat"
[[model]]
name = "fake:echo"
alias = "plain"
"""


@pytest.fixture(scope="module")
def house(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all(config=CONFIG)


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return owner_key(house)


def ask(
    house: Served, key: str, text: str, least: str = "", *, model: str = "chat", stream: bool = False
) -> tuple[str, str, str]:
    """Return `x-ashore-precision`, what usage says of it, and `x-ashore-cache`."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    if least:
        headers["x-ashore-min-precision"] = least
    request = urllib.request.Request(
        f"{house.base_url}/chat/completions", data=json.dumps(body).encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = answer.read().decode()
        last = json.loads(said) if not stream else json.loads(said.split("data: ")[-2])
        return (
            answer.headers["x-ashore-precision"],
            last["usage"].get("precision", ""),
            answer.headers["x-ashore-cache"],
        )


def crowd(house: Served, key: str, leasts: list[str], word: str) -> list[tuple[str, str, str]]:
    """Ask as many questions at once, so that a lower rung computes."""
    with ThreadPoolExecutor(len(leasts)) as people:
        return list(people.map(lambda n: ask(house, key, f"{word} {n:02d} " * 5, leasts[n]), range(len(leasts))))


def test_alone_the_best_precision_answers_and_is_kept(house: Served, key: str) -> None:
    assert ask(house, key, "on my own") == ("fp64", "fp64", "miss")
    assert ask(house, key, "on my own") == ("fp64", "", "hit-exact")
    assert ask(house, key, "on my own", "fp64") == ("fp64", "", "hit-exact"), "what is kept meets any floor"
    assert ask(house, key, "on my own, in a stream", stream=True) == ("fp64", "fp64", "miss")
    assert ask(house, key, "no ladder", model="plain") == ("fp64", "", "miss")


def test_in_a_crowd_a_lower_one_does_but_for_those_who_want_better(house: Served, key: str) -> None:
    leasts = ["", "", "fp64", "fp32"] * 3
    told = crowd(house, key, leasts, "crowded")
    seen = Counter(precision.rpartition(">")[2] for precision, _, _ in told)
    assert seen["fp16"] and seen["fp64"] >= 3, seen
    assert all(header == usage for header, usage, _ in told)
    exact = {"fp64": 0, "fp32": 1, "fp16": 2}
    for least, (precision, _, _) in zip(leasts, told, strict=True):
        assert not least or exact[precision.rpartition(">")[2]] <= exact[least]
    kept = [ask(house, key, f"crowded {n:02d} " * 5)[2] == "hit-exact" for n in range(len(leasts))]
    assert kept == [precision == "fp64" for precision, _, _ in told], "what is less exact is kept by nobody"


def test_the_audit_log_and_the_metrics_know_the_precision(house: Served, key: str) -> None:
    told = crowd(house, key, [""] * 10, "recorded")
    environment = {**os.environ, "ASHORE_HOME": str(house.home)}
    words = (sys.executable, "-m", "ashore.cli.main", "audit", "search", "--kind", "request", "--limit", "10", "--json")
    said = subprocess.run(words, env=environment, capture_output=True, check=True).stdout
    records = [one["detail"]["precision"] for one in json.loads(said)["items"]]
    assert Counter(records) == Counter(precision for precision, _, _ in told)
    page = urllib.request.urlopen(f"{house.root_url}/metrics", timeout=60).read().decode()
    counted = {line.split('precision="')[1].split('"')[0] for line in page.splitlines()
               if line.startswith("ashore_precision_answers_total")}  # fmt: skip
    assert {precision for precision, _, _ in told} <= counted
    assert 'ashore_host_rung{model="chat"' in page


def test_a_precision_that_the_model_lacks_is_refused(house: Served, key: str) -> None:
    for least, why in (("int4", "answers in fp64, fp32, fp16"), ("f p", "expected a precision")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(house, key, "refused", least)
        with caught.value as answer:
            assert answer.code == 400 and why in json.load(answer)["error"]["message"]


def test_a_grpc_client_has_a_floor_too(house: Served, key: str) -> None:
    with grpc.insecure_channel(house.grpc_address) as channel:
        stub = InferenceStub(channel)

        def told(number: int, least: str) -> str:
            message = pb.Message(role=pb.ROLE_USER, content=f"over grpc {number:02d} " * 5)
            asked = pb.ChatRequest(model="chat", messages=[message])
            floor = (("x-ashore-min-precision", least),) if least else ()
            _, call = stub.Chat.with_call(asked, metadata=(("authorization", f"Bearer {key}"), *floor), timeout=60)
            return str(dict(call.initial_metadata())["x-ashore-precision"])

        leasts = ["", "fp64"] * 6
        with ThreadPoolExecutor(len(leasts)) as people:
            found = list(people.map(told, range(len(leasts)), leasts))
        assert {one for one, least in zip(found, leasts, strict=True) if least} == {"fp64"}
        assert any(one != "fp64" for one in found), "a crowd lowers those who want nothing better"
        for least, why in (("int4", "answers in fp64, fp32, fp16"), ("f p", "expected a precision")):
            with pytest.raises(grpc.RpcError) as caught:
                told(99, least)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and why in caught.value.details()


def test_status_shows_the_precisions(house: Served) -> None:
    environment = {**os.environ, "ASHORE_HOME": str(house.home)}
    said = subprocess.run(
        (sys.executable, "-m", "ashore.cli.main", "status", "--json"), env=environment, capture_output=True, check=True
    ).stdout
    (ladder,) = json.loads(said)["ladders"]
    assert (ladder["alias"], ladder["rung"]) == ("chat", 0) and ladder["answers"]["fp64"] >= 2
