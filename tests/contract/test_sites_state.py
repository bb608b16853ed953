"""What a centre keeps of its sites, on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from postgres_server import fresh_state
from tests.support.site_centre import ACTOR, NOW_S, SiteTwin, open_office, parts_of

from ashore.control.sites.report import Usage
from ashore.control.sites.sql import (
    keep_checkpoints,
    load_checkpoints,
    load_rollouts,
    load_site,
    load_sites,
    load_usage,
    save_site,
    site_of,
)  # fmt: skip
from ashore.core.clock import ManualClock
from ashore.core.errors import NotFound
from ashore.kit.state import Database, open_state


@pytest.fixture(params=["sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = fresh_state(request.getfixturevalue("postgres_url")) if request.param == "postgres" else ""
    made = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


def test_a_site_joins_reports_once_and_is_revoked(state: Database, tmp_path: Path) -> None:
    office = open_office(tmp_path, database=state)
    north = SiteTwin(office, tmp_path, "north").join()
    for name in ("one", "two"):
        office.release(ACTOR, parts_of(name))
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "one"}, "none")})
    office.start(ACTOR, "all", office.wishes({"chat": "two"}, "smoke"), "1", 0)
    office.turn()
    north.sync()
    one = Usage(day="2027-01-15", tenant="t", model="chat", requests=2, prompt_tokens=2**40)
    data = north.report(usage=(one, one))
    assert [office.take("north", data) for _ in range(2)] == [True, False]
    office.turn()
    with state.write() as connection:
        assert [row.requests for row in load_usage(connection, "north")] == [4]
        assert [one.state for one in load_rollouts(connection)] == ["done"] and not load_rollouts(
            connection, open_only=True
        )
        assert keep_checkpoints(connection, "north", [(2, "b"), (1, "a")]) == 0
        assert keep_checkpoints(connection, "north", [(2, "b"), (1, "x")]) == 1
        assert load_checkpoints(connection, "north") == ["a", "b"]
        site = load_site(connection, "north", lock=True)
        assert site == load_sites(connection)["north"] == site_of(connection, north.fingerprint)
        save_site(connection, replace(site, revoked_s=NOW_S))
        assert site_of(connection, north.fingerprint) is None and site_of(connection, "") is None
        with pytest.raises(NotFound):
            load_site(connection, "south")
