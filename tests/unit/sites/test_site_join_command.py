"""`ashore site join` of an address that answers nothing, or that no site could read: one line, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.cli.calls import cell
from ashore.cli.sitehere import join
from ashore.core.errors import AshoreError, InvalidRequest, SourceUnreachable

TOKEN = f"north.{'a' * 32}.{'0' * 64}"


@pytest.mark.parametrize(
    ("centre", "error", "says"),
    [
        ("https://127.0.0.1:1", SourceUnreachable, "https://127.0.0.1:1 does not answer: "),
        ("https://127.0.0.1:1x", InvalidRequest, "https://127.0.0.1:1x is not the address of a centre: "),
        ("http://127.0.0.1:1", InvalidRequest, "a site joins over https://"),
    ],
)
def test_a_centre_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, centre: str, error: type[AshoreError], says: str
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    with pytest.raises(error, match=says):
        join(centre, token=TOKEN)
    assert not (tmp_path / "home" / "sites" / "joined.json").exists()


def test_a_time_that_has_not_come_is_shown_as_nothing() -> None:
    assert cell("joined_at", 0) == "-"
    assert cell("joined_at", 86_400) == "1970-01-02 00:00:00 UTC"
