"""`ashore access revive --lost` ends every administrator's key, so it asks before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.cli.access import revive
from ashore.core.errors import InvalidRequest


def test_nothing_is_revoked_before_somebody_confirms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    with pytest.raises(InvalidRequest, match="this would revoke every key of the three offices"):
        revive(lost=True)
    assert not (tmp_path / "home").exists()
    revive(lost=True, yes=True)
    assert (tmp_path / "home" / "first-key").exists()
