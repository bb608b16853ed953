"""Parts of GPUs, planned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.cli.main import main
from ashore.core.errors import InvalidRequest
from ashore.machine.planning.fractions import PLACEMENTS, Part, mig_commands, plan_parts

GB = 10**9


def test_the_smallest_instance_with_enough_of_both_is_chosen() -> None:
    parts = [
        Part(model="chat", compute=0.4, memory_bytes=30 * GB),
        Part(model="fat", compute=0.1, memory_bytes=35 * GB),
        Part(model="small", compute=0.1, memory_bytes=9 * GB),
    ]
    placed = {one.model: one for one in plan_parts("h100-80", "mig", parts)}
    assert placed["chat"].what == "3g.40gb at slice 4"
    assert placed["fat"].what == "3g.40gb at slice 0", "compute is bought with memory"
    assert placed["small"].what == "1g.10gb at slice 0" and placed["small"].gpu == 1
    commands = mig_commands(list(placed.values()))
    assert commands[-2:] == ("nvidia-smi mig -i 0 -cgi 9:0,9:4 -C", "nvidia-smi mig -i 1 -cgi 19:0 -C")


def test_mps_and_slices_say_what_keeps_each_inside() -> None:
    parts = [Part(model="a", compute=0.6, memory_bytes=48 * GB), Part(model="b", compute=0.4, memory_bytes=24 * GB)]
    first, second = plan_parts("h100-80", "mps", parts)
    assert (first.gpu, second.gpu) == (0, 0) and first.vllm == "--gpu-memory-utilization 0.60"
    assert dict(second.environment)["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "40"
    assert plan_parts("h100-80", "slices", parts)[0].what == "1 of 2 turns"
    with pytest.raises(InvalidRequest, match="asks for 1 of a a100-40 and"):
        plan_parts("a100-40", "mig", [Part(model="a", compute=1, memory_bytes=50 * GB)])


@given(st.lists(st.tuples(st.floats(0.01, 1), st.integers(1, 80)), max_size=20), st.sampled_from(["mig", "mps"]))
def test_no_gpu_gets_more_than_it_has(asked: list[tuple[float, int]], way: str) -> None:
    parts = [Part(model=str(at), compute=c, memory_bytes=m * GB) for at, (c, m) in enumerate(asked)]
    placed = plan_parts("a100-80", way, parts)  # type: ignore[arg-type]
    assert sorted(one.model for one in placed) == sorted(part.model for part in parts)
    for gpu in {one.gpu for one in placed}:
        here = [one for one in placed if one.gpu == gpu]
        if way == "mig":
            slices = [at for one in here for at in range(one.start, one.start + one.slices)]
            assert len(slices) == len(set(slices)) and max(slices) < 8
            by_id = {number: compute for compute, (_, _, number) in PLACEMENTS.items()}
            assert sum(by_id[one.profile_id] for one in here) <= 7
        else:
            mine = [part for part in parts if part.model in {one.model for one in here}]
            assert sum(part.compute for part in mine) <= 1 + 1e-6
            assert sum(part.memory_bytes for part in mine) <= 80 * GB


def test_the_commands_print_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "gpus", "chat=0.5:40GB", "code=25%:20GB"]) == 0
    said = capsys.readouterr().out
    assert "nvidia.com/mig-4g.40gb: 1" in said and "migStrategy: mixed" in said
    assert main(["plan", "gpus", "chat=2:40GB"]) == 2
    assert "expected NAME=COMPUTE:MEMORY" in capsys.readouterr().err
    assert main(["plan", "gpus"]) == 2
    assert "give one for each model" in capsys.readouterr().err
