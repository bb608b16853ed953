"""Launch file of a job worker: the state, the API's addresses, and the hosts it may call.

The supervisor writes `run/jobs.json`; the worker reads it once, at its start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ashore.data.jobs.section import EgressSection, JobsSection
from ashore.kit.processes import python_command

LOGINS: Final = ("AWS_", "HF_TOKEN")
"""Beginnings of the names of variables with logins of clouds and hubs, which pulls and trainings need."""


class ApiAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one API worker listens: on `uds` when it is given."""

    host: str = ""
    port: int = 0
    uds: str = ""


class JobsLaunch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a job worker."""

    owner: str
    """Name of this home; the worker takes over what an earlier one of the same name held."""
    state_url: str = ""
    state_path: str = ""
    snapshots: str = ""
    secrets_key: str = ""
    """Where the supervisor holds the key of the state's secrets, if they are sealed."""
    api: tuple[ApiAddress, ...]
    token_file: str
    since_ms: int = 0
    """When the supervisor started, in milliseconds since the epoch: what was held before did not end alone."""
    jobs: JobsSection = JobsSection()
    egress: EgressSection = EgressSection()
    lease_s: float = 30.0
    home: str = ""
    """Name of this home among those that share its state; empty: the state is its own."""
    environment: dict[str, str] = {}
    """What operations run with: the settings of the home."""


def jobs_command(launch: Path, log_level: str) -> list[str]:
    """Return the command of a job worker."""
    return python_command("ashore.control.jobs.worker", "--launch", str(launch), "--log-level", log_level)
