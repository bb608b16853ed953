"""Launch file of the scheduled backup process: `run/backup.json`, read again at each SIGHUP."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ashore.backup.section import BackupSection
from ashore.processes import python_command

KEEPER_MODULE: Final = "ashore.cli.backupkeeper"


class BackupLaunch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the process."""

    home: str
    state_url: str = ""
    sealing_key: str = ""
    config: str = ""
    """An ashore.toml that is backed up beside the home's own files; empty: none."""
    backup: BackupSection
    """How the operator wants it kept."""


def backup_command(launch: Path, log_level: str) -> list[str]:
    """Return the command of the process."""
    return python_command(KEEPER_MODULE, "--launch", str(launch), "--log-level", log_level)
