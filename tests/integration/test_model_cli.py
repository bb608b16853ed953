"""`ashore model` as a user types it: output, JSON, exit codes, hints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_making import alter
from tiny_models import make_tiny_model

from ashore.cli.main import main
from ashore.cli.status import accelerators
from ashore.core.bytesize import human_bytes
from ashore.kit.processes.lock import Holder, HomeLock

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ashore(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process: a process for each word would take most of the time."""

    def run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("ASHORE_HOME", str(home))
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess([sys.executable, *words], code, captured.out, captured.err)

    return run


@pytest.fixture
def home(tmp_path: Path, ashore: Run) -> Path:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    result = ashore("model", "pull", str(folder), home=tmp_path / "home")
    assert result.returncode == 0, result.stderr
    assert "licence: apache-2.0" in result.stdout
    return tmp_path / "home"


def test_list_show_and_verify(home: Path, ashore: Run) -> None:
    table = ashore("model", "list", home=home).stdout.splitlines()
    assert table[0].split()[:3] == ["name", "format", "precision"]
    assert table[1].split()[:3] == ["tiny", "safetensors", "fp32"]
    [model] = json.loads(ashore("model", "list", "--json", home=home).stdout)["items"]
    assert model["reference"] == "tiny"
    shown = json.loads(ashore("model", "show", "tiny", "--json", home=home).stdout)
    assert shown["digest"] == model["digest"]
    assert shown["shape"]["num_layers"] == 2
    text = ashore("model", "show", "tiny", home=home).stdout
    assert "\ncreated: 20" in text and f"\nsize: {human_bytes(shown['num_bytes'])}\n" in text
    assert "sampling_defaults: temperature=0.7, top_p=0.9\nsampling_defaults_from: generation_config.json\n" in text
    assert json.loads(ashore("model", "verify", "--json", home=home).stdout)["ok"] is True


def test_verify_names_the_bad_file_and_exits_4(home: Path, ashore: Run) -> None:
    shown = json.loads(ashore("model", "show", "tiny", "--json", home=home).stdout)
    digest = next(f["digest"] for f in shown["files"] if f["path"] == "model.safetensors")
    alter(home / "store/blobs/sha256" / digest[7:], 9000)
    result = ashore("model", "verify", "tiny", home=home)
    assert result.returncode == 4
    assert "BAD  tiny  model.safetensors" in result.stdout


def test_export_remove_gc_import(home: Path, ashore: Run, tmp_path: Path) -> None:
    tar = tmp_path / "tiny.tar"
    assert ashore("model", "export", "tiny", str(tar), home=home).returncode == 0
    assert json.loads(ashore("model", "remove", "tiny", "--yes", "--json", home=home).stdout) == {"removed": ["tiny"]}
    freed = json.loads(ashore("model", "gc", "--yes", "--json", home=home).stdout)
    assert freed["freed_bytes"] > 100_000
    assert ashore("model", "import", str(tar), home=home).returncode == 0
    assert ashore("model", "verify", home=home).returncode == 0


def test_gc_keeps_what_a_running_server_serves(home: Path, ashore: Run) -> None:
    digest = json.loads(ashore("model", "show", "tiny", "--json", home=home).stdout)["digest"]
    ashore("model", "remove", "tiny", "--yes", home=home)
    (home / "run").mkdir(exist_ok=True)
    (home / "run/topology.json").write_text(json.dumps({"text_dir": f"/x/{digest[7:]}"}))
    assert json.loads(ashore("model", "gc", "--yes", "--json", home=home).stdout)["models"] == []
    (home / "run/topology.json").unlink()
    assert json.loads(ashore("model", "gc", "--yes", "--json", home=home).stdout)["models"] == [digest]


