"""`ashore completion install` where the shell is unknown, or has no script."""

from __future__ import annotations

import pytest
from cyclopts.completion import detect

from ashore.cli import completion
from ashore.errors import InvalidRequest


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
