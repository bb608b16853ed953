"""What a Chinese terminal shows: `LC_ALL`, then `LC_MESSAGES`, then `LANG` says the language."""

from __future__ import annotations

import pytest

from ashore.cli.calls import show
from ashore.cli.said import said
from ashore.control.alerts.calls import AlertRow, AlertRows

HINT = "log in again"


@pytest.mark.parametrize(
    ("given", "chinese"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, True),
        ({}, False),
    ],
)
def test_the_language_is_that_of_the_locale(
    given: dict[str, str], chinese: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert said(HINT) == ("请重新登录" if chinese else HINT)
    assert said("no such sentence") == "no such sentence"


def test_columns_stand_below_each_other_where_letters_are_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    rows = [
        AlertRow(
            alert=f"a{at}", severity="warning", state="sent", what=what, rule="D706", since_at=0.0, channels="",
            acked_by="", remedy="",
        )
        for at, what in enumerate(("a budget is nearly used up: alice", "x"))
    ]  # fmt: skip
    show(AlertRows(items=tuple(rows), dropped=0))
    _, first, second = capsys.readouterr().out.splitlines()
    assert "某预算将用尽：alice" in first
    assert first.encode("gb18030").index(b"D706") == second.encode("gb18030").index(b"D706"), "two columns a letter"
