"""`ashore completion`: which shell it is for, and the names that it offers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest
from cyclopts.completion import detect
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.cli import completion
from ashore.cli.main import main
from ashore.cli.names import ARGUMENTS, names_for
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidRequest
from ashore.data.path import ServedModel, Topology, write_topology
from ashore.kit.settings import Home
from ashore.kit.state import execute, open_database


def test_a_caller_without_a_shell_is_asked_for_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise detect.ShellDetectionError("Unable to detect shell type.")

    monkeypatch.setattr(detect, "detect_shell", unknown)
    with pytest.raises(InvalidRequest, match="the current shell could not be detected") as refused:
        completion.install()
    assert refused.value.hint == "name one: --shell bash|zsh|fish"


def test_a_shell_without_a_script_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "detect_shell", lambda: "powershell")
    with pytest.raises(InvalidRequest, match="the current shell is powershell"):
        completion.install()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a model, two aliases, three releases, and a server that answers for one more."""
    home = Home(root=tmp_path_factory.mktemp("home"))
    make_store(home.root).pull(str(make_tiny_model(home.root / "tiny", "qwen2")), name="tiny")
    state = open_database(home.state_db, snapshots=home.snapshots, clock=SystemClock())
    with contextlib.closing(state), state.write() as connection:
        for alias in ("chat", "code"):
            execute(connection, "INSERT INTO release_alias VALUES (:name, '{}', 1)", name=alias)
        for name in ("chat-1", "chat-2", "code-1"):
            execute(connection, "INSERT INTO release VALUES (:name, :alias, '{}', '{}')", name=name, alias=name[:-2])
    home.run.mkdir()
    served = ServedModel(
        alias="joined", release="joined-1", kind="fake", sockets=("/s",), content="c", adapters=("tone",)
    )
    write_topology(Topology(models=(served,)), home.topology)
    return home


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("alias show ", "chat code joined joined:tone"),
        ("chat c", "chat code"),
        ("release promote --why why chat-", "chat-1 chat-2"),
        ("alias set chat co", "code-1"),
        ("release rollback ", "chat code joined joined:tone"),
        ("model show ", "tiny"),
        ("optimize quantize t", "tiny"),
        ("access key create alice --model ", "chat code joined joined:tone tiny"),
        ("release list --url ", ""),
        ("release create x", ""),
        ("", ""),
    ],
)
def test_names_of_this_home_are_offered(home: Home, line: str, offered: str) -> None:
    assert names_for(line.split(" "), home) == offered.split()


def test_a_home_that_cannot_be_read_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "none")
    assert names_for(["chat", ""], home) == [] == names_for(["model", "show", ""], home)
    assert not home.root.exists()
    home.run.mkdir(parents=True)
    home.state_db.write_bytes(b"no database")
    home.topology.write_bytes(b"{")
    assert names_for(["chat", ""], home) == []


def test_the_scripts_get_one_name_a_line(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(home.root))
    assert main(["completion", "names", "--", "release", "promote", "--json", "x", "c"]) == 0
    assert capsys.readouterr().out == "chat-1\nchat-2\ncode-1\n"
    monkeypatch.setenv("ASHORE_LOG_LEVEL", "loud")
    assert main(["completion", "names", "--", "chat", ""]) == 0
    assert capsys.readouterr() == ("", "")


def test_every_command_that_names_such_a_thing_has_its_names() -> None:
    commands = json.loads((Path(__file__).parents[1] / "golden" / "commands.json").read_text())
    named = {"ALIAS", "RELEASE", "RELEASES", "REF", "MODEL", "MODELS"}
    taken = {command for command, words in commands.items() if named & set(words)}
    assert taken - {"plan", "plan size"} <= set(ARGUMENTS) <= set(commands), (
        "those two plan for models that are not here"
    )


def test_bash_offers_what_stands_behind_a_colon(tmp_path: Path) -> None:
    (tmp_path / "ashore").write_text('#!/bin/sh\n[ "$*" = "completion names -- chat --stats jo:" ] && echo jo:tone\n')
    (tmp_path / "ashore").chmod(0o755)
    typed = 'COMP_LINE="ashore chat --stats jo:"; COMP_POINT=${#COMP_LINE}; _ashore_or_name; echo "${COMPREPLY[@]}"'
    words = ["bash", "-c", "_ashore() { COMPREPLY=(); }\n" + completion.BEHIND["bash"] + typed]
    said = subprocess.run(words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "tone"


def test_a_name_that_a_shell_would_run_or_draw_is_not_offered(tmp_path: Path) -> None:
    home = Home(root=tmp_path)
    home.run.mkdir()
    models = [{"alias": one} for one in ("chat", "对话", "$(reboot)", "a b", "`x`", "\x1b[2J", "-x", "a;b", "a\nb", "")]
    home.topology.write_text(json.dumps({"models": models}))
    assert names_for(["chat", ""], home) == ["chat", "对话"]
