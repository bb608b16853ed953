"""Processes forked from one that has imported what they run: a command takes 30 ms, not 600, a worker 200, not 1,200.

The process that forks ends with the one that started it, and what it forked ends with whoever asked for it.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

import nursery

from ashore.kit.processes import python_command

SHIM = """#!{python} -IS
import array, json, os, signal, socket, sys
if sys.argv[1:2] in (["up"], ["engine"]):  # serves: others know it by its command line
    os.execv({python!r}, [{python!r}, "-m", "ashore.cli.main", *sys.argv[1:]])
asked = socket.socket(socket.AF_UNIX)
asked.connect({place!r})
body = json.dumps([["ashore", *sys.argv[1:]], dict(os.environ), os.getcwd(), False]).encode()
pipes = array.array("i", [0, 1, 2])
asked.sendmsg([len(body).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pipes)])
asked.sendall(body)
said = asked.makefile("r")
pid = int(said.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
code = int(said.readline())
os._exit(code if code >= 0 else 128 - code)
"""
"""`ashore` for shells: the same command, without the start of an interpreter that imports all of it."""

TRAINS = (["train"], ["optimize"])
"""Commands that need torch, in an environment that has it."""
FORKER = "import sys; sys.path.append(sys.argv[1]); import commands; commands.fork(int(sys.argv[2]))"


class Forked:
    """A process that runs, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        args: list[str],
        environ: Mapping[str, str],
        cwd: Path,
        pipes: tuple[int, int, int],
        *,
        serves: bool = False,
    ) -> None:
        """Start it.

        Args:
            args: `ashore` or a module of this folder that has a `main`, and the words that it is given.
            environ: All of its environment.
            cwd: Where it works.
            pipes: What it reads, prints, and says of faults.
            serves: It is an `ashore up`: it leads a session, its children are forked too (`nursery.py`), and others
                know it by its command line.
        """
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.connect(str(_forker()))
        body = json.dumps([args, dict(environ), str(cwd), serves]).encode()
        socket.send_fds(self._asked, [len(body).to_bytes(4)], list(pipes))
        self._asked.sendall(body)
        self._said = self._asked.makefile("r")
        self.args = args
        self.pid = int(self._said.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as ready:
                ready.register(self._asked, selectors.EVENT_READ)
                if not ready.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._said.readline())
            self._said.close()
            self._asked.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


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
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as told:
        process = start_command(*words, home=home, env=env, cwd=cwd, printed=printed, told=told)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
            process.wait()
            printed.seek(0)
            told.seek(0)
        return subprocess.CompletedProcess(process.args, code, printed.read(), told.read())


def start_command(
    *words: str,
    home: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    printed: IO[str] | IO[bytes] | None = None,
    told: IO[str] | IO[bytes] | None = None,
    serves: bool = False,
) -> Forked:
    """Start `ashore WORDS`, which prints into these files; the caller waits for it or kills it.

    `serves`: see `Forked`.
    """
    environ = {**os.environ, **(env or {})} | ({"ASHORE_HOME": str(home)} if home is not None else {})
    with open(os.devnull, "r+b") as nothing:
        pipes = (nothing.fileno(), (printed or nothing).fileno(), (told or nothing).fileno())
        return Forked(["ashore", *words], environ, cwd or Path.cwd(), pipes, serves=serves)


def start_module(name: str, *words: str, said: IO[bytes]) -> Forked:
    """Start the `main` of a module of this folder, which prints into a file."""
    with open(os.devnull, "rb") as nothing:
        return Forked([name, *words], os.environ, Path.cwd(), (nothing.fileno(), said.fileno(), said.fileno()))


@cache
def shim_folder() -> Path:
    """Return a folder with an `ashore` for shells, to be put first into PATH."""
    place = _forker()
    shim = place.parent / "bin" / "ashore"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable, place=str(place)))
    shim.chmod(0o755)
    return shim.parent


@cache
def _forker() -> Path:
    """Return the socket of the process that forks commands; the first call starts it."""
    folder = Path(tempfile.mkdtemp(prefix="ashore-forks-", dir="/tmp"))
    place = folder / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", FORKER, str(Path(__file__).parent), str(listening.fileno()), nursery.PADDING],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return place


def _fork_for_ever(listening: socket.socket) -> Callable[[list[str]], int]:
    """Fork a process for each that asks, until whoever started this one is gone. Returns in what was forked what that
    is to run."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake.fileno())
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        for one in (listening, sys.stdin, woken):
            ready.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                elif key.fileobj is listening:
                    asked, _ = listening.accept()
                    header, pipes, *_ = socket.recv_fds(asked, 4, 3)
                    with asked.makefile("rb") as said:
                        args, environ, cwd, serves = json.loads(said.read(int.from_bytes(header)))
                    run = _main_of(args[0])
                    if args[1:2] in TRAINS and importlib.util.find_spec("peft"):
                        importlib.import_module("peft")  # brings torch and transformers: 6 s of computing for each
                    if serves:
                        nursery.import_all()
                    pid = os.fork()
                    if not pid:
                        _become(asked, args, environ, cwd, pipes, serves)
                        return run
                    for pipe in pipes:
                        os.close(pipe)
                    running[pid] = asked
                    ready.register(asked, selectors.EVENT_READ, pid)
                elif key.fileobj is woken:
                    woken.recv(4096)
                    for pid in list(running):
                        ended, status = os.waitpid(pid, os.WNOHANG)
                        if ended:
                            asked = running.pop(pid)
                            with suppress(KeyError):
                                ready.unregister(asked)
                            with suppress(OSError):  # nobody waits for it
                                asked.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                            asked.close()
                elif key.data in running:  # whoever asked for it is gone
                    os.kill(key.data, signal.SIGKILL)
                    ready.unregister(key.fileobj)


def _main_of(name: str) -> Callable[[list[str]], int]:
    module = importlib.import_module("ashore.cli.main" if name == "ashore" else name)
    main: Callable[[list[str]], int] = module.main
    return main


def _become(
    asked: socket.socket, args: list[str], environ: Mapping[str, str], cwd: str, pipes: list[int], serves: bool
) -> None:
    """Make of this process what was asked for, and say which one it is."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = args
    if serves:
        os.setsid()
        nursery.show_as(python_command("ashore.cli.main", *args[1:]))
        nursery.open_nursery()
    asked.sendall(b"%d\n" % os.getpid())
    asked.close()


def fork(descriptor: int) -> NoReturn:
    """Fork what is asked for at the socket with this descriptor, and run it."""
    from ashore.cli.commands import COMMANDS

    for module in (*(command.target.partition(":")[0] for command in COMMANDS), "sqlalchemy.dialects.sqlite"):
        importlib.import_module(module)
    with socket.socket(fileno=descriptor) as listening:
        run = _fork_for_ever(listening)
    try:
        code = run(sys.argv[1:])
    except SystemExit as end:
        code = int(end.code or 0)
    nursery.leave(code)
