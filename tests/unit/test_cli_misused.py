"""What a command says of words that it does not know: in one form, with a hint, and exit code 2."""

from __future__ import annotations

import pytest

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
    ],
)
def test_a_word_that_is_not_known(line: str, said: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and "╭" not in told.err
    first, second = told.err.splitlines()
    assert first.startswith("error: ") and said in first
    assert second.startswith("hint: ") and hint in second
