"""`--help` of every command: each option explained, no default that contradicts its text, examples that parse."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import cyclopts
import pytest
from cyclopts.help import HelpEntry

from ashore import __version__
from ashore.cli.commands import COMMANDS, USUAL_ELSEWHERE
from ashore.cli.examples import EXAMPLES
from ashore.cli.helptext import examples_of, plain, text_of
from ashore.cli.main import build_app, main

APP = build_app()


def commands(app: cyclopts.App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of every command that does something."""
    for name in app:
        if name.startswith("-"):
            continue
        below = app[name]
        if below.default_command is not None:
            yield (*words, name)
        yield from commands(below, (*words, name))


ALL = tuple(commands(APP))


def entries(words: tuple[str, ...]) -> list[HelpEntry]:
    """Return what the help of a command shows, row by row."""
    _, apps, _ = APP.parse_commands(list(words))
    with APP.app_stack(apps):
        panels = APP._assemble_help_panels(list(words), "markdown")
    return [plain(entry) for _, panel in panels if panel.format == "parameter" for entry in panel.entries]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_and_argument_is_explained(words: tuple[str, ...]) -> None:
    silent = [entry.display_labels for entry in entries(words) if not text_of(entry)]
    assert silent == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_no_default_contradicts_the_text_and_no_switch_has_two_spellings_for_off(words: tuple[str, ...]) -> None:
    for entry in entries(words):
        assert entry.default not in ("False", "True", '""', "()", "-1"), entry.display_labels
        if entry.default in ("0", "0.0"):
            assert "default" not in text_of(entry).lower(), entry.display_labels
        assert not entry.negative_names or entry.default == "on" or entry.type == bool | None, entry.display_labels


def test_every_usage_line_names_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {}
    for words in ALL:
        assert main([*words, "--help"]) == 0
        lines[words] = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Usage: "))
    assert [line for line in lines.values() if "ARGS" in line] == []
    assert lines["access", "group", "add"] == "Usage: ashore access group add [OPTIONS] GROUP [ACCOUNTS...]"
    assert lines["up",] == "Usage: ashore up [OPTIONS] [MODELS...]"
    assert lines["release", "create"] == "Usage: ashore release create --model STR [OPTIONS] [NAME]"


def test_every_noun_is_shown_in_use() -> None:
    assert list(EXAMPLES) == [command.name for command in COMMANDS]


@pytest.mark.parametrize("line", [one.line for examples in EXAMPLES.values() for one in examples])
def test_an_example_names_only_commands_and_options_that_there_are(line: str) -> None:
    words = shlex.split(line.rpartition("| ")[2])
    assert words.pop(0) == "ashore"
    APP.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (["help"], "Start here: ashore up"),
        (["help", "cache", "purge"], "ashore cache purge --tenant bank-a"),
        (["version"], f"ashore {__version__}\n"),
    ],
)
def test_help_and_version_are_words_too(words: list[str], shows: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert shows in capsys.readouterr().out


def test_help_of_a_command_ends_with_its_own_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "purge", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "ashore cache purge --tenant bank-a" in shown.partition("Examples:")[2]
    assert "ashore cache stats" not in shown.partition("Examples:")[2]
    assert main(["cache"]) == 0
    assert "ashore cache stats" in capsys.readouterr().out.partition("Examples:")[2]
    assert examples_of(["cache", "stats", "--json"]).count("ashore cache") == 1
    assert examples_of(["model", "gc"]) == examples_of(["model"]) != ""


def test_an_example_that_does_not_parse_would_be_found() -> None:
    with pytest.raises(cyclopts.CycloptsError):
        APP.parse_args(["cache", "purge", "--everything"], exit_on_error=False, print_error=False)


def test_what_other_servers_call_a_command_leads_to_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "smollm2"]) == 2
    assert "`ashore up`" in capsys.readouterr().err
    assert not set(USUAL_ELSEWHERE) & {command.name for command in COMMANDS}
    for line in USUAL_ELSEWHERE.values():
        _, _, rest = APP.parse_commands(shlex.split(line)[1:])
        assert rest == [], line
