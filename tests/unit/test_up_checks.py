"""`ashore up --dry-run` refuses what a start would refuse, and shows what stands beside the models."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_keeper import MemoryKeeper
from page_run import blocks_of
from store_making import make_store
from tiny_head import write_head
from tiny_models import make_tiny_model

from ashore.cli.bootstrap import build_store
from ashore.cli.bootstrap.plans import gather_facts
from ashore.cli.bootstrap.state import open_state
from ashore.cli.main import main
from ashore.cli.upplan import Request, plan_and_fetch, plan_without_fetching
from ashore.cli.uptune import untuned
from ashore.core.errors import Conflict, InvalidSpec, UnknownModel
from ashore.data.engines import read_inventory
from ashore.kit.settings import read_settings
from ashore.kit.store import name_of_source
from ashore.machine.config import parse_spec
from ashore.machine.planning import StoreWorkshop

BURSTS = Path(__file__).parents[2] / "docs" / "how-to" / "answer-bursts-in-time.md"
Dry = Callable[..., tuple[int, str, str]]
MODEL = """[[model]]
name = "tiny"
alias = "chat"
"""


@pytest.fixture
def dry(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free_port: Callable[[], int],
) -> Dry:
    """Run `ashore up --dry-run` with an ashore.toml, where the store has a model."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    store = build_store(read_settings().home)
    store.pull(str(make_tiny_model(tmp_path / "tiny", "llama")))

    def run(text: str, *words: str) -> tuple[int, str, str]:
        (tmp_path / "ashore.toml").write_text(text)
        capsys.readouterr()
        ports = ["--port", str(free_port()), "--grpc-port", "0"]
        code = main(["up", "--dry-run", "--config", str(tmp_path / "ashore.toml"), *ports, *words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_more_threads_than_cores_are_refused(dry: Dry) -> None:
    cores = read_inventory().cores
    code, shown, told = dry(f"{MODEL}[model.engine]\nthreads = {cores + 1}\n")
    assert code == 2 and shown.startswith("machine "), "the plan is shown all the same"
    assert f"chat: [model.engine] threads = {cores + 1}, but this machine has {cores} core" in told
    assert dry(f"{MODEL}[model.engine]\nthreads = {cores}\n")[0] == 0


def test_a_folder_that_is_no_adapter_is_refused(dry: Dry, tmp_path: Path) -> None:
    text = MODEL + '[model.adapters]\ntone = "./tone"\n'
    code, _, told = dry(text)
    assert code == 2 and f"chat: expected the adapter tone in {tmp_path / 'tone'}, which is not a directory" in told
    (tmp_path / "tone").mkdir()
    code, _, told = dry(text)
    assert code == 2 and "has no adapter_config.json" in told and "hint:" in told
    (tmp_path / "tone" / "adapter_config.json").write_text("{}")
    assert dry(text)[0] == 0


def test_a_ladder_is_shown_and_a_rung_without_a_gate_is_refused(dry: Dry) -> None:
    text = MODEL + '[model.ladder]\nrungs = ["int8"]\n'
    code, _, told = dry(text)
    assert code == 2 and "chat: the rung tiny@int8 was never held to a gate" in told and "--gate gate.toml" in told
    code, shown, _ = dry(text + "needs_gate = false\ntpot_ms = 40\n")
    assert code == 0 and "ladder " in shown and "> int8" in shown and "rung_tpot_ms" not in shown
    code, _, told = dry(text + '[model.adapters]\ntone = "./tone"\n')
    assert code == 2 and "has a ladder and adapters" in told
    code, _, told = dry(text + '[model.engine]\nkind = "torch"\n')
    assert code == 2 and "torch has no ladder" in told
    code, _, told = dry(MODEL + '[model.ladder]\nrungs = ["a/b"]\n')
    assert code == 2 and "expected names of variants" in told


def test_the_page_about_bursts_declares_a_ladder() -> None:
    _, files = blocks_of(BURSTS.read_text(encoding="utf-8"))
    (model,) = parse_spec(files["ashore.toml"]).models
    assert model.name == "smollm2@fp16" and model.ladder.rungs == ("int8",) and model.ladder.needs_gate


def test_everything_beside_the_models_is_shown(dry: Dry, tmp_path: Path) -> None:
    sections = '[cache]\nmode = "off"\n[audit]\ndurability = "strict"\n[backup]\nevery_s = 7200\n'
    code, shown, _ = dry(MODEL + sections)
    assert code == 0
    words = {line.split()[0]: line for line in shown.splitlines() if line and not line.startswith(" ")}
    assert words["cache"].split()[1] == "off" and words["audit"].split()[1] == "strict"
    assert "no anchor" in words["audit"] and words["budgets"].split()[1] == "none"
    assert "every 2 h" in words["backup"] and "not set up" in words["backup"]
    assert words["masking"].split()[1:3] == ["built", "in"] and "id_card" in words["masking"]
    assert words["edge"].split()[1] == "none" and "without TLS" in words["edge"]
    assert "note: [backup] every_s is set, but this home has no backup yet" in shown
    told = json.loads(dry(MODEL + sections, "--json")[1])
    assert [one["field"] for one in told["sections"]] == ["cache", "audit", "budgets", "masking", "backup", "edge"]
    assert not (tmp_path / "home" / "first-key").exists()


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((), False),
        (("--host", "localhost"), False),
        (("--host", "0.0.0.0"), True),
        (("--host", "::"), True),
        (("--host", "0.0.0.0", "--edge", "envoy"), False),
    ],
)
def test_keys_in_clear_are_warned_of(dry: Dry, words: tuple[str, ...], warned: bool) -> None:
    code, shown, told = dry(MODEL, *words)
    assert code == 0, told
    assert ("keys, prompts and answers travel unencrypted" in shown) == warned
    if words == ("--host", "0.0.0.0"):
        assert re.search(r"http://127.0.0.1:(\d+), on every address of this machine \(0.0.0.0:\1\)", shown)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("./my-llama", "my-llama"),
        ("/models/My Llama/", "my-llama"),
        ("~/down/q4.gguf", "q4"),
        ("hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B@main", "deepseek-r1-distill-qwen-1.5b"),
        ("oci://registry.example.com:5000/models/smollm2:1", "smollm2"),
        ("pypi:smollm2==1.0", "smollm2"),
    ],
)
def test_a_source_is_called_as_the_store_calls_it(source: str, name: str) -> None:
    assert name_of_source(source) == name
    assert Request(models=(source,)).spec().models[0].alias == name


