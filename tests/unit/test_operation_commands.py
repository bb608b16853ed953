"""An operation does what the command of the same name does: their fields, defaults and values are the same."""

from __future__ import annotations

import inspect
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashore.cli import operation
from ashore.cli.asjob import also_a_job
from ashore.cli.calls import Server
from ashore.cli.main import build_app
from ashore.cli.operation import COMMANDS, Order, command, do, operations, words_for
from ashore.cli.progress import PIPE, TerminalProgress
from ashore.cli.recorded import acts_as_owner, is_act, os_user
from ashore.errors import InvalidRequest, NotFound
from ashore.jobs.operations.model import NAMES

NEVER = {"config", "run", "out", "dry_run", "as_json", "take_over", "without_state", "keep", "checkpoints", "resume"}
"""Options that only the machine may say: files that are run, read or written, and what makes a second run unlike."""


def defaults_of(call: Any) -> dict[str, Any]:
    return {
        one.name: one.default_factory() if one.default_factory is not msgspec.NODEFAULT else one.default
        for one in msgspec.structs.fields(call.takes)
        if not one.required
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_an_operation_takes_is_what_its_command_takes(name: str) -> None:
    call, run = operations()[name], command(name)
    parameters = inspect.signature(run).parameters
    assert set(call.takes.__struct_fields__) <= set(parameters)
    assert not set(call.takes.__struct_fields__) & NEVER
    for field, default in defaults_of(call).items():
        theirs = parameters[field].default
        theirs = [] if theirs in ((), inspect.Parameter.empty) else theirs
        assert default == theirs or (not default and not theirs), (field, default, theirs)


def test_every_operation_has_a_command_that_there_is() -> None:
    assert set(COMMANDS) == set(NAMES) == set(operations())
    app = build_app()
    for name in NAMES:
        noun, word = name.split()
        assert app[noun][word].default_command is command(name)


def test_a_caller_s_words_are_values_and_never_options() -> None:
    asked = operations()["optimize evaluate"].takes(model="m", text=["/a b", "--out"], gate="-x", limit=3, speed=False)
    positional, named = words_for(command("optimize evaluate"), asked)
    assert positional == ["m"]
    assert named == {"text": (Path("/a b"), Path("--out")), "gate": Path("-x"), "limit": 3, "speed": False}
    positional, named = words_for(command("backup run"), operations()["backup run"].takes(models=["a", "b"]))
    assert (positional, named) == (["a", "b"], {})
    positional, named = words_for(command("model remove"), operations()["model remove"].takes(ref="m"))
    assert (positional, named) == (["m"], {"yes": True})


def test_what_is_done_for_an_account_is_recorded_as_done_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def verify(ref: str | None = None, /, *, config: Path | None = None) -> int:
        seen.append(f"{ref} {config} {os_user()}")
        return 4

    monkeypatch.setattr(operation, "command", lambda name: verify)
    monkeypatch.setenv("ASHORE_CHILD_CONFIG", "/srv/ashore.toml")
    asked = msgspec.Raw(b'{"ref":"m"}')
    order = Order(name="model verify", asked=asked, principal="ann#key=k", account="ann", tenant="acme")
    assert do(order) == 4
    assert seen == ["m /srv/ashore.toml ann"] and os_user().startswith("os:")
    with pytest.raises(InvalidRequest):
        do(msgspec.structs.replace(order, name="model rekey"))


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
        sent.append((self.url, call.word, asked))
        return Job()

    monkeypatch.setattr(Server, "ask", ask)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    @also_a_job("model verify")
    def verify(ref: str | None = None, /, *, config: Path | None = None, as_json: bool = False) -> int:
        """Verify."""
        return 9

    assert verify("m") == 9 and sent == []
    verify("m", job=True, server=Server(url="http://h"), as_json=True)
    ((url, word, asked),) = sent
    assert (url, word, asked.ref) == ("http://h", "verify", "m")
    with pytest.raises(InvalidRequest, match="--config says what only this machine may say"):
        verify("m", job=True, config=Path("x"))
    with pytest.raises(InvalidRequest, match="--url and --key name a server"):
        verify("m", server=Server(url="http://h"))


def test_a_command_with_job_is_no_act_of_the_owner() -> None:
    assert is_act(["model", "pull", "x"]) and not is_act(["model", "pull", "x", "--job"])
    assert acts_as_owner(["backup", "run"]) and not acts_as_owner(["backup", "run", "--job"])
