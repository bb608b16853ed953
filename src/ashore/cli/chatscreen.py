"""Terminal input and output of `ashore chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ashore.cli.chatclient import Stats

HISTORY_LINES: Final = 1000


class Screen:
    """Answers on stdout as they come; reasoning and figures dimmed where it is a terminal, figures on stderr."""

    def __init__(self, *, show_stats: bool) -> None:
        self.show_stats = show_stats
        self._terminal = sys.stdout.isatty()
        self._reasoning = False
        self._at_start = True

    def piece(self, text: str, reasoning: str) -> None:
        """Show a piece. Reasoning is for people: through a pipe it is left out."""
        if reasoning and self._terminal:
            if not self._reasoning:
                self._write("\033[2m")
                self._reasoning = True
            self._write(printable(reasoning))
        if text:
            self._leave_reasoning()
            self._write(printable(text) if self._terminal else text)
        sys.stdout.flush()

    def end(self, stats: Stats, *, stopped: bool) -> None:
        """Close an answer."""
        self._leave_reasoning()
        if not self._at_start:
            self._write("\n")
        self._at_start = True
        sys.stdout.flush()
        if stopped and self._terminal:
            self.note("(stopped)")
        if self.show_stats:
            self.note(stats.line())

    def note(self, text: str) -> None:
        """Say something about the conversation."""
        dim, plain = ("\033[2m", "\033[0m") if sys.stderr.isatty() else ("", "")
        print(f"{dim}{text}{plain}", file=sys.stderr)

    def _leave_reasoning(self) -> None:
        if self._reasoning:
            self._write("\033[0m\n")
            self._reasoning = False

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        self._at_start = False


def printable(text: str) -> str:
    """Return `text` without control characters: a model must not be able to steer the terminal."""
    return "".join(c for c in text if (c >= " " and not "\x7f" <= c <= "\x9f") or c in "\n\t")


class History:
    """Line editing, with what was typed kept in the home, readable by its owner alone."""

    def __enter__(self) -> None:
        from ashore.kit.settings import read_settings

        try:
            import readline
        except ImportError:
            return
        self._path = read_settings().home.root / "chat-history"
        if self._path.is_file():
            readline.read_history_file(self._path)
        readline.set_history_length(HISTORY_LINES)

    def __exit__(self, *exc: object) -> None:
        try:
            import readline
        except ImportError:
            return
        if not self._path.parent.is_dir():
            return
        try:
            self._path.touch(mode=0o600)
            readline.write_history_file(self._path)
        except OSError as fault:
            print(f"could not save the chat history: {fault}", file=sys.stderr)


def read_question() -> str | None:
    """Return the next question, None at the end of input. Ctrl-C at the prompt drops the line."""
    lines: list[str] = []
    while True:
        try:
            line = input("... " if lines else ">>> ")
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        if not line.endswith("\\"):
            return "\n".join([*lines, line])
        lines.append(line[:-1])
