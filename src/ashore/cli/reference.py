"""The reference of the command line, from the commands themselves.

`python -m ashore.cli.reference > docs/reference/commands.md` writes the page, and a test compares them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ashore.cli.commands import COMMANDS
from ashore.cli.helptext import examples_of, plain, text_of
from ashore.cli.main import build_app

if TYPE_CHECKING:
    import cyclopts
    from cyclopts.help import HelpEntry

_INTRO: Final = """# Commands

Written by `python -m ashore.cli.reference` from the commands in the code; do not edit.

`ashore NOUN --help` and `ashore NOUN VERB --help` say the same in the terminal. Each command ends with one of the
[exit codes](ashore-toml.md#exit-codes); what an error means is in [errors.md](errors.md).

Options that most commands have, and that the tables below leave out:

| option | meaning |
|---|---|
"""
_COMMON: Final = {
    "--json": "Print JSON.",
    "--url": "Address of the server; default: the one that runs from this home.",
    "--key": "API key; default: ASHORE_API_KEY, or the home's first key.",
    "--yes": "Do not ask. Needed where there is no terminal.",
    "--dry-run": "Say what would be done, and do nothing.",
}
"""Told once at the top, and by name alone at a command, where they say the same there."""

_SECTIONS: Final = re.compile(r"(?m)^(?:(?:Args|Returns|Raises):\s*$|Parameters\s*\n-+$)")
_DEFAULT: Final = re.compile(r" \\?\[default: (.+)\]$")


def reference() -> str:
    """Return `docs/reference/commands.md`."""
    app = build_app()
    common = "".join(f"| `{name}` | {text} |\n" for name, text in _COMMON.items())
    nouns = "".join(f"[{one.name}](#ashore-{one.name}) · " for one in COMMANDS).removesuffix(" · ")
    pages = "".join("".join(_noun(app, one.name, one.summary)) for one in COMMANDS)
    return f"{_INTRO}{common}\n{nouns}\n{pages}"


def commands_of(app: cyclopts.App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of every command that does something, in the order in which they are shown."""
    if words and app.default_command is not None:
        yield words
    for name in app:
        if not name.startswith("-"):
            yield from commands_of(app[name], (*words, name))


def entries_of(app: cyclopts.App, words: tuple[str, ...]) -> list[HelpEntry]:
    """Return what the help of a command shows of its arguments and options, row by row."""
    import cyclopts
    from cyclopts.help import create_parameter_help_panel

    _, apps, _ = app.parse_commands(list(words))
    with app.app_stack(apps):
        collection = apps[-1].assemble_argument_collection(parse_docstring=True)
        panel = create_parameter_help_panel(cyclopts.Group(), collection, "plaintext")
    return [plain(entry) for entry in panel.entries]


def _noun(app: cyclopts.App, noun: str, summary: str) -> Iterator[str]:
    yield f"\n## `ashore {noun}`\n" + (f"\n{summary}\n" if app[noun].default_command is None else "")
    for words in commands_of(app[noun], (noun,)):
        if len(words) > 1:
            yield f"\n### `ashore {' '.join(words)}`\n"
        yield from _command(app, words)


def _command(app: cyclopts.App, words: tuple[str, ...]) -> Iterator[str]:
    entries = entries_of(app, words)
    arguments = [_argument(entry) for entry in entries if not entry.positive_names]
    common = [name for entry in entries for name in entry.positive_names if _COMMON.get(name) == _flat(text_of(entry))]
    own = [entry for entry in entries if not set(common) & set(entry.positive_names)]
    needed = [_option(entry) for entry in own if entry.required and entry.positive_names]
    optional = ["[OPTIONS]"] if any(not entry.required and entry.positive_names for entry in entries) else []
    yield f"\n```sh\n{' '.join(('ashore', *words, *needed, *optional, *arguments))}\n```\n\n{_text(app, words)}\n"
    if own:
        yield "\n| option | default | meaning |\n|---|---|---|\n"
    for entry in own:
        name = _option(entry) if entry.positive_names else _argument(entry)
        text = _flat(text_of(entry)).replace("|", "\\|")
        told = _DEFAULT.search(text)  # a declared call writes it behind the text
        default = told[1] if told else entry.default
        default = "must be given" if entry.required else f"`{default}`" if default else ""
        off = "".join(f", `{name}`" for name in entry.negative_names)
        yield f"| `{name}`{off} | {default} | {_DEFAULT.sub('', text)} |\n"
    if common:
        yield f"\nAlso: {', '.join(f'`{name}`' for name in common)}.\n"
    yield "\n```sh\n" + "".join(f"{one.line}  # {one.what}\n" for one in examples_of(words)) + "```\n"


def _text(app: cyclopts.App, words: tuple[str, ...]) -> str:
    """Return what a command says about itself, without the list of its arguments."""
    for word in words:
        app = app[word]
    text = _SECTIONS.split(inspect.getdoc(app.default_command) or "")[0]
    return "\n\n".join(_flat(paragraph) for paragraph in text.strip().split("\n\n"))


def _argument(entry: HelpEntry) -> str:
    name = str(entry.positional_label or entry.display_labels[0])
    return name if entry.required else f"[{name}]"


def _option(entry: HelpEntry) -> str:
    return " ".join((*entry.positive_names, *([entry.metavar] if entry.metavar else [])))


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(reference())
