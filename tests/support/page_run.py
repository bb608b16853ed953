"""Run the commands of a how-to page as a reader would, and compare what they print with what the page says.

A block ```sh is run by bash, all blocks of a page in one shell after the other: variables and the folder stay. A block
```text right behind it holds lines that must come out of it, in this order; `…` stands for anything. A block of a
page that fails ends the run; a command that is meant to fail says so in the page, `… || echo refused`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from commands import shim_folder
from waiting import eventually

_FENCE: Final = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands, and the lines that the page shows behind them."""

    line: int
    commands: str
    shown: tuple[str, ...] = ()


def blocks_of(page: str) -> tuple[tuple[Block, ...], dict[str, str]]:
    """Return the blocks of commands, and the files that the page prints; `# NAME.toml` is the first line of one.

    Raises:
        ValueError: a block of expected lines stands behind no commands.
    """
    blocks: list[Block] = []
    files: dict[str, str] = {}
    for found in _FENCE.finditer(page):
        indent, language = found[1], found[2]
        body = "".join(line.removeprefix(indent) for line in found[3].splitlines(keepends=True))
        line = page.count("\n", 0, found.start()) + 1
        if language == "sh":
            blocks.append(Block(line=line, commands=body))
        elif language == "text":
            if not blocks:
                raise ValueError(f"line {line}: nothing prints this")
            last = blocks[-1]
            shown = tuple(text.strip() for text in body.splitlines() if text.strip())
            blocks[-1] = Block(line=last.line, commands=last.commands, shown=(*last.shown, *shown))
        elif language in ("toml", "yaml"):
            name = body.splitlines()[0].removeprefix("#").strip()
            files[name] = files.get(name, "") + body
    return tuple(blocks), files


def reader_env(folder: Path, home: Path) -> dict[str, str]:
    """Return the environment of a reader who works in `folder`, with ashore installed and its home in `home`."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ASHORE_HOME": str(home),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }


def missing_line(said: str, shown: Sequence[str]) -> str:
    """Return the first line of `shown` that `said` lacks behind those before it; nothing where all are there."""
    lines = [" ".join(line.split()) for line in said.splitlines()]
    at = 0
    for line in shown:
        pattern = re.compile(".*".join(re.escape(part) for part in " ".join(line.split()).split("…")))
        place = next((number for number in range(at, len(lines)) if pattern.search(lines[number])), None)
        if place is None:
            return line
        at = place + 1
    return ""


def run_block(block: Block, *, folder: Path, env: Mapping[str, str], timeout_s: float = 120) -> str:
    """Run one block where the last one ended, and return what it printed.

    Raises:
        AssertionError: it failed, or printed something else than the page shows.
    """
    state = folder / ".page-state"
    script = (
        f"set -euo pipefail\n[ -f '{state}' ] && . '{state}'\n{block.commands}\n"
        f"{{ declare -p | grep -v '^declare -[a-z]*r'; declare -f; echo \"cd '$PWD'\"; }} > '{state}'\n"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**env, "PATH": f"{shim_folder()}:{env['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    place = f"the block at line {block.line}:\n{block.commands}\nprinted:\n{done.stdout}"
    assert done.returncode == 0, f"exit code {done.returncode} of {place}"
    lacking = missing_line(done.stdout, block.shown)
    assert not lacking, f"the page shows {lacking!r}, which is not in what {place}"
    return done.stdout


def stop_all_in(folder: Path) -> None:
    """Stop the commands of ashore that were started in `folder`, and wait for their end."""
    for pid in _working_in(folder):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not _working_in(folder))


def _working_in(folder: Path) -> list[int]:
    """Return the commands of ashore that were started in a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").resolve() == folder.resolve():
                found.append(int(process.name))
        except OSError:
            continue
    return found
