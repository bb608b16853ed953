"""The test of an engine on new hardware: every step, each with an engine that fails it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ashore.core.errors import InvalidRequest
from ashore.data.engines import EngineOptions, HostLaunch, files_by_name
from ashore.data.engines.tuning import QUESTIONS, Machine, Selftest, read_selftest, run_selftest
from ashore.data.engines.tuning.selftest import LEADING, Answer, Seen, Step, agree

PROMPTS = [list(question.encode()) for question in QUESTIONS]


def run_on(folder: Path, name: str, reference: Sequence[Answer] = ()) -> tuple[Seen, list[Step]]:
    files = files_by_name(name, folder)
    assert files is not None
    begun: list[Step] = []
    launch = HostLaunch(files=files, options=EngineOptions(kind="fake"), drain_s=0.0)
    log = folder / "log"
    seen = run_selftest(launch, PROMPTS, reference=reference, load_s=0.0, log=log, on_step=begun.append)
    return seen, begun


def result(seen: Seen) -> Selftest:
    machine = Machine(cpu="EPYC", cores=2)
    return Selftest(
        model="m", digest="d", engine=seen.engine, precision=seen.precision, machine=machine, accelerators={},
        at_s=1, took_s=1.0, checks=tuple(seen.checks), answers=seen.answers,
    )  # fmt: skip


def test_an_engine_that_works_passes_every_step_and_is_a_reference(tmp_path: Path) -> None:
    seen, begun = run_on(tmp_path, "fake:random?step_s=0.002")
    assert begun == ["start", "tokens", "streams", "memory", "kill"]
    assert [check.passed for check in seen.checks] == [True, None, True, True, True], seen.checks
    assert result(seen).failed == ()
    (tmp_path / "seen.json").write_bytes(msgspec.json.encode(result(seen)))
    reference = read_selftest(tmp_path / "seen.json").answers
    assert reference == seen.answers and all(len(one) == 32 for one in reference)
    strange = [tuple(reversed(one)) for one in reference]
    seen, _ = run_on(tmp_path, "fake:random?step_s=0.002", strange)
    assert [check.step for check in seen.checks if check.passed is False] == ["tokens"], seen.checks


@pytest.mark.parametrize(
    ("name", "step", "said"),
    [
        ("fake:random?fail_load=1", "start", "loading fails"),
        ("fake:random?raise_after=3", "tokens", ""),
        ("fake:random?die_after=300", "streams", ""),
    ],
)
def test_the_first_step_that_does_not_work_is_the_last_one(tmp_path: Path, name: str, step: Step, said: str) -> None:
    seen, begun = run_on(tmp_path, name)
    last = seen.checks[-1]
    assert (last.step, last.passed) == (step, False) and said in last.seen, seen.checks
    assert begun[-1] == step and result(seen).failed[0] == step and "kill" in result(seen).failed


def test_answers_agree_by_their_first_tokens() -> None:
    one = tuple(range(32))
    later, early = (*one[:LEADING], *one[LEADING + 1 :], 0), (9, *one[1:])
    assert agree([one, one], [later, early]) == 1


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_selftest(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"model": 1}')
    with pytest.raises(InvalidRequest, match="not the result of a selftest"):
        read_selftest(tmp_path / "other.json")
