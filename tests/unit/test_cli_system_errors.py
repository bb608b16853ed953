"""What the system refuses, in words for the user."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ashore.cli.systemerrors import fault_of
from ashore.core.errors import DiskFull, HomeNotOurs


def test_a_home_that_cannot_be_made_is_no_home_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "far" / "home"
    monkeypatch.setenv("ASHORE_HOME", str(home))
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 54_321)
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home.parent))
    fault = fault_of(refused)
    assert fault is not None and not isinstance(fault, HomeNotOurs)
    assert f"cannot create the home {home}: the directory {tmp_path} is not writable" in fault.message
    assert fault.hint == "set ASHORE_HOME to a directory of your own"
    home.mkdir(parents=True)
    assert isinstance(fault_of(refused), HomeNotOurs)


def test_a_disk_so_full_that_nothing_temporary_fits_is_full() -> None:
    fault = fault_of(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"))
    assert isinstance(fault, DiskFull) and "TMPDIR" in fault.hint
