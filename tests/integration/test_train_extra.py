"""The extra [train] as `deploy/torch.sh` installs it: torch from where the machine has it, the rest from the lock."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.train
PROJECT = Path(__file__).parents[2]


def test_the_locked_versions_stand_together_with_torch() -> None:
    lock = (PROJECT / "requirements-train.lock").read_text(encoding="utf-8")
    for name in ("accelerate", "datasets", "peft", "transformers", "trl"):
        locked = re.search(rf"^{name}==(\S+)", lock, re.MULTILINE)
        assert locked is not None, f"{name} is not locked"
        assert importlib.metadata.version(name) == locked[1], f"{name} differs from the lock; run `make test-train`"
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_training_stands_on_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import peft, torch, trl; from trl import SFTTrainer"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr


def test_no_lock_has_torch() -> None:
    for lock in PROJECT.glob("requirements*.lock"):
        assert not re.search(r"^(torch|nvidia-)", lock.read_text(encoding="utf-8"), re.MULTILINE), lock.name
