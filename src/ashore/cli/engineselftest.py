"""`ashore engine selftest`: plan one model, test it in hosts of its own, and write what was seen."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

import msgspec

from ashore.cli.bootstrap import build_store, open_model_files
from ashore.cli.sure import say_only
from ashore.cli.upplan import plan_and_fetch, plan_without_fetching
from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import EngineFailed, InvalidRequest, InvalidSpec, UnsupportedModel
from ashore.core.visible import on_a_screen
from ashore.data.engines import HostLaunch, ModelFiles, read_inventory
from ashore.data.engines.tuning import QUESTIONS, STEPS, Selftest, describe_machine, read_selftest, run_selftest
from ashore.data.text import TextModel
from ashore.kit.accelerators import count_cards
from ashore.kit.folders import make_folder
from ashore.kit.settings import read_settings
from ashore.kit.wholefile import write_whole
from ashore.machine.config import Spec
from ashore.machine.planning import ModelSection

_WORDS: Final = {True: "ok", False: "FAILED", None: "-"}


def test_one(section: ModelSection, *, reference: Path | None, load_s: float, to: Path | None, dry_run: bool) -> None:
    """Test one model, and print and write the result.

    Raises:
        EngineFailed: a step did not pass; the result was written all the same.
    """
    if to and to.exists() and not to.is_file():
        raise InvalidSpec(f"--to {to} is not a file", hint="name a file, which need not exist")
    trusted = read_selftest(reference) if reference else None
    settings = read_settings()
    path = to or settings.home.cache / "selftest.json"
    if not dry_run:  # before minutes of work, not after them
        settings.home.create()
        make_folder(path.parent)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InvalidSpec(f"{path} cannot be written", hint="name a file with --to that you may write")
    planned = plan_without_fetching if dry_run else plan_and_fetch
    plan, notes = planned(Spec(models=(section,)), settings, read_inventory())
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    (model,) = plan.models
    if not model.chats:
        raise UnsupportedModel(
            f"{model.reference} writes no text, and the test compares texts", hint="name another model"
        )
    if trusted and (trusted.model.partition("@")[0] != model.name or len(trusted.answers) != len(QUESTIONS)):
        raise InvalidRequest(
            f"{reference} has {len(trusted.answers)} answers of {trusted.model}, not {len(QUESTIONS)} of {model.name}",
            hint="make the reference with the same ashore and model",
        )
    print(f"{model.reference} with {model.options.kind}: {', '.join(STEPS)}", file=sys.stderr)
    if dry_run:
        say_only(f"ask it {len(QUESTIONS)} questions, keep it under load for {load_s:g} s, and kill its host once")
        return
    files = open_model_files(build_store(settings.home, settings), settings.home, model)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: the host ends, and its folder goes
    log = settings.home.logs / "engine-selftest.log"
    began_s = time.monotonic()
    seen = run_selftest(
        HostLaunch(files=files, options=model.options, drain_s=0.0),
        _prompts(files),
        reference=trusted.answers if trusted else _known(model.name),
        load_s=load_s,
        log=log,
        on_step=lambda step: print(f"{STEPS.index(step) + 1} of {len(STEPS)}: {step}", file=sys.stderr, flush=True),
    )
    result = Selftest(
        model=model.reference,
        digest=files.digest,
        engine=seen.engine,
        precision=seen.precision,
        machine=describe_machine(cpu=plan.inventory.cpu, cores=plan.inventory.cores),
        accelerators=count_cards(),
        at_s=int(SystemClock().now_s()),
        took_s=round(time.monotonic() - began_s, 1),
        checks=tuple(seen.checks),
        answers=seen.answers,
    )
    for check in result.checks:
        print(on_a_screen(f"{_WORDS[check.passed]:6}  {check.step:7}  {check.seen}"))
    write_whole(path, msgspec.json.format(msgspec.json.encode(result), indent=1), mode=0o644)
    print(f"written to {path}\nto sign it: ssh-keygen -Y sign -n ashore-selftest -f KEY {path}", file=sys.stderr)
    if result.failed:
        raise EngineFailed(
            f"{model.reference} with {model.options.kind} did not pass: {', '.join(result.failed)}", hint=f"see {log}"
        )


def _prompts(files: ModelFiles) -> list[list[int]]:
    text = TextModel.load(Path(files.directory))
    if not text.template_source:
        return [text.encode(question) for question in QUESTIONS]
    return [text.encode_chat([Message(role="user", content=question)]) for question in QUESTIONS]


def _known(name: str) -> Sequence[tuple[int, ...]]:
    """Return the answers of a model of the catalogue that ashore comes with; empty: it comes with none."""
    known = resources("ashore.data.engines.tuning").joinpath("answers.json").read_bytes()
    return msgspec.json.decode(known, type=dict[str, tuple[tuple[int, ...], ...]]).get(name, ())
