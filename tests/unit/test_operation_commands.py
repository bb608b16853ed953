"""An operation is declared once: what its request takes is part of what its command takes, and both do one use case."""

from __future__ import annotations

import inspect
import io
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashore.cli import bootstrap, operation
from ashore.cli.bootstrap.operations import Shown, Work, find_operation
from ashore.cli.bootstrap.operations import models as model_operations
from ashore.cli.calls import Server
from ashore.cli.main import build_app
from ashore.cli.operation import Order, do
from ashore.cli.operations import calls_by_name, operation_command
from ashore.cli.progress import PIPE, TerminalProgress
from ashore.cli.recorded import acts_as_owner, is_act, os_user, recorded
from ashore.core.errors import InvalidRequest, NotFound
from ashore.data.jobs.operations.asks import VerifyIn
from ashore.data.jobs.operations.model import NAMES
from ashore.kit.recorder import MemoryRecorder

NEVER = {"config", "run", "out", "dry_run", "as_json", "take_over", "without_state", "keep", "checkpoints", "resume"}
"""Options that only the machine may say: files that are run, read or written, and what makes a second run unlike."""


@pytest.mark.parametrize("name", NAMES)
def test_what_a_request_takes_is_declared_with_its_command(name: str) -> None:
    call, its = calls_by_name()[name], find_operation(name)
    assert issubclass(its.takes, call.takes)
    assert not set(call.takes.__struct_fields__) & NEVER
    assert call.summary == (inspect.getdoc(its.takes) or "").partition("\n\n")[0].replace("\n", " ")


def test_every_operation_has_a_command_that_there_is() -> None:
    assert set(NAMES) == set(calls_by_name())
    app = build_app()
    for name in NAMES:
        noun, word = name.split()
        taken = inspect.signature(app[noun][word].default_command).parameters
        assert set(find_operation(name).takes.__struct_fields__) | {"job", "as_json"} <= set(taken)


def test_what_is_done_for_an_account_is_recorded_as_done_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def verify(asked: VerifyIn, work: Work) -> Shown:
        seen.append(f"{asked.ref} {work.config} {work.actor}")
        return Shown(document={}, lines=(), code=4)

    one = find_operation("model verify")
    changed = type(one)(name=one.name, takes=one.takes, do=verify, configured=True)
    monkeypatch.setattr(model_operations, "OPERATIONS", (changed,))
    monkeypatch.setenv("ASHORE_CHILD_CONFIG", "/srv/ashore.toml")
    asked = msgspec.Raw(b'{"ref":"m"}')
    order = Order(name="model verify", asked=asked, principal="ann#key=k", account="ann", tenant="acme")
    assert do(order) == 4
    assert seen == ["m /srv/ashore.toml ann"] and os_user().startswith("os:")
    for unknown in ("model rekey", "nothing at all"):
        with pytest.raises(InvalidRequest, match="there is no operation"):
            do(msgspec.structs.replace(order, name=unknown))


def test_a_process_tells_its_steps_and_its_error_on_the_pipe_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(tmp_path / "pipe", "wb", buffering=0) as pipe:
        monkeypatch.setenv(PIPE, str(pipe.fileno()))
        with TerminalProgress() as progress:
            progress("weights", 5, 1 << 21)
            progress("weights", 6, 1 << 21)  # too soon
            progress("weights", 1 << 21, 1 << 21)
            progress.steps("train", 1, 9, "loss 2.0")
            progress.share("round", 0.5)

        def work() -> int:
            raise NotFound("there is no model", hint="pull it")

        with pytest.raises(NotFound):
            operation._told(work)
    told = [json.loads(line) for line in (tmp_path / "pipe").read_text().splitlines()]
    assert [(one.get("stage"), one.get("done"), one.get("unit")) for one in told] == [
        ("weights", 5, "bytes"), ("weights", 1 << 21, "bytes"), ("train", 1, "steps"), ("round", 50, ""),
        (None, None, None),
    ]  # fmt: skip
    assert told[-1] == {"code": "not_found", "message": "there is no model", "hint": "pull it"}
    assert capsys.readouterr().err == ""


def test_with_job_a_command_is_sent_and_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Job(msgspec.Struct):
        id: str = "op_1"
        kind: str = "model verify"
        state: str = "queued"

    def ask(self: Server, call: Any, asked: Any) -> Job:
        sent.append((self.url, f"{call.noun} {call.word}", msgspec.to_builtins(asked)))
        return Job()

    monkeypatch.setattr(Server, "ask", ask)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    evaluate = operation_command("optimize evaluate")
    evaluate(
        "m", text=("/a b", "--out"), gate=Path("-x"), limit=3, job=True, server=Server(url="http://h"), as_json=True
    )
    ((url, name, asked),) = sent
    assert (url, name) == ("http://h", "optimize evaluate")
    assert (
        asked["model"] == "m" and asked["text"] == ["/a b", "--out"] and asked["gate"] == "-x" and asked["limit"] == 3
    )
    assert set(asked) == set(calls_by_name()["optimize evaluate"].takes.__struct_fields__)
    for given in ({"out": Path("x")}, {"option": ("a=b",)}):
        with pytest.raises(InvalidRequest, match=f"--{next(iter(given))} says what only this machine may say"):
            evaluate("m", job=True, **given)
    verify = operation_command("model verify")
    with pytest.raises(InvalidRequest, match="--config says what only this machine may say"):
        verify("m", job=True, config=Path("x"))
    with pytest.raises(InvalidRequest, match="--url and --key name a server"):
        verify("m", server=Server(url="http://h"))
    assert len(sent) == 1


def test_a_command_with_job_is_no_act_of_the_owner() -> None:
    assert is_act(["model", "pull", "x"]) and not is_act(["model", "pull", "x", "--job"])
    assert acts_as_owner(["backup", "run"]) and not acts_as_owner(["backup", "run", "--job"])


def test_an_act_on_files_that_is_killed_leaves_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = MemoryRecorder()
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    monkeypatch.setattr(bootstrap, "command_recorder", lambda home: nullcontext(recorder))
    with pytest.raises(SystemExit), recorded(["model", "gc"]):
        raise SystemExit
    assert [(one.action, one.outcome) for one in recorder.acts] == [("model:gc", "allowed")]
    with recorded(["model", "gc"]):
        pass
    assert [one.outcome for one in recorder.acts[1:]] == ["allowed", "done"]
