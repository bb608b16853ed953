"""`ashore completion`: completion for bash, zsh and fish."""

from __future__ import annotations

import sys
from typing import Literal, cast, get_args

import cyclopts

from ashore.errors import InvalidRequest

app = cyclopts.App(name="completion", help="Install completion for your shell.")

Shell = Literal["bash", "zsh", "fish"]


@app.command
def install(*, shell: Shell | None = None) -> None:
    """Write the completion script where the shell looks for it. Safe to run again.

    Args:
        shell: The shell; default: the current one.
    """
    path = _root().install_completion(shell=shell or _current())
    print(f"wrote {path}; open a new shell to use it", file=sys.stderr)


@app.command
def show(shell: Shell, /) -> None:
    """Print the completion script, for manual installation.

    Args:
        shell: The shell.
    """
    print(_root().generate_completion(shell=shell))


def _current() -> Shell:
    """Return the shell that called.

    Raises:
        InvalidRequest: it is none of those that have a script, or nothing says which it is (a service, a container).
    """
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        found: str = detect_shell()
    except ShellDetectionError:
        found = ""
    if found in get_args(Shell):
        return cast(Shell, found)
    seen = f"the current shell is {found}" if found else "the current shell could not be detected"
    raise InvalidRequest(seen, hint=f"name one: --shell {'|'.join(get_args(Shell))}")


def _root() -> cyclopts.App:
    from ashore.cli.main import build_app

    return build_app()
