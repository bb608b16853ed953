"""`ashore config`: the keys of ashore.toml, and their effective values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclopts import App

from ashore.cli.sure import AsJson, print_json

app = App(name="config", help="Show every key of ashore.toml and its value.")


@app.command
def show(
    *,
    config: Path | None = None,
    changed: bool = False,
    as_json: AsJson = False,
) -> None:
    """Show the value of every key, and whether it is the default, from the file, or from the environment.

    Passwords and keys are not shown. Options of `ashore up` override all of these.

    Args:
        config: Path of an ashore.toml; default: none, which shows the defaults and the environment.
        changed: Leave out keys that have their default.
    """
    from ashore.kit.textfile import read_toml
    from ashore.machine.config import Spec, read_spec
    from ashore.machine.config.effective import effective

    spec = read_spec(config) if config else Spec()
    document = read_toml(config) if config else {}
    held = [one for one in effective(spec, document, os.environ) if not changed or one.source != "default"]
    if as_json:
        print_json({"items": held})
        return
    print_keys(held)


@app.command
def example() -> None:
    """Print an ashore.toml with every key and its default, all commented out."""
    from ashore.machine.config.example import example as text

    print(text(), end="")


def print_keys(keys: Iterable[Any]) -> None:
    """Print keys of ashore.toml with their values and sources, below the names of their tables."""
    place = ""
    for one in keys:
        if one.table != place:
            print(f"{chr(10) if place else ''}{one.table}")
            place = one.table
        print(f"{one.key} = {one.value}  ({one.source})")
