"""What works with what the others leave, in processes of their own: it is for good."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IDLE = """
import os
from ashore.kit.processes.priority import become_idle
become_idle()
print(os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="SCHED_IDLE is of Linux alone")
@pytest.mark.parametrize("given", ["", "active"])
def test_what_is_idle_does_not_spin_unless_the_operator_says_so(given: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": given} if given else {}
    said = subprocess.run([sys.executable, "-c", IDLE], env=env, capture_output=True, text=True, check=True).stdout
    assert said.split() == [given or "passive"]
