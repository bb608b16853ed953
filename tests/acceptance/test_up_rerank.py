"""Ranking by what a model is fit for: cross-encoders pulled from folders, a generator, an embedder."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from commands import run_command
from served import Served, start_served
from tiny_encoders import PAIRS, SCORES, write_cross_encoder

QUERY, DOCUMENTS = PAIRS[0][0], [PAIRS[0][1], PAIRS[1][1]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("rerank-home")
    for name, kind in (("ranker", "bert"), ("xlmr", "xlm-roberta"), ("modern", "modernbert")):
        folder = write_cross_encoder(tmp_path_factory.mktemp(name), kind)  # type: ignore[arg-type]
        pulled = run_command("model", "pull", str(folder), "--name", name, home=home)
        assert pulled.returncode == 0, pulled.stderr
    one = start_served(
        home, ["ranker", "xlmr", "modern", "fake:random"], store=None, port=free_port(), grpc_port=free_port()
    )
    yield one
    one.stop()


def post(server: Served, path: str, **body: Any) -> tuple[int, dict[str, str], Any]:
    headers = {"authorization": f"Bearer {server.key}"}
    request = urllib.request.Request(server.root_url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, {}, json.load(fault)


@pytest.mark.parametrize(("model", "kind"), [("ranker", "bert"), ("xlmr", "xlm-roberta"), ("modern", "modernbert")])
def test_a_cross_encoder_scores_as_its_makers_library_does(server: Served, model: str, kind: Any) -> None:
    status, headers, said = post(server, "/v1/rerank", model=model, query=QUERY, documents=DOCUMENTS)
    assert (status, headers["x-ashore-score"], headers["x-ashore-precision"]) == (200, "cross-encoder", "fp32")
    expected = [1 / (1 + math.exp(-logit)) for logit in SCORES[kind][:2]]
    by_place = {one["index"]: one["relevance_score"] for one in said["results"]}
    assert [by_place[0], by_place[1]] == pytest.approx(expected, abs=1e-4)
    assert said["results"][0]["relevance_score"] == max(by_place.values())
    status, _, ranked = post(server, "/rerank", model=model, query=QUERY, texts=DOCUMENTS, raw_scores=True)
    assert {one["index"]: one["score"] for one in ranked} == pytest.approx(dict(enumerate(SCORES[kind][:2])), abs=1e-4)
    status, _, scored = post(
        server, "/v1/score", model=model, text_1=[a for a, _ in PAIRS], text_2=[b for _, b in PAIRS]
    )
    logits = [math.log(one["score"] / (1 - one["score"])) for one in scored["data"]]
    assert logits == pytest.approx(SCORES[kind], abs=1e-3)


def test_what_does_not_fit_is_named(server: Served) -> None:
    for body, param in (
        ({"query": "a", "documents": ["b", "c" * 100]}, "documents[1]"),
        ({"query": "a", "documents": ["b", ""]}, "documents[1]"),
        ({"query": "", "documents": ["b"]}, "query"),
    ):
        status, _, fault = post(server, "/v1/rerank", model="ranker", **body)
        assert (status, fault["error"]["param"]) == (400, param), fault
    status, _, fault = post(server, "/v1/embeddings", model="ranker", input="a")
    assert status == 400 and "makes no embeddings" in fault["error"]["message"]
    status, _, fault = post(server, "/v1/chat/completions", model="ranker", messages=[{"role": "user", "content": "a"}])
    assert status == 400 and "/v1/rerank" in fault["error"]["message"]
    status, _, fault = post(server, "/v1/rerank", query="a", documents=["b"])
    assert status == 400 and "ranker, xlmr" in fault["error"]["hint"]


def test_the_list_of_models_says_what_ranks(server: Served) -> None:
    request = urllib.request.Request(server.base_url + "/models", headers={"authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        features = {one["id"]: one["features"] for one in json.load(answer)["data"]}
    assert features["ranker"] == features["xlmr"] == ["rank"]
