"""`--help` of every command: each option explained, no default that contradicts its text, examples that parse."""

from __future__ import annotations

import shlex
from pathlib import Path

import cyclopts
import pytest
from deploy.make_commands_page import commands_of, entries_of, reference

from ashore import __version__
from ashore.cli.commands import COMMANDS, USUAL_ELSEWHERE, overview
from ashore.cli.helptext import all_examples, examples_of, text_of
from ashore.cli.main import build_app, main
from ashore.kit.listed import LISTED

APP = build_app()


PAGE = Path(__file__).parents[2] / "docs/reference/commands.md"
ALL = tuple(commands_of(APP))
LINES = [one.line for usual, more in all_examples().values() for one in (*usual, *more)]


def words_of(line: str) -> list[str]:
    """Return what the `ashore` of an example gets, without what a shell does around it."""
    words = shlex.split(line.rpartition("| ")[2].partition(" > ")[0])
    assert words.pop(0) == "ashore"
    return words


def test_the_page_is_what_the_commands_say() -> None:
    again = "python -m deploy.make_commands_page > docs/reference/commands.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), f"write it again: {again}"


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_and_argument_is_explained(words: tuple[str, ...]) -> None:
    silent = [entry.display_labels for entry in entries_of(APP, words) if not text_of(entry)]
    assert silent == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_no_default_contradicts_the_text_and_no_switch_has_two_spellings_for_off(words: tuple[str, ...]) -> None:
    for entry in entries_of(APP, words):
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


def test_no_option_shows_an_empty_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["account", "list", "--help"]) == 0
    assert "[choices: invited, locked, disabled]" in capsys.readouterr().out


def test_the_overview_groups_every_noun_and_fits_a_terminal() -> None:
    assert {command.name for command in COMMANDS} >= {one.noun for one in LISTED if one.noun}
    assert max(map(len, overview().splitlines())) <= 80


def test_every_noun_is_shown_in_use() -> None:
    assert list(all_examples()) == [command.name for command in COMMANDS]
    assert all(usual for usual, _ in all_examples().values())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_an_example(words: tuple[str, ...]) -> None:
    shown = [words_of(one.line) for one in examples_of(words)]
    assert any(line[: len(words)] == list(words) for line in shown), "add one to ashore/cli/examples.toml"


@pytest.mark.parametrize("line", LINES)
def test_an_example_names_only_commands_and_options_that_there_are(line: str) -> None:
    APP.parse_args(words_of(line), exit_on_error=False, print_error=False)


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
    assert len(examples_of(["cache", "stats", "--json"])) == 1
    assert examples_of(["model", "nothing"]) == examples_of(["model"]) == all_examples()["model"][0]


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