def test_names_of_no_source_and_given_ones_stay_and_two_of_a_name_are_refused() -> None:
    assert [one.alias for one in Request(models=("smollm2", "fake:echo?seed=1")).spec().models] == ["", ""]
    with pytest.raises(InvalidSpec, match="two models would have the alias tiny"):
        Request(models=("./a/tiny", "./b/tiny")).spec()


REFUSED = {
    "a KV cache of terabytes": (f"{MODEL}[model.engine]\nkv_tokens = 900000000000\n", "tokens of KV cache need"),
    "more threads than cores": (f"{MODEL}[model.engine]\nthreads = 9999\n", "threads = 9999"),
    "a share of more than there is": (f"{MODEL}[model.share]\nmemory_bytes = 900000000000\n", "[model.share] promises"),
    "an engine that is not installed": (f'{MODEL}[model.engine]\nkind = "vllm"\n', "not installed"),
    "an adapter that is not there": (f'{MODEL}[model.adapters]\ntone = "./tone"\n', "is not a directory"),
    "a format that the engine does not read": (f'{MODEL}[model.engine]\nkind = "tabular"\n', "supports head"),
    "a rung that was never held to a gate": (f'{MODEL}[model.ladder]\nrungs = ["int8"]\n', "was never held to a gate"),
    "a certificate that is not there": (
        f'{MODEL}[edge]\nkind = "envoy"\ncertificate = "./none.pem"\nkey = "./none.key"\n', "No such file",
    ),
    "a port that another program has": (f"{MODEL}[http]\nport = TAKEN\n[grpc]\nport = 0\n", "already in use"),
    "a host of another machine": (f'{MODEL}[http]\nhost = "192.0.2.1"\n[grpc]\nport = 0\n', "not an address of this"),
    "a home with half a restore": (MODEL, "is not finished"),
    "a home that is a file": (MODEL, "cannot be created below it"),
}  # fmt: skip
"""ashore.toml, and what is said of it."""


