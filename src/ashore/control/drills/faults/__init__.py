"""Real faults: how each is triggered, how its effect is detected, and when the server has recovered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from ashore.control.drills.faults.base import Fault, Scene
from ashore.control.drills.faults.clock import SteppedClock
from ashore.control.drills.faults.contents import BadRelease, ExpiredCertificate, FlippedBit, LostNode, LostState
from ashore.control.drills.faults.disks import FailingDisk, FullDisk, SlowDisk
from ashore.control.drills.faults.enterprise import AwaySiem, HungDirectory, RefusedMail
from ashore.control.drills.faults.network import Cut, CutBucket, CutServer, Delay, Gone, Loss
from ashore.control.drills.faults.processes import Hung, HungHost, Killed, KilledSupervisor, KilledWorker
from ashore.control.drills.faults.resources import FewFiles, Flood, ShortMemory, StolenProcessor
from ashore.control.drills.faults.sites import CutCentre, LostPower
from ashore.control.drills.programs import find

MAKERS: Final[Mapping[str, Callable[[Scene], Fault]]] = MappingProxyType(
    {
        "bad-release": BadRelease,
        "cache-hung": partial(Hung, role="cache"),
        "cache-killed": partial(Killed, role="cache"),
        "certificate-expired": ExpiredCertificate,
        "clock-stepped": SteppedClock,
        "cut": Cut,
        "cut-bucket": CutBucket,
        "cut-centre": CutCentre,
        "cut-server": CutServer,
        "delay": Delay,
        "disk-failing": FailingDisk,
        "disk-full": FullDisk,
        "disk-slow": SlowDisk,
        "directory-hung": HungDirectory,
        "edge-hung": partial(Hung, role="edge"),
        "edge-killed": partial(Killed, role="edge"),
        "few-files": FewFiles,
        "flipped-bit": FlippedBit,
        "flood": Flood,
        "host-hung": HungHost,
        "host-killed": Killed,
        "jobs-killed": partial(Killed, role="jobs"),
        "loss": Loss,
        "lost-node": LostNode,
        "lost-power": LostPower,
        "mail-refused": RefusedMail,
        "memory-short": ShortMemory,
        "postgres-gone": Gone,
        "processor-stolen": StolenProcessor,
        "siem-away": AwaySiem,
        "state-locked": LostState,
        "supervisor-killed": KilledSupervisor,
        "worker-hung": partial(Hung, role="api"),
        "worker-killed": partial(KilledWorker, role="api"),
    }
)


def lacking(needs: Sequence[str]) -> str:
    """Return what this machine lacks for a drill; empty: nothing."""
    for one in needs:
        if one == "root":
            if os.geteuid() != 0:
                return "it needs root"
        elif find(one) is None:
            return f"it needs the program {one}"
    return ""
