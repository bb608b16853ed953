"""`ashore completion`: completion for bash, zsh and fish."""

from __future__ import annotations

import sys
from typing import Final, Literal, cast, get_args

import cyclopts

from ashore.core.errors import InvalidRequest

app = cyclopts.App(name="completion", help="Install completion for your shell.")

Shell = Literal["bash", "zsh", "fish"]
BEHIND: Final[dict[Shell, str]] = {
    "bash": """
_ashore_or_name() {
  _ashore
  [[ ${#COMPREPLY[@]} -eq 0 ]] || return 0
  local line="${COMP_LINE:0:COMP_POINT}" typed name
  local -a words
  read -ra words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  typed="${words[${#words[@]}-1]}"
  # bash replaces what stands behind the last of these signs alone
  local kept="${typed%"${typed##*[:=@]}"}"
  while IFS= read -r name; do
    COMPREPLY+=("${name#"$kept"}")
  done < <(command ashore completion names -- "${words[@]:1}" 2>/dev/null)
}

complete -F _ashore_or_name ashore
""",
    "zsh": """
_ashore_words "$@"
if (( ! compstate[nmatches] )); then
  local -a names
  names=(${(f)"$(command ashore completion names -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)"})
  (( $#names )) && compadd -- $names
fi
""",
    "fish": """
function __fish_ashore_names
    set -l cmd (commandline -opc)
    command ashore completion names -- $cmd[2..] (commandline -ct) 2>/dev/null
end
complete -c ashore -f -a '(__fish_ashore_names)'
""",
}
"""What follows the generated script: where that knows nothing, names of this home are offered."""


@app.command
def install(*, shell: Shell | None = None) -> None:
    """Write the completion script where the shell looks for it. Safe to run again.

    Args:
        shell: The shell; default: the current one.
    """
    shell = shell or _current()
    path = _root().install_completion(shell=shell)
    path.write_text(script(shell))
    print(f"wrote {path}; open a new shell to use it", file=sys.stderr)


@app.command
def show(shell: Shell, /) -> None:
    """Print the completion script, for manual installation.

    Args:
        shell: The shell.
    """
    print(script(shell))


def script(shell: Shell) -> str:
    """Return the completion script for a shell."""
    generated = _root().generate_completion(shell=shell)
    if shell == "zsh":  # a file with one function of its own name would be replaced by it; this one has more
        generated = generated.replace("_cyclopts_ashore() {", "_ashore_words() {")
    return generated + BEHIND[shell]


def _current() -> Shell:
    """Return the shell that called."""
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
