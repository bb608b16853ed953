"""The training loop: packing that changes nothing, the loss in chunks, exact resume after a kill, bad days."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_bench
from training_bench import small_corpus, small_run, tiny_model

from ashore.core.errors import Conflict, DiskFull, TrainingDiverged
from ashore.lab.training import LoopOptions, PackedBatches, RunState, answer_loss, mean_loss, train

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


def run_in_child(folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, training_bench.__file__, str(folder), str(kill_at)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_packed_row_has_loss_and_gradient_of_its_examples_one_by_one(tmp_path: Path, kind: str) -> None:
    """Against plain transformers: one example at a time, its own attention, its own cross-entropy over all logits."""
    from ashore.lab.training.attention import packed_attention

    model, corpus = tiny_model(tmp_path / "model", kind), small_corpus(6)
    total = torch.zeros(())
    for n in range(corpus.num_examples):
        one = corpus.batch((n,))
        ids = torch.from_numpy(one.ids_T)
        logits = model(input_ids=ids[None]).logits[0]
        wanted = torch.from_numpy(one.targets_T[1:])
        total = total + torch.nn.functional.cross_entropy(logits[:-1][wanted], ids[1:][wanted], reduction="sum")
    total.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with packed_attention(model):
        packed = answer_loss(model, corpus.batch(tuple(range(corpus.num_examples))))
    packed.backward()
    assert float(packed.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], rtol=1e-3, atol=1e-4), name
    assert model.config._attn_implementation == "sdpa", "the model is as it was"


def test_no_token_sees_another_example(tmp_path: Path) -> None:
    from ashore.lab.training.attention import packed_attention
    from ashore.lab.training.losses import hidden_states

    model, corpus = tiny_model(tmp_path / "model"), small_corpus(3)
    altered = small_corpus(3)
    altered.ids[: altered.starts[1]] = 1
    with packed_attention(model), torch.no_grad():
        ours, theirs = (hidden_states(model, c.batch((0, 1, 2))) for c in (corpus, altered))
    first = int(corpus.starts[1])
    assert torch.equal(ours[first:], theirs[first:])
    assert not torch.allclose(ours[:first], theirs[:first])


def test_gradient_checkpointing_changes_memory_and_nothing_else(tmp_path: Path) -> None:
    results = []
    for on in (False, True):
        model = tiny_model(tmp_path / "model")
        source = PackedBatches(small_corpus(), row_tokens=64, batch_tokens=128, seed=0)
        train(model, source, answer_loss, LoopOptions(learning_rate=1e-3, gradient_checkpointing=on))
        results.append(model.state_dict())
    for name, tensor in results[0].items():
        assert torch.allclose(tensor, results[1][name], atol=1e-6), name


def test_it_learns_and_tells(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    corpus = small_corpus()
    held_out = [small_corpus(10, seed=99).batch((n,)) for n in range(10)]
    before = mean_loss(model, held_out, answer_loss)
    reports: list[Any] = []
    source = PackedBatches(corpus, row_tokens=64, batch_tokens=128, seed=0, epochs=6)
    result = train(model, source, answer_loss, LoopOptions(learning_rate=3e-3), watch=reports.append)
    assert mean_loss(model, held_out, answer_loss) < before - 1
    assert [r.step for r in reports] == list(range(1, source.num_steps + 1))
    assert result.tokens == source.num_tokens == reports[-1].tokens
    assert result.losses == tuple(r.loss for r in reports) and result.stopped_by == "end"
    assert reports[-1].eta_s == 0 and reports[0].tok_per_s > 0
    assert not model.training


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_equal_seeds_give_equal_weights(tmp_path: Path, precision: str) -> None:
    models = []
    for name in ("a", "b"):
        model = tiny_model(tmp_path / "model")
        source = PackedBatches(small_corpus(), row_tokens=64, batch_tokens=128, seed=0)
        options = LoopOptions(learning_rate=1e-3, precision=precision)  # type: ignore[arg-type]
        train(model, source, answer_loss, options, state=RunState(folder=tmp_path / name))
        models.append(model.state_dict())
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    assert models[0]["model.norm.weight"].dtype == torch.float32


def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole")
    assert run_in_child(tmp_path / "cut", kill_at=6).returncode == -signal.SIGKILL
    resumed = small_run(tmp_path / "cut")
    assert 1 <= resumed.resumed_at <= 5, "a checkpoint of a step before it was killed at 6"
    assert resumed.losses == whole.losses and resumed.tokens == whole.tokens
    last = f"step-{whole.steps:08d}-"
    ours, theirs = (RunState(folder=tmp_path / n / "run", facts={"seed": "3"}).load() for n in ("cut", "whole"))
    assert ours is not None and theirs is not None and ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items())
    assert sorted(p.name for p in (tmp_path / "cut" / "run").iterdir())[-1].startswith(last)
    assert len(list((tmp_path / "cut" / "run").iterdir())) == 2, "the last two are kept, and nothing else"


def test_a_finished_run_that_is_resumed_is_finished(tmp_path: Path) -> None:
    first = small_run(tmp_path)
    again = small_run(tmp_path)
    assert again.steps == again.resumed_at == first.steps and again.losses == first.losses


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    small_run(tmp_path)
    before, last = sorted((tmp_path / "run").iterdir())
    state = RunState(folder=tmp_path / "run", facts={"seed": "3"})
    data = bytearray(last.read_bytes())
    for damaged in (data[: len(data) // 2], data[:-9] + bytes(9 - i for i in range(9))):
        last.write_bytes(damaged)
        found = state.load()
        assert found is not None and f"{found.position.step:08d}" in before.name
    before.write_bytes(b"")
    assert state.load() is None


def test_other_facts_are_refused_by_name(tmp_path: Path) -> None:
    small_run(tmp_path)
    with pytest.raises(Conflict, match="seed was 3, is 4"):
        RunState(folder=tmp_path / "run", facts={"seed": "4"}).load()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    small_run(tmp_path)
    state = RunState(folder=tmp_path / "run", facts={"seed": "3"})
    found = state.load()
    assert found is not None
    limit = 20_000
    program = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from ashore.core.errors import DiskFull\n"
        "from ashore.lab.training import RunState\n"
        "from ashore.lab.training.checkpointing.form import Position\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n"
        "    RunState(folder=Path(sys.argv[1]), facts={'seed': '3'}).save(\n"
        "        Position(step=99, tokens=1, seconds=1.0), {'parameter/x': torch.zeros(100_000)})\n"
        "except DiskFull as error:\n"
        "    print(error, error.hint)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")], capture_output=True, text=True, timeout=60, check=False
    )
    assert "391 KiB" in run.stdout and "continues from" in run.stdout, run.stderr
    again = state.load()
    assert again is not None and again.position == found.position
    assert len(list((tmp_path / "run").iterdir())) == 2
    assert DiskFull.exit_code == 3


def test_a_run_that_diverges_says_where_and_keeps_what_was_before(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    source = PackedBatches(small_corpus(), row_tokens=64, batch_tokens=128, seed=3, epochs=2)

    def loss(inner: Any, batch: Any) -> Any:
        return answer_loss(inner, batch) * (float("nan") if next(steps) > 4 else 1.0)

    steps = iter(range(1000))
    with pytest.raises(TrainingDiverged, match=r"step \d+ of \d+: loss nan"):
        train(model, source, loss, LoopOptions(learning_rate=1e-3))
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_it_stops_when_asked_and_in_time(tmp_path: Path) -> None:
    from ashore.core.clock import ManualClock

    source = PackedBatches(small_corpus(), row_tokens=64, batch_tokens=128, seed=3, epochs=2)
    clock = ManualClock()
    state = RunState(folder=tmp_path / "run")
    options = LoopOptions(learning_rate=1e-3, max_seconds=25)
    late = train(
        tiny_model(tmp_path / "model"), source, answer_loss, options,
        state=state, watch=lambda report: clock.advance(10), clock=clock,
    )  # fmt: skip
    assert (late.steps, late.stopped_by) == (3, "time")
    asked = train(
        tiny_model(tmp_path / "model"), source, answer_loss, options, state=state, stop=lambda: True, clock=clock
    )
    assert (asked.resumed_at, asked.steps, asked.stopped_by) == (3, 4, "request")
    found = state.load()
    assert found is not None and found.position.step == 4


def test_chunks_of_the_head_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ashore.lab.training import losses
    from ashore.lab.training.attention import packed_attention

    model, batch = tiny_model(tmp_path / "model"), small_corpus(20).batch(tuple(range(20)))
    sums = []
    for chunk in (1_000, 7):
        monkeypatch.setattr(losses, "CHUNK", chunk)
        model.zero_grad()
        with packed_attention(model):
            loss = answer_loss(model, batch)
        (loss / 3).backward()
        sums.append((float(loss.detach()), model.get_output_embeddings().weight.grad.clone()))
    assert sums[0][0] == pytest.approx(sums[1][0], rel=1e-5)
    assert np.allclose(sums[0][1], sums[1][1], atol=1e-5)
