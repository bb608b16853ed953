"""Layout of a command's `--help`: meaningful defaults, one spelling of a switch, and examples at the end."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cyclopts.help import DefaultFormatter

if TYPE_CHECKING:
    from cyclopts import App, Argument
    from cyclopts.help import HelpEntry, HelpPanel

NOTHING: Final = frozenset({'""', "()", "{}", "None", "False"})
"""Defaults by which an option is simply not given."""
STAND_INS: Final = frozenset({"0", "0.0", "-1"})
"""Defaults that may stand for another one, which the option's text then tells."""


class HelpFormatter(DefaultFormatter):
    """Cyclopts' own, given entries that say each thing once, and a usage line that names each argument."""

    def __init__(self, tree: Callable[[], App]) -> None:
        """`tree` returns the command tree once it exists."""
        super().__init__()
        self._tree = tree

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """Print the usage line of a command."""
        super().render_usage(console, options, named_usage(str(usage), self._tree()) if usage else usage)

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        """Draw one panel."""
        super().__call__(console, options, panel.copy(entries=[plain(entry) for entry in panel.entries]))


def named_usage(usage: str, tree: App) -> str:
    """Return a usage line, as cyclopts writes it, with the names of the arguments that may be left out."""
    if "[ARGS" not in usage:
        return usage
    words = takewhile(lambda word: word == word.lower() and word[0] not in "-[", usage.split()[1:])
    _, apps, _ = tree.parse_commands(list(words))
    shown = [
        f"[{_label(one)}{'...' if one.token_count()[1] else ''}]"
        for one in apps[-1].assemble_argument_collection(parse_docstring=False)
        if one.show and not one.required and one.index is not None
    ]
    return usage.partition("[ARGS")[0] + " ".join(shown) + "\n"


def _label(argument: Argument) -> str:
    return next((name for name in argument.names if name.startswith("--")), argument.name).lstrip("-").upper()


def plain(entry: HelpEntry) -> HelpEntry:
    """Return the entry without a default that says nothing or contradicts its text, without an empty choice, which is
    to leave the option out, and without the `--no-X` of a switch that is off anyway."""
    hidden = entry.default in NOTHING or (entry.default in STAND_INS and "default" in text_of(entry).lower())
    is_on = entry.default == "True"
    return entry.copy(
        default=None if hidden else ("on" if is_on else entry.default),
        choices=tuple(filter(None, entry.choices or ())) or None,
        negative_names=tuple(
            name for name in entry.negative_names if name.startswith("--no-") and entry.default != "False"
        ),
    )


def text_of(entry: HelpEntry) -> str:
    """Return what an entry says about itself, as it was written; empty where it says nothing."""
    written = getattr(entry.description, "primary_renderable", entry.description)
    return str(getattr(written, "markup", None) or getattr(written, "plain", None) or "").strip()


@dataclass(frozen=True, slots=True)
class Example:
    """One command line that can be typed, and what it does."""

    line: str
    what: str


@cache
def all_examples() -> Mapping[str, tuple[tuple[Example, ...], tuple[Example, ...]]]:
    """Return the examples of each noun in examples.toml: those that its help shows, and the others."""
    nouns = tomllib.loads(Path(__file__).with_name("examples.toml").read_text(encoding="utf-8"))
    return {
        noun: (tuple(Example(*one) for one in rows["usual"]), tuple(Example(*one) for one in rows.get("more", ())))
        for noun, rows in nouns.items()
    }


def examples_of(words: Sequence[str]) -> tuple[Example, ...]:
    """Return the examples of a command: what its noun is for, or those that begin with its words; else those of the
    noun."""
    named = [word for word in words if not word.startswith("-")]
    usual, more = all_examples().get(named[0], ((), ())) if named else ((), ())
    for length in range(len(named), 1, -1):
        start = " ".join(("ashore", *named[:length])) + " "
        if nearest := [one for one in (*usual, *more) if (one.line + " ").startswith(start)]:
            return tuple(nearest)
    return usual


def examples_text(words: Sequence[str]) -> str:
    """Return the examples of a command as its help prints them; empty for none."""
    found = examples_of(words)
    return "".join(["Examples:\n", *(f"  {one.line}\n      {one.what}\n" for one in found)]) if found else ""
