"""Entry point of `ashore`: finds the command, and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ashore import __version__
from ashore.cli.commands import COMMANDS, USUAL_ELSEWHERE, USUAL_VERBS, overview
from ashore.cli.systemerrors import system_errors
from ashore.core.errors import AshoreError, InvalidRequest

if TYPE_CHECKING:
    import cyclopts

EXIT_OK = 0
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 ok, 2 input, 3 capacity, 4 environment, 5 denied, 70 our bug."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in ([], ["--help"], ["-h"], ["help"]):
        return report(lambda: _say(overview()))
    if words in (["--version"], ["version"], ["-v"], ["-V"]):
        return report(lambda: _say(f"ashore {__version__}"))
    if words[:3] == ["completion", "names", "--"]:  # called by shell completion, while a person waits
        return report(lambda: _offer(words[3:]))
    if words[0] == "help":
        words = [*words[1:], "--help"]
    return report(lambda: _dispatch(words))


def _offer(words: Sequence[str]) -> int:
    """Print the completions of the last word. On unreadable files it prints nothing, so as not to disturb the shell."""
    import contextlib

    from ashore.cli.names import names_for
    from ashore.kit.settings import read_settings

    with contextlib.suppress(AshoreError, OSError):
        for name in names_for(words, read_settings().home):
            print(name)
    return EXIT_OK


def _say(text: str) -> int:
    print(text)
    return EXIT_OK


def report(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; an error is printed on stderr with its hint, and gives the exit code."""
    try:
        with system_errors():
            code = work()
            sys.stdout.flush()
            return code
    except AshoreError as error:
        _tell(error.message, hint=error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`ashore model list | head`). Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:  # noqa: BLE001 - the outermost loop: shown with its traceback, and a bug
        import traceback

        from ashore.kit.processes import is_no_room, no_room

        if isinstance(error, OSError) and is_no_room(error):  # wherever it was raised, the operator must act
            full = no_room(error)
            _tell(full.message, hint=full.hint)
            return full.exit_code
        traceback.print_exc()
        _tell(f"{type(error).__name__}: {error}", hint="this is a bug in ashore; please report the lines above")
        return EXIT_BUG


def _dispatch(words: list[str]) -> int:
    import cyclopts

    from ashore.cli.helptext import examples_text
    from ashore.cli.recorded import acts_as_owner, note_owner, recorded
    from ashore.kit.processes import silence_dependencies

    silence_dependencies()
    if words[0] in USUAL_ELSEWHERE:
        raise InvalidRequest(f"unknown command {f'ashore {words[0]}'!r}", hint=f"use `{USUAL_ELSEWHERE[words[0]]}`")
    if acts_as_owner(words):
        note_owner()
    app = build_app()
    try:
        with recorded(words), system_errors():
            result = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as fault:
        raise _misused(fault, app) from fault
    except AshoreError as fault:
        fault.hint = _with_file(fault.hint, words)
        raise
    if _was_help(app, words):
        print(examples_text(words), end="")
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_OK


def _misused(fault: cyclopts.CycloptsError, app: cyclopts.App) -> InvalidRequest:
    """Return a usage error in the form of all other errors."""
    from cyclopts import UnknownCommandError

    from ashore.core.nearest import did_you_mean, nearest_names

    command = " ".join(("ashore", *(fault.command_chain or ())))
    if isinstance(fault, UnknownCommandError) and fault.unused_tokens:
        unknown, known = fault.unused_tokens[0], [name for name in fault.app or app if not name.startswith("-")]
        usual = next((f"{command} {verb}" for verb in USUAL_VERBS.get(unknown, ()) if verb in known), "")
        below = [one for one in known if fault.command_chain and unknown in (fault.app or app)[one]]
        usual = usual or "`, `".join(f"{command} {one} {unknown}" for one in below) or USUAL_ELSEWHERE.get(unknown, "")
        sure = nearest_names(unknown, known) or len(known) < len(COMMANDS)
        hint = did_you_mean(unknown, known) if sure else "`ashore --help` lists them"
        return InvalidRequest(f"unknown command {f'{command} {unknown}'!r}", hint=f"use `{usual}`" if usual else hint)
    fault.verbose = False
    said = str(fault).strip().rstrip(".")
    return InvalidRequest(said[:1].lower() + said[1:], hint=f"`{command} --help` shows its arguments and options")


def _with_file(hint: str, words: list[str]) -> str:
    """Return a hint that mentions ashore.toml, with the path of that file."""
    if "ashore.toml" not in hint or any(word.partition("=")[0] == "--url" for word in words):
        return hint
    from ashore.cli.whichtoml import which_toml
    from ashore.kit.settings import read_settings

    return "; ".join(filter(None, (hint, which_toml(read_settings()))))


def _was_help(app: cyclopts.App, words: list[str]) -> bool:
    """Return whether `words` showed help: they request it, or name a noun without a verb."""
    if {"--help", "-h"} & set(words):
        return True
    _, apps, rest = app.parse_commands(words)
    return apps[-1].default_command is None and not rest


def build_app() -> cyclopts.App:
    """Return the whole command tree; each noun is imported when it is used."""
    import cyclopts

    from ashore.cli.helptext import HelpFormatter

    app = cyclopts.App(
        name="ashore",
        help=overview(),
        version=__version__,
        suppress_keyboard_interrupt=False,
        help_formatter=HelpFormatter(lambda: app),
    )
    for command in COMMANDS:
        app.command(command.target, name=command.name, help=command.summary)
    return app


def _tell(message: str, *, hint: str) -> None:
    from ashore.cli.columns import prose
    from ashore.cli.said import said
    from ashore.core.visible import on_a_screen

    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "", "")
    for name, colour, text in (("error:", red, message), ("hint:", dim, hint)):
        if text:  # a remote server may have sent it
            shown = prose(on_a_screen(said(text)), first=f"{name} ", to=sys.stderr)
            print(f"{colour}{name}{plain}{shown.removeprefix(name)}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