@pytest.mark.parametrize("what", REFUSED)
def test_a_dry_run_refuses_what_a_start_refuses_in_the_same_words(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    free_port: Callable[[], int],
) -> None:  # fmt: skip
    home = tmp_path / "home"
    monkeypatch.setenv("ASHORE_HOME", str(home))
    build_store(read_settings().home).pull(str(make_tiny_model(tmp_path / "tiny", "llama")))
    if "half a restore" in what:
        (home / ".restoring").touch()
    if "is a file" in what:
        (tmp_path / "file").touch()
        monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "file" / "home"))
    text, told = REFUSED[what]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if "[http]" not in text:
            text += f"[http]\nport = {free_port()}\n[grpc]\nport = 0\n"
        (tmp_path / "ashore.toml").write_text(text.replace("TAKEN", str(taken.getsockname()[1])))
        words = ["up", "--config", str(tmp_path / "ashore.toml")]
        codes, errors = [], []
        for more in ([], ["--dry-run"]):
            codes.append(main([*words, *more]))
            said = capsys.readouterr().err
            errors.append(re.sub(r"[0-9.]+ [KMGT]iB are free|at most \d+", "", said[said.index("error:") :]))
    assert told in errors[0] and errors[0] == errors[1]
    assert codes[0] == codes[1] != 0


def test_a_directory_is_taken_as_it_is_now_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed files, and another directory of the same name, were ignored: the stored model was served."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    settings, inventory = read_settings(), read_inventory()
    store = build_store(settings.home, settings, keeper=MemoryKeeper)

    def start(folder: Path) -> str:
        plan_and_fetch(Request(models=(str(folder),), offline=True).spec(), settings, inventory)
        return str(store.resolve("tiny").digest)

    old = store.pull(str(write_head(tmp_path / "tiny"))).digest
    write_head(tmp_path / "tiny", bias=[1])
    new = start(tmp_path / "tiny")
    assert new != old
    elsewhere = str(write_head(tmp_path / "elsewhere" / "tiny"))
    with pytest.raises(UnknownModel, match=f"{elsewhere} is not in the store yet"):
        plan_without_fetching(Request(models=(elsewhere,)).spec(), settings, inventory)
    with pytest.raises(Conflict, match=f"from file:{tmp_path}/tiny; the new one is from file:{elsewhere}"):
        store.pull(elsewhere)
    store.seal("tiny")
    sealed = store.resolve("tiny").digest
    write_head(tmp_path / "tiny", bias=[2])
    with pytest.raises(Conflict, match="changed after tiny was sealed from it"):
        start(tmp_path / "tiny")
    assert store.resolve("tiny").digest == sealed


def test_a_variant_that_was_imported_alone_is_served_by_the_name_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stick brings the prepared form and not the original, at half the size."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    settings = read_settings()
    elsewhere = make_store(tmp_path / "elsewhere")
    parent = elsewhere.pull(str(make_tiny_model(tmp_path / "tiny", "llama")))
    made = tmp_path / "made"
    made.mkdir()
    (made / "openvino_model.xml").write_text("<net/>")
    (made / "openvino_model.bin").write_bytes(b"\1" * 5000)
    variant = elsewhere.add_variant(parent, "int8", made, format="openvino", weights="openvino_model.xml", recipe={})
    store = build_store(settings.home)
    store.import_tar(elsewhere.export("tiny@int8", tmp_path / "tiny-int8.tar"))
    with pytest.raises(UnknownModel) as lost:
        store.export("tiny", tmp_path / "tiny.tar")
    assert lost.value.hint == "its variant was imported alone: name tiny@int8"
    spec = parse_spec('[[model]]\nname = "tiny"\n')
    state = open_state(settings)
    plan, _ = plan_and_fetch(spec, dataclasses.replace(settings, offline=True), read_inventory())
    assert [(one.reference, one.alias) for one in plan.models] == [("tiny@int8", "tiny")]
    assert untuned(spec, plan, store, state) == ()
    described = StoreWorkshop(lambda: store, lambda alias: {}, gather_facts).describe_plan(plan.models[0])
    assert described.parts["weights"] == variant.digest and "tokenizer" in described.parts
    state.close()
