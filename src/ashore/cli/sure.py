"""Confirmation of destructive acts, and the options `--yes`, `--dry-run` and `--json`, with what the last prints."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from ashore.core.errors import InvalidRequest

Yes = Annotated[
    bool, Parameter(name="--yes", negative=(), help="Do not ask for confirmation. Required without a terminal.")
]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]
OwnJson = Annotated[bool, Parameter(name="--json", negative=())]
"""As `AsJson`; the docstring of the command says what it prints."""
DryRun = Annotated[bool, Parameter(name="--dry-run", negative=(), help="Show what would be done, and change nothing.")]


def go_ahead(what: str, *, yes: bool = False, dry_run: bool = False, as_json: bool = False) -> bool:
    """Return whether to do it: True when the user is sure, False after `--dry-run` has said what would be done.

    Args:
        what: Verb first: `revoke the key ash_0a1b2c3d`.
        yes: The user gave `--yes`.
        dry_run: The user gave `--dry-run`, which wins over `--yes`.
        as_json: A dry run prints JSON.

    Raises:
        InvalidRequest: the user said no, or nobody is there to be asked.
    """
    if dry_run:
        return say_only(what, as_json=as_json)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidRequest(f"this would {what}", hint="confirm with --yes, or preview with --dry-run")
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidRequest("cancelled; nothing was changed", hint="answer y, or give --yes")
    return True


def say_only(what: str, *, as_json: bool = False) -> bool:
    """Print what a command would do without `--dry-run`, and return False: it is not to be done."""
    print(json.dumps({"dry_run": True, "would": what}, ensure_ascii=False) if as_json else f"dry run: would {what}")
    return False


def json_text(document: object) -> str:
    """Return what a `--json` asked for, indented. A `numpy.float64` is a number; paths and the like are texts."""

    def plain(value: object) -> object:
        return float(value) if isinstance(value, float) else str(value)

    return msgspec.json.format(msgspec.json.encode(document, enc_hook=plain), indent=2).decode()


def print_json(document: object) -> None:
    """Print what a `--json` asked for."""
    print(json_text(document))
