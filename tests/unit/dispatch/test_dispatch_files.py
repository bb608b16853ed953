"""Traces and back ends from files, and the simulation over them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from benchmarks.dispatch.__main__ import route
from benchmarks.dispatch.backends import load_backends

from ashore.core.errors import AshoreError, InvalidRequest, InvalidSpec
from ashore.data.dispatch import read_trace

BACKENDS = """
[[backend]]
name = "cpu"
count = 4
price_per_hour = 0.4
prefill_tokens_per_s = 1500
decode_tokens_per_s = 500
stream_tokens_per_s = 60

[[backend]]
name = "gpu"
device = "gpu"
price_per_hour = 1.2
prefill_tokens_per_s = 20000
decode_tokens_per_s = 2000
stream_tokens_per_s = 90
max_running = 64
"""
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:17:{at:02}.9799600,{100 * at},{10 + at}\n" for at in range(40)
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x\n45,GPT-4,9,0,9,x\n"
)


def file_of(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    file = tmp_path / name
    file.write_text(text)
    return file


def test_published_forms_are_read(tmp_path: Path) -> None:
    azure = read_trace(file_of(tmp_path, AZURE), deadline_s=10, per_token_s=1)
    assert [one.arrival_s for one in azure[:3]] == pytest.approx([0, 1, 2], abs=1e-4)
    assert (azure[2].prompt_tokens, azure[2].output_tokens) == (200, 12)
    assert azure[2].deadline_s == pytest.approx(2 + 10 + 12, abs=1e-4)
    assert len(read_trace(file_of(tmp_path, BURSTGPT), deadline_s=10)) == 1  # the failed one is left out
    lines = '{"arrival_s": 3, "prompt_tokens": 1, "output_tokens": 2, "deadline_s": 7}\n\n'
    [one] = read_trace(file_of(tmp_path, lines, "trace.jsonl"), deadline_s=10)
    assert one.deadline_s == 7


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "a,b\n1,2\n", "has the columns a, b"),
        ("t.csv", "", "has the columns none"),
        ("t.csv", "arrival_s,prompt_tokens,output_tokens\n1,x,3\n", "line 2"),
        ("t.csv", "arrival_s,prompt_tokens,output_tokens\nnan,1,3\n", "not a request"),
        ("t.csv", "arrival_s,prompt_tokens,output_tokens\n1,1,0\n", "no request with an answer"),
        ("t.jsonl", "[1]\n", "line 1 is not a request"),
        ("t.jsonl", '{"arrival_s": 1}\n', "line 1 is not a request"),
    ],
)
def test_what_is_no_trace_is_said(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_trace(file_of(tmp_path, text, name), deadline_s=1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "backend"),
        (BACKENDS + "price = 3\n", "price"),
        (BACKENDS.replace('"gpu"', '"cpu"', 1), "two back ends called 'cpu'"),
        (BACKENDS.replace("0.4", "-1"), "price_per_hour"),
    ],
)
def test_what_is_no_back_end_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        load_backends(file_of(tmp_path, text, "backends.toml"))


def test_route_prints_each_policy_and_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backends, trace = file_of(tmp_path, BACKENDS, "backends.toml"), file_of(tmp_path, AZURE)
    route(backends=backends, trace=trace, alone=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert set(told["policies"]) == {
        "cost",
        "cheapest-in-time",
        "least-loaded",
        "round-robin",
        "cpu alone",
        "gpu alone",
    }
    assert 0 < told["optimum"] <= told["policies"]["cost"]["cost"]
    route(backends=backends, shape="chat", requests=50, policy="cost")
    shown = capsys.readouterr().out
    assert "over optimum" in shown and "50 requests" in shown


def test_route_wants_one_trace(tmp_path: Path) -> None:
    backends = file_of(tmp_path, BACKENDS, "backends.toml")
    with pytest.raises(AshoreError, match="give --trace FILE or --shape NAME"):
        route(backends=backends)
    with pytest.raises(AshoreError, match="--rate is 0"):
        route(backends=backends, shape="chat", rate=0)


def test_the_page_shows_back_ends_that_can_be_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "route-by-cost.md").read_text()
    toml = textwrap.dedent(page.partition("```toml\n")[2].partition("```")[0])
    route(backends=file_of(tmp_path, toml, "backends.toml"), shape="burstgpt", rate=4, requests=60, alone=True)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("cheapest-in-time", "npu alone", "optimum"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("far.csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1e300,1,1\n", "spans"),
        ("many.jsonl", f'{{"arrival_s":0,"prompt_tokens":1,"output_tokens":{10**18}}}\n', "line 1"),
        ("field.csv", f'arrival_s,prompt_tokens,output_tokens\n0,1,"{"1" * 200_000}"\n', "field"),
        ("line.jsonl", f'{{"x": "{"x" * (2 << 20)}"}}', "longer"),
    ],
)
def test_a_trace_that_no_simulation_would_end_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=said):
        read_trace(tmp_path / name, deadline_s=30.0)
