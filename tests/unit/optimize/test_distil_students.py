"""Students made from start to end out of tiny teachers: resumed, repeated, refused. Needs torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distil_bench import Watching, make_distiller, pull_teacher, wish_for
from store_making import make_store

from ashore.core.errors import BrokenData, Conflict, InvalidRequest, MemoryFull
from ashore.lab.training import StepReport

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:.is_gradient_checkpointing.:FutureWarning"
    ),  # peft asks transformers by the old name
]

torch = pytest.importorskip("torch")


class Unwatched:
    """A watcher that shows nothing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """See `Watcher`."""

    def step(self, report: StepReport) -> None:
        """See `Watcher`."""


def test_a_student_is_half_its_teacher_and_comes_out_the_same_twice(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        distiller = make_distiller(tmp_path / name)
        plan = distiller.plan(wish_for(tmp_path / name))
        assert plan.sizes.student_parameters == distiller.distil(plan, Unwatched()).student.shape.num_parameters
        made.append(distiller._store.resolve("tiny-distilled"))
    assert {f.path: f.digest for f in made[0].files} == {f.path: f.digest for f in made[1].files}
    assert made[0].shape.num_layers == 1
    assert not list((tmp_path / "one" / "work").glob("run-*"))


def test_it_learns_and_tells_what_it_did(tmp_path: Path) -> None:
    distiller = make_distiller(tmp_path)
    watching = Watching()
    plan = distiller.plan(wish_for(tmp_path, epochs=12, learning_rate=3e-3))
    report = distiller.distil(plan, watching)
    assert report.last_loss < 0.7 * report.first_loss
    assert 0 < report.logit_bytes_per_token <= 300
    assert watching.stages["teacher reads"] == (plan.num_examples, plan.num_examples)
    assert watching.steps[-1].step == watching.steps[-1].num_steps
    recipe = report.student.recipe
    assert recipe["maker"] == "distill"
    assert recipe["data.1"].startswith("train ") and recipe["data.2"].startswith("text ") and "data.3" not in recipe
    assert recipe["parameter.teacher_digest"] == distiller._store.resolve("tiny").digest
    assert recipe["parameter.layers"] == "1"


def test_kill_minus_9_anywhere_changes_nothing(tmp_path: Path) -> None:
    calm = make_distiller(tmp_path / "calm")
    expected = calm.distil(calm.plan(wish_for(tmp_path / "calm")), Unwatched()).student
    home = tmp_path / "killed"
    make_distiller(home)
    for kill in ("teacher", "step 2", ""):
        command = [sys.executable, "-m", "distil_bench", str(home), kill]
        paths = os.pathsep.join(str(Path(__file__).parents[3] / folder) for folder in ("src", "tests/support"))
        child = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        if kill:
            assert child.returncode == -signal.SIGKILL, child.stderr
        else:
            assert child.returncode == 0, child.stderr
    assert child.stdout == "resumed at 1\n"  # the checkpoint of step 2 was not there yet
    made = make_store(home).resolve("tiny-distilled")
    assert {f.path: f.digest for f in made.files} == {f.path: f.digest for f in expected.files}


def test_adapters_are_merged_into_what_is_kept(tmp_path: Path) -> None:
    distiller = make_distiller(tmp_path)
    pull_teacher(make_store(tmp_path), tmp_path, name="small", seed=5)
    wish = wish_for(tmp_path, student="small", layers=None, method="lora", rank=4, epochs=12, learning_rate=1e-2)
    report = distiller.distil(distiller.plan(wish), Unwatched())
    assert report.last_loss < 0.8 * report.first_loss
    small = distiller._store.resolve("small")
    assert report.student.shape == small.shape
    assert {f.path: f.digest for f in report.student.files}["model.safetensors"] not in {f.digest for f in small.files}


def test_the_teacher_reads_once_for_many_students(tmp_path: Path) -> None:
    distiller = make_distiller(tmp_path)
    distiller.distil(distiller.plan(wish_for(tmp_path)), Unwatched())
    again = Watching()
    distiller.distil(distiller.plan(wish_for(tmp_path, name="other", layers=2, intermediate=64)), again)
    stage, done, total = again.heard[0]
    assert (stage, done) == ("teacher reads", total)


def test_a_smaller_model_of_the_store_can_be_the_student(tmp_path: Path) -> None:
    distiller = make_distiller(tmp_path)
    pull_teacher(make_store(tmp_path), tmp_path, name="small", seed=5)
    plan = distiller.plan(wish_for(tmp_path, student="small", layers=None, name="taught"))
    report = distiller.distil(plan, Unwatched())
    assert report.student.parent == distiller._store.resolve("small").digest
    assert report.student.shape.num_layers == 2


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layers": 3}, InvalidRequest, r"--layers is 3; expected at most 2"),
    ({"hidden": 48}, InvalidRequest, r"--hidden is 48; .*multiple of 32"),
    ({"intermediate": 100}, InvalidRequest, r"--intermediate is 100; .*multiple of 32"),
    ({"layers": None}, InvalidRequest, "half of the .* are too few"),
    ({"student": "tiny"}, InvalidRequest, "--student tiny is a model, and --layers"),
    ({"data": (), "text": ()}, InvalidRequest, "no training data"),
    ({"temperature": 0.0}, InvalidRequest, "temperature is 0"),
    ({"name": "tiny"}, Conflict, "tiny is there already"),
    ({"layers": None, "student": "other"}, InvalidRequest, "other have different tokenizers"),
]


