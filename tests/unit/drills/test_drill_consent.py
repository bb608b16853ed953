"""The consent to a drill is for one run."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from access_house import seat

from ashore.cli.bootstrap import open_state
from ashore.cli.drill import _use_consent
from ashore.control.drills.calls import subject_of
from ashore.core.errors import Conflict
from ashore.data.authority.sql import save_consent
from ashore.kit.settings import Home, Settings


def test_of_two_runs_that_saw_one_consent_one_goes_on(tmp_path: Path) -> None:
    settings = Settings(home=Home(root=tmp_path))
    with closing(open_state(settings)) as state, state.write() as connection:
        save_consent(connection, subject=subject_of("worker-killed"), principal="olga", now_s=int(time.time()))
    with pytest.raises(Conflict):
        _use_consent(settings, "worker-killed")  # she is no officer
    with closing(open_state(settings)) as state:
        seat(state, "olga")
    _use_consent(settings, "worker-killed")
    with pytest.raises(Conflict, match="used up by another run"):
        _use_consent(settings, "worker-killed")
