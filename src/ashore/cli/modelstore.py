"""JSON output of commands on models."""

from __future__ import annotations

import json
from typing import Any


def print_json(document: Any) -> None:
    """Print what a `--json` asked for."""
    print(json.dumps(document, indent=1, ensure_ascii=False, default=str))