@pytest.mark.parametrize(("change", "kind", "words"), REFUSED)
def test_a_wish_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    distiller = make_distiller(tmp_path)
    if change.get("student") == "other":
        pull_teacher(make_store(tmp_path), tmp_path, name="other", bos="<|go|>")
    with pytest.raises(kind, match=words):
        distiller.plan(wish_for(tmp_path, **change))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "line 2"),
        ('{"prompt": "a"}', "line 2: a prompt has no completion"),
        ('{"prompt": "a", "completion": ""}', "line 2: a prompt has no completion"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2: it has no assistant message"),
        ('{"messages": [{"role": "boss", "content": "a"}]}', "line 2: Invalid enum value 'boss'"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    distiller = make_distiller(tmp_path)
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n" + line + "\n")
    with pytest.raises(BrokenData, match=words):
        distiller.plan(wish_for(tmp_path, data=(path,)))


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"\xff\xfe\x00", "is not UTF-8")])
def test_text_that_is_none_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    distiller = make_distiller(tmp_path)
    path = tmp_path / "wrong.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=words):
        distiller.plan(wish_for(tmp_path, text=(path,)))


def test_too_little_memory_is_told_with_what_would_fit(tmp_path: Path) -> None:
    wish = wish_for(tmp_path)
    needed = make_distiller(tmp_path).plan(wish).sizes.memory_bytes(wish.settings)
    for free, hint in ((needed - 1_000, "these values fit: --batch-tokens"), (needed // 2, "a smaller student")):
        distiller = make_distiller(tmp_path, free_memory=free)
        with pytest.raises(MemoryFull, match=r"needs about \d+ MiB of memory") as caught:
            distiller.plan(wish)
        assert hint in caught.value.hint


def test_a_full_disk_keeps_what_the_teacher_said(tmp_path: Path) -> None:
    import resource

    from ashore.core.errors import DiskFull

    distiller = make_distiller(tmp_path)
    plan = distiller.plan(wish_for(tmp_path))
    with limited_files(40_000), pytest.raises(DiskFull):
        distiller.distil(plan, Unwatched())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 40_000
    again = Watching()
    distiller.distil(plan, again)
    assert again.heard[0][1] > 0


@contextmanager
def limited_files(num_bytes: int) -> Iterator[None]:
    """Let no file of this process become longer, as on a disk whose quota is used up."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
