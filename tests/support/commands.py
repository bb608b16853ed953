"""The command line in processes of their own, forked from one that has imported it: 30 ms a command, not 600."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ashore.cli.commands import COMMANDS

IMPORTED = ["ashore.cli.main", *(command.target.partition(":")[0] for command in COMMANDS)]


def run_command(
    *words: str,
    home: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `ashore WORDS` to its end as `subprocess.run` would; `env` is added to the environment here.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time, and is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed, told = Path(folder) / "stdout", Path(folder) / "stderr"
        process = start_command(*words, home=home, env=env, cwd=cwd, printed=printed, told=told)
        process.join(timeout_s)
        code = process.exitcode
        process.kill()
        process.join()
        process.close()
        if code is None:
            raise subprocess.TimeoutExpired(["ashore", *words], timeout_s, printed.read_bytes(), told.read_bytes())
        return subprocess.CompletedProcess(["ashore", *words], code, printed.read_text(), told.read_text())


def start_command(
    *words: str,
    home: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    printed: Path = Path(os.devnull),
    told: Path = Path(os.devnull),
) -> BaseProcess:
    """Start `ashore WORDS`, which prints into these files; the caller waits for it or kills it."""
    environ = {**os.environ, **(env or {})} | ({"ASHORE_HOME": str(home)} if home is not None else {})
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(IMPORTED)
    process = fork.Process(target=_command, args=(words, environ, str(cwd or Path.cwd()), str(printed), str(told)))
    process.start()
    return process


def _command(words: tuple[str, ...], environ: dict[str, str], cwd: str, printed: str, told: str) -> None:
    for path, number in ((printed, 1), (told, 2)):
        sink = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(sink, number)
        os.close(sink)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["ashore", *words]
    from ashore.cli.main import main

    raise SystemExit(main(words))
