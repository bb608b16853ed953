"""The neighbours of a twin: nobody else of the machine gets into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ashore.control.drills.network import Network
from ashore.control.drills.programs import find
from ashore.control.drills.undoing import Undoing


class Noted(Undoing):
    """Writes nothing down, and keeps the folders that would be deleted. The test ends what it started."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def before(self, kind: str, **what: Any) -> None:
        if "path" in what:
            self.folders.append(what["path"])


@pytest.mark.skipif(find("initdb") is None, reason="this machine has no Postgres")
def test_the_database_of_a_twin_wants_a_password_that_is_of_this_drill_alone(tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    noted = Noted()
    network = Network(tmp_path, noted, ["state"])
    network._state("state")
    port = network._far["state"]
    try:
        network._wait("state", port)
        url = network._state_url(port)
        with psycopg.connect(url, connect_timeout=60) as mine:
            assert mine.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'ashore'").fetchone() == (True,)
        for other in (f"postgresql://ashore@127.0.0.1:{port}/postgres", url.replace(network._password, "rehearsal")):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(other, connect_timeout=60)
        assert not list(Path(noted.folders[0]).glob("password"))
    finally:
        network.kill("state")
        shutil.rmtree(noted.folders[0])
