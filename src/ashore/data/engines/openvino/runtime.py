"""Imports the OpenVINO libraries with telemetry disabled.

`import openvino` and `import nncf` each report to a public analytics service through `openvino_telemetry`, and write an
identifier into the user's home. This file replaces that module first. Every import of them in ashore goes through this
file.
"""

from __future__ import annotations

import importlib
from typing import Any

from ashore.core.errors import MissingExtra
from ashore.kit.extras import how_to_install
from ashore.kit.processes import silence_dependencies


def import_openvino(name: str = "openvino") -> Any:
    """Return the module `name` of the OpenVINO family, telemetry switched off before it loads.

    Raises:
        MissingExtra: the package is not installed.
    """
    silence_dependencies()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(f"{name} cannot be imported: {error}", hint=how_to_install("cpu")) from error


def openvino_version() -> str:
    """Return `openvino 2026.4.1`."""
    return "openvino " + str(import_openvino().__version__).split("-")[0]
