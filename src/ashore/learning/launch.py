"""Launch file of the scheduled learning process: `run/learning.json`, read again at each SIGHUP."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ashore.learning.section import LearningSection
from ashore.processes import python_command

KEEPER_MODULE: Final = "ashore.cli.learnkeeper"


class LearningLaunch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the process."""

    learning: LearningSection
    """When runs begin, and who asks for them."""


def learning_command(launch: Path, log_level: str) -> list[str]:
    """Return the command of the process."""
    return python_command(KEEPER_MODULE, "--launch", str(launch), "--log-level", log_level)
