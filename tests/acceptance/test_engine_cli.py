"""`ashore engine list` and `ashore engine tune`, as commands, with the fake engine in real host processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ashore.core.clock import SystemClock
from ashore.kit.state import load_tuning, open_database

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_list_names_every_engine_and_loads_none(ashore: Run, tmp_path: Path) -> None:
    result = ashore("engine", "list", "--json", home=tmp_path)
    assert result.returncode == 0, result.stderr
    cards = {card["kind"]: card for card in json.loads(result.stdout)["items"]}
    assert set(cards) == {"openvino", "llamacpp", "torch", "vllm", "textonly", "fake", "tabular"}
    assert cards["openvino"]["installed"] and cards["openvino"]["version"]
    assert "logprobs" in cards["openvino"]["features"]
    assert cards["fake"]["installed"]
    assert ashore("engine", "list", home=tmp_path).stdout.count("\n") > 6
    program = (
        "import sys\nfrom ashore.cli.main import main\nmain(['engine', 'list', '--json'])\n"
        "heavy = {'openvino', 'openvino_genai', 'nncf', 'xllamacpp', 'torch', 'matplotlib', 'grpc'}\n"
        "raise SystemExit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    checked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_tune_measures_and_records(ashore: Run, tmp_path: Path) -> None:
    name = "fake:random?step_s=0.002"
    began_s = time.monotonic()
    result = ashore(
        "engine", "tune", name, "--budget-s", "9", "--for", "latency", "--json", home=tmp_path,
    )  # fmt: skip
    assert time.monotonic() - began_s < 9 + 15
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model"] == name and report["goal"] == "latency"
    assert report["measured"] and report["frontier"]
    first = report["measured"][0]["rounds"][0]
    assert 0 < first["one_tok_per_s"] < 1 / 0.002
    assert first["sixteen_tok_per_s"] > 4 * first["one_tok_per_s"]
    assert first["ttft_ms"] >= 2
    assert {c["goal"] for c in report["choices"]} == {"latency", "throughput", "balanced"}
    assert json.loads((tmp_path / "cache" / "tuning" / "fake_random_step_s_0.002.json").read_text()) == report
    assert "at most" in result.stderr
    state = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=SystemClock())
    with state.read() as connection:
        row = load_tuning(connection, model=name, goal="latency")
    state.close()
    assert row is not None and json.loads(row.choice)["kind"] == "fake" and json.loads(row.report) == report


def test_what_cannot_load_is_an_error_with_its_reason(ashore: Run, tmp_path: Path) -> None:
    result = ashore("engine", "tune", "fake:echo?fail_load=1", "--budget-s", "10", home=tmp_path)
    assert result.returncode == 4
    assert "loading fails, as requested" in result.stderr
    result = ashore("engine", "tune", "fake:echo?die_after=20", "--budget-s", "10", home=tmp_path)
    assert result.returncode == 4
    assert "its host died" in result.stderr and "engine-tune.log" in result.stderr
    assert (tmp_path / "logs" / "engine-tune.log").stat().st_mode & 0o777 == 0o600, "as every other log"


def test_bad_words_are_refused(ashore: Run, tmp_path: Path) -> None:
    for words, said in (
        (["smollm2@int8"], "ashore engine tune smollm2"),
        (["fake:echo", "--budget-s", "1"], "expected 5 to 3600"),
        (["fake:ecko"], "fake:echo"),
        (["fake:echo", "--for", "speed"], "latency"),
    ):
        result = ashore("engine", "tune", *words, home=tmp_path)
        assert result.returncode == 2, result.stderr
        assert said in result.stderr


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ashore.cli.main", "engine", "tune", "fake:random?step_s=0.002", "--json"],
        env={**os.environ, "ASHORE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "1 of " in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, said + err
    report = json.loads(out)
    assert report["interrupted"] and report["measured"]
    assert any("interrupted" in note for note in report["notes"])
    assert not any(c["complete"] for c in report["choices"])
