"""`ashore completion`: completion for bash, zsh and fish."""

from __future__ import annotations

import sys
from typing import Literal

import cyclopts

app = cyclopts.App(name="completion", help="Install completion for your shell.")

Shell = Literal["bash", "zsh", "fish"]


@app.command
def install(*, shell: Shell | None = None) -> None:
    """Write the completion script where the shell looks for it. Safe to run again.

    Args:
        shell: The shell; default: the current one.
    """
    path = _root().install_completion(shell=shell)
    print(f"wrote {path}; open a new shell to use it", file=sys.stderr)


@app.command
def show(shell: Shell, /) -> None:
    """Print the completion script, for manual installation.

    Args:
        shell: The shell.
    """
    print(_root().generate_completion(shell=shell))


def _root() -> cyclopts.App:
    from ashore.cli.main import build_app

    return build_app()
