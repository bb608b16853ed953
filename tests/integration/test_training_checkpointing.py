"""Checkpoints that are written while training goes on: the right bits at any moment, whatever is killed or away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import checkpoint_bench
import pytest
import training_bench
from checkpoint_bench import Numbers
from memory_keeper import MemoryKeeper
from store_making import pull_tiny
from test_training_sft import PLENTY, asked
from training_bench import small_run

from ashore.core.clock import ManualClock
from ashore.core.errors import DiskFull
from ashore.kit.sealing import new_data_key
from ashore.kit.store import ModelStore
from ashore.lab.training import RunState, SftRun, plan_sft
from ashore.lab.training.checkpointing.form import PIECE_BYTES, Position, spare_bytes, write_file
from ashore.lab.training.checkpointing.writer import CheckpointWriter

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


def position(step: int) -> Position:
    return Position(step=step, tokens=10 * step, seconds=1.0, losses=(0.5,) * step)


def test_each_checkpoint_has_the_bits_of_its_step_whenever_the_update_comes(tmp_path: Path) -> None:
    """The writer is slowed and the update comes at random, so that any number of pieces has to be copied."""
    rng, state, numbers = random.Random(5), RunState(folder=tmp_path), Numbers()

    def keep(step: int, num_bytes: int, chunks: Iterator[memoryview]) -> Path:
        def slowly() -> Iterator[memoryview]:
            for chunk in chunks:
                time.sleep(rng.choice((0, 0, 0.0005, 0.003)))
                yield chunk

        return state.keep(step, num_bytes, slowly())

    writer = CheckpointWriter(keep, {"seed": "1"})
    copied = []
    for step in range(1, 61):
        numbers.update(step)
        assert writer.begin(position(step), lambda: numbers.tensors)
        time.sleep(rng.choice((0, 0.001, 0.005, 0.02)))
        before = writer.times.copied_bytes
        writer.before_update()
        numbers.update(step + 1000)
        copied.append(writer.times.copied_bytes - before)
        writer.before_update()
        writer.finish()
        file = RunState(folder=tmp_path, facts={"seed": "1"}).load()
        assert file is not None and file.position.step == step and not numbers.faults_of(file)
    writer.close()
    assert writer.times.saved == 60 and any(0 < size < 12_000_000 for size in copied)


def test_where_more_is_left_than_may_be_copied_the_update_waits(tmp_path: Path) -> None:
    numbers = Numbers(scale=12)  # 144 MB
    state = RunState(folder=tmp_path)
    writer = state.writer()
    for step in (1, 2):
        numbers.update(step)
        writer.begin(position(step), lambda: numbers.tensors)
        writer.before_update()
        numbers.update(99)
        writer.finish()
        found = state.load()
        assert found is not None and found.position.step == step and not numbers.faults_of(found)
    writer.close()
    assert 0 < writer.times.copied_bytes <= 2 * spare_bytes(150_000_000)


def test_while_one_is_written_the_next_is_left_out_and_a_fault_is_told_at_the_next(tmp_path: Path) -> None:
    numbers, go = Numbers(), threading.Event()

    def keep(step: int, num_bytes: int, chunks: Iterator[memoryview]) -> Path:
        assert go.wait(60)
        if step == 2:
            raise DiskFull("no room")
        return write_file(tmp_path, step, num_bytes, chunks, None)

    writer = CheckpointWriter(keep, {})
    assert writer.begin(position(1), lambda: numbers.tensors) and writer.is_busy
    assert not writer.begin(position(2), lambda: pytest.fail("the state was asked for"))
    go.set()
    writer.finish()
    assert writer.begin(position(2), lambda: numbers.tensors)
    writer.before_update()
    with pytest.raises(DiskFull, match="no room"):
        writer.finish()
    assert writer.begin(position(3), lambda: numbers.tensors)
    writer.finish()
    writer.close()
    assert (writer.times.saved, writer.times.skipped) == (2, 1)


def killed_while_saving(folder: Path, times: int, seed: int) -> None:
    """Kill a process that saves without pause, again and again; nothing that was told durable may be lost."""
    rng, numbers, first = random.Random(seed), Numbers(), 1
    command = [sys.executable, checkpoint_bench.__file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        for _ in range(times):
            print(first, file=server.stdin, flush=True)
            killer, durable = None, 0
            for line in server.stdout:
                word, _, number = line.strip().partition(" ")
                if word == "gone":
                    break
                if word == "pid":
                    pid = int(number)
                elif killer is None:
                    killer = threading.Timer(rng.uniform(0, 0.3), os.kill, (pid, signal.SIGKILL))
                    killer.start()
                durable = int(number) if word == "durable" else durable
            found = RunState(folder=folder).load()
            assert found is not None and durable and found.position.step >= durable, "a whole checkpoint was lost"
            assert not numbers.faults_of(found)
            assert len([path for path in folder.iterdir() if path.suffix == ".safetensors"]) <= 3
            first = found.position.step + 1
        server.stdin.close()


def test_killed_at_random_moments_of_saving_nothing_whole_is_lost_and_no_bit_is_wrong(tmp_path: Path) -> None:
    killed_while_saving(tmp_path, 10, seed=int.from_bytes(os.urandom(4)))


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_at_200_random_moments_of_saving(tmp_path: Path) -> None:
    killed_while_saving(tmp_path, 200, seed=int.from_bytes(os.urandom(4)))


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_at_random_times_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole")
    expected = RunState(folder=tmp_path / "whole" / "run", facts={"seed": "3"}).load()
    assert expected is not None
    rng = random.Random(int.from_bytes(os.urandom(4)))
    for turn in range(20):
        folder = tmp_path / f"cut{turn}"
        command = [sys.executable, training_bench.__file__, str(folder), "0"]
        for _ in range(3):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
                assert child.stdout is not None
                child.stdout.readline()
                time.sleep(rng.uniform(0, 0.3))
                child.kill()
        resumed = small_run(folder)
        assert resumed.losses == whole.losses
        found = RunState(folder=folder / "run", facts={"seed": "3"}).load()
        assert found is not None
        assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in expected.tensors.items())


def test_any_flipped_byte_and_any_cut_is_found(tmp_path: Path) -> None:
    for key in (None, new_data_key()):
        state, numbers = RunState(folder=tmp_path / str(key is None), key=key), Numbers()
        for step in (1, 2):
            numbers.update(step)
            path = state.save(position(step), numbers.tensors)
        data = path.read_bytes()
        rng = random.Random(1)
        places = [0, 7, 8, 9, 40, 71, 72, 100, len(data) - 1, *(rng.randrange(len(data)) for _ in range(12))]
        damaged = [data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] for at in places]
        for wrong in (*damaged, b"", data[:50], data[: len(data) // 2], data[:-1], data + b"x"):
            path.write_bytes(wrong)
            found = state.load()
            assert found is not None and found.position.step == 1
        path.write_bytes(data)
        found = state.load()
        assert found is not None and found.position.step == 2 and not numbers.faults_of(found)


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    state, numbers = RunState(folder=tmp_path), Numbers()
    (tmp_path / ".step-00000000.new").write_bytes(b"left by a process that was killed")
    for step in range(1, 8):
        state.save(position(step), numbers.tensors)
    assert [int(path.name[5:13]) for path in sorted(tmp_path.iterdir())] == [6, 7]


def test_what_a_sealed_model_learns_is_sealed_and_a_cut_run_goes_on_to_the_same_model(tmp_path: Path) -> None:
    keeper = MemoryKeeper()
    store = ModelStore(tmp_path / "store", tmp_path / "run", ManualClock(), keeper=lambda: keeper)
    pull_tiny(store, tmp_path, kind="qwen2")
    places = {"runs": tmp_path / "runs", "adapters": tmp_path / "adapters", "logs": tmp_path / "logs"}
    cache = tmp_path / "cache"

    def run(name: str, steps: int = 10_000) -> object:
        plan = plan_sft(store, asked(tmp_path, name=name, merge=True), available_bytes=PLENTY, cache=cache)
        done = 0

        def stop() -> bool:
            nonlocal done
            done += 1
            return done >= steps

        return SftRun(store, plan, **places).run(resume=True, stop=stop)

    clear = run("clear")
    store.seal("tiny")
    assert run("cut", steps=3) is None
    (file,) = (tmp_path / "runs" / "cut").glob("step-*")
    assert file.suffix == ".sealed" and b"lora_A" not in file.read_bytes()
    found = RunState(folder=tmp_path / "runs" / "cut").load()
    assert found is None, "it does not open without the key"
    cut = run("cut")
    assert cut.resumed_at_step == 3 and cut.tokens == clear.tokens  # type: ignore[attr-defined]
    assert cut.loss_last == clear.loss_last  # type: ignore[attr-defined]
    assert not (tmp_path / "runs" / "cut").exists()


def test_memory_stays_within_its_bound(tmp_path: Path) -> None:
    """The state is 240 MB; what a checkpoint takes beside it is the spare memory and a buffer."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom checkpoint_bench import Numbers\n"
        "from ashore.lab.training import RunState\nfrom ashore.lab.training.checkpointing.form import Position\n"
        "from ashore.lab.training.sft import peak_memory_bytes\n"
        "numbers = Numbers(scale=20)\nnumbers.update(1)\nbefore = peak_memory_bytes()\n"
        "writer = RunState(folder=Path(sys.argv[1])).writer()\n"
        "for step in (1, 2):\n"
        "    writer.begin(Position(step=step, tokens=0, seconds=0.0), lambda: numbers.tensors)\n"
        "    writer.before_update()\n    numbers.update(step + 1)\n    writer.finish()\n"
        "writer.close()\nprint(peak_memory_bytes() - before)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environ)
    assert run.returncode == 0, run.stderr
    assert spare_bytes(240_000_000) == 12_000_000
    assert int(run.stdout) < 12_000_000 + 4 * PIECE_BYTES + (16 << 20)
