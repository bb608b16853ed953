"""What a command says of words that it does not know: in one form, with a hint, and exit code 2."""

from __future__ import annotations

import pytest
from deploy.check_docs import missing_word

from ashore import __version__
from ashore.cli.commands import USUAL_ELSEWHERE
from ashore.cli.main import main


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("statsu", "unknown command 'ashore statsu'", "did you mean 'status'"),
        ("model lst", "unknown command 'ashore model lst'", "did you mean 'list'"),
        ("model list --foo", "unknown option: --foo", "`ashore model list --help`"),
        ("alias show", "parameter ALIAS requires an argument", "`ashore alias show --help`"),
        ("job list --limit x", 'unable to convert "x" into int', "`ashore job list --help`"),
        ("plan size x-7b --rate 2 --isl 9 --osl 9 --ttft 2 --tpot 50ms", "--ttft: '2' is not a duration", "50ms or 2s"),
        ("drill show nosuch", "there is no drill 'nosuch'", "`ashore drill list`"),
        ("qqqqqqqq", "unknown command 'ashore qqqqqqqq'", "`ashore --help` lists them"),
        ("run qwen3", "unknown command 'ashore run'", "use `ashore up`"),
        ("model ls", "unknown command 'ashore model ls'", "use `ashore model list`"),
        ("model run qwen3", "unknown command 'ashore model run'", "use `ashore up`"),
        ("access key rm x", "unknown command 'ashore access key rm'", "use `ashore access key revoke`"),
        ("job ps", "unknown command 'ashore job ps'", "use `ashore job list`"),
        ("access list", "'ashore access list'", "`ashore access key list`"),
    ],
)
def test_a_word_that_is_not_known(line: str, said: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and "╭" not in told.err
    first, second = told.err.splitlines()
    assert first.startswith("error: ") and said in first
    assert second.startswith("hint: ") and hint in second


@pytest.mark.parametrize("word", ["--version", "version", "-v", "-V"])
def test_every_way_to_ask_for_the_version_works(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"ashore {__version__}\n"


def test_every_command_that_a_habit_leads_to_exists() -> None:
    assert [usual for usual in USUAL_ELSEWHERE.values() if missing_word(usual.split()[1:])] == []
