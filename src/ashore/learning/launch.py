"""What a supervisor tells the process that has models learn by themselves: `run/learning.json`, read again at each
SIGHUP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

from ashore.core import UNDECODABLE
from ashore.errors import InvalidSpec
from ashore.learning.section import LearningSection

KEEPER_MODULE: Final = "ashore.cli.learnkeeper"


class LearningLaunch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that it needs to know."""

    home: str
    state_url: str = ""
    sealing_key: str = ""
    learning: LearningSection
    """When runs begin."""


def learning_command(launch: Path, log_level: str) -> list[str]:
    """Return the command of the process."""
    return [sys.executable, "-m", KEEPER_MODULE, "--launch", str(launch), "--log-level", log_level]


def read_learning_launch(path: Path) -> LearningLaunch:
    """Return what is in `path`.

    Raises:
        InvalidSpec: it is missing or malformed.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=LearningLaunch)
    except (OSError, *UNDECODABLE) as fault:
        raise InvalidSpec(f"{path} cannot be read: {fault}", hint="`ashore up` writes it") from fault