def test_the_catalogue_needs_no_network(ashore: Run, tmp_path: Path) -> None:
    items = json.loads(ashore("model", "catalog", "--json", home=tmp_path / "empty").stdout)["items"]
    here = {one["name"]: one["here"] for one in items}
    assert (here["smollm2"], here["minilm"]) == ("openvino int8", "openvino")
    assert here["gpt-oss-20b"] in ("with vLLM", "with vLLM; too large here")
    assert here["glm-4.5"] == "with vLLM" + "; too large here" * (not accelerators())
    assert here["deepseek-llm-67b-chat"] in ("with vLLM; too large here", "openvino int8")
    assert ashore("model", "show", "deepseek-r1", home=tmp_path / "empty").stdout.startswith("name: deepseek-r1")
    assert "recommended: temperature=0.2, top_p=0.9\n" in ashore("model", "show", "smollm2", home=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "tinny"), 2, "'tiny'"),
        (("pull", "smolm2"), 2, "'smollm2'"),
        (("pull", "hf:what"), 2, "hf:ORG/NAME, ms:ORG/NAME"),
        (("pull", "deepseek-r1-distill-llama-8b"), 2, "--accept-licence"),
        (("import", "/no/such.tar"), 2, "is not a file"),
        (("push", "tiny", "ftp://x"), 2, "not a model source"),
        (("remove", "tiny@int8"), 2, "no variant"),
    ],
)
def test_bad_input_gets_a_hint_and_exit_code_2(
    home: Path, ashore: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    result = ashore("model", *words, home=home)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def answers_with(home: Path, digest: str) -> None:
    """Write into the state that `chat-3`, live, answers with a model of the store."""
    from ashore.cli.bootstrap import open_state
    from ashore.data.engines import EngineOptions, ModelPlan
    from ashore.data.releases.model import Course, Release
    from ashore.data.releases.sql import insert_release
    from ashore.kit.settings import read_settings

    plan = ModelPlan(
        alias="chat", release="chat-3", name="tiny", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    state = open_state(read_settings({"ASHORE_HOME": str(home)}))
    with state.write() as connection:
        release = Release(name="chat-3", alias="chat", plan=plan, parts={"weights": digest}, content="c")
        insert_release(connection, release, Course(release="chat-3", state="live"))
    state.close()


def test_what_a_running_server_answers_with_is_not_removed(home: Path, ashore: Run) -> None:
    digest = json.loads(ashore("model", "show", "tiny", "--json", home=home).stdout)["digest"]
    assert ashore("model", "remove", "tiny", "--dry-run", home=home).stdout == "dry run: would remove tiny\n"
    answers_with(home, digest)
    running = HomeLock.acquire(home / "lock", Holder(pid=1, address="http://127.0.0.1:8080"))
    refused = ashore("model", "remove", "tiny", "--yes", home=home)
    assert refused.returncode == 2
    assert "a running server uses tiny: chat-3 (live, alias chat)" in refused.stderr
    running.release()
    tried = ashore("model", "remove", "tiny", "--dry-run", home=home)
    assert "which the next `ashore up` would use for: chat-3 (live, alias chat)" in tried.stdout
    assert ashore("model", "remove", "tiny", home=home).returncode == 2, "nobody is there to be asked"
    assert ashore("model", "list", "--json", home=home).stdout.count('"reference":"tiny"') == 1
    assert ashore("model", "remove", "tiny", "--yes", home=home).stdout.startswith("removed tiny;")


def test_a_collection_can_be_tried(home: Path, ashore: Run) -> None:
    ashore("model", "remove", "tiny", "--yes", home=home)
    tried = ashore("model", "gc", "--dry-run", home=home)
    assert tried.stdout.startswith("dry run: would delete 1 model, ")
    asked = ashore("model", "gc", home=home)
    assert asked.returncode == 2 and "this would delete 1 model, " in asked.stderr
    done = ashore("model", "gc", "--yes", home=home).stdout
    assert done.startswith("deleted 1 model, ") and done.split("; ")[1].removesuffix(" freed\n") in tried.stdout


@pytest.mark.parametrize(("passed", "word"), [(True, "passed"), (False, "failed")])
def test_what_the_gate_said_is_listed_and_shown(home: Path, ashore: Run, passed: bool, word: str) -> None:
    from ashore.cli.bootstrap import build_store
    from ashore.kit.settings import read_settings
    from ashore.kit.store import Verdict, keep_verdict

    assert "\ngate: " not in ashore("model", "show", "tiny", home=home).stdout
    assert json.loads(ashore("model", "list", "--json", home=home).stdout)["items"][0]["gate"] is None
    store = build_store(read_settings({"ASHORE_HOME": str(home)}).home)
    verdict = Verdict(passed=passed, model="tiny", digest="", against="", created="", gate="", lines=())
    keep_verdict(store, store.resolve("tiny"), verdict)
    assert f"\ngate: {word}\n" in ashore("model", "show", "tiny", home=home).stdout
    table = [line.split() for line in ashore("model", "list", home=home).stdout.splitlines()]
    assert word in table[1] and table[0].index("gate") == 4
    assert json.loads(ashore("model", "list", "--json", home=home).stdout)["items"][0]["gate"] == word


def test_an_unknown_name_hints_at_what_the_store_has(home: Path, ashore: Run, tmp_path: Path) -> None:
    told = ashore("model", "show", "zzz", home=home).stderr
    assert "the store has no model 'zzz'" in told and "the store has tiny;" in told and "r1" not in told
    assert "the store is empty" in ashore("model", "show", "zzz", home=tmp_path / "empty").stderr
    assert "did you mean 'tiny'?" in ashore("model", "show", "tinny", home=home).stderr
