"""Children of an `ashore up` that was forked (`commands.py`): each is forked as well, from a process that has imported
what they run. A child then takes 0.1 s of computing, not 0.5 to 1.

A child has what it would have after `exec`: its parent, process group, descriptors, environment, signal mask, limits
and command line. It has nothing of what an interpreter reads when it starts, such as PYTHONMALLOC: a test of that says
`served(..., forked=False)`. All other programs start as ever.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from ashore.kit.processes import BY_MODULE, forbid_core_dumps, launch, python_command

PR_SET_CHILD_SUBREAPER = 36
PADDING = "." * 8000
"""Last word of the process that forks: space for the words that what it forks shows of itself."""
FIRST_FREE = 600
"""Above the descriptors that a child is given."""
MOST_DESCRIPTORS = 32
LATER = (
    "anyio._backends._asyncio", "ashore.cli.helptext", "ashore.data.engines.fake", "ashore.data.grpc.gen.inference_pb2",
    "cryptography.hazmat.primitives.serialization", "cryptography.x509", "httpcore",
)  # fmt: skip
"""What they import only when they need it, as each server does. None of it starts a thread."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TIED = [sys.executable, "-I", "-S", launch.__file__]
"""How the command line of a supervisor's child begins; its parent and its own words follow."""


@cache
def import_all() -> None:
    """Import what children run, load the pages of the console, and have the collector of garbage leave it alone."""
    children = ("ashore.control.process" if module == "ashore.control" else module for module, _ in BY_MODULE)
    for module in (*children, *LATER):
        importlib.import_module(module)

    from ashore.control.console.rendering import load_all
    from ashore.control.console.words import LANGUAGES, words_in

    load_all()
    for language in LANGUAGES:
        words_in(language)
    gc.collect()
    gc.freeze()


def show_as(words: Sequence[str]) -> None:
    """Show these words as the command line of this process (`/proc/PID/cmdline`)."""
    if sys.platform == "linux":
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
        shown = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, shown, len(shown))


def open_nursery() -> None:
    """Have this process fork its children from now on. Call it while it has one thread."""
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor, nursery = os.getpid(), os.fork()
    if not nursery:
        for one in {*map(int, os.listdir("/proc/self/fd"))} - {0, 1, 2, asked.fileno()}:
            with suppress(OSError):
                os.close(one)
        show_as(["ashore-nursery"])
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)  # it ends with the supervisor
        _fork_for_ever(asked, supervisor)
    asked.close()

    class Popen(subprocess.Popen[Any]):
        """Starts a program, or forks what would import again what is imported."""

        def _execute_child(  # the step that the class leaves to the system
            self, args: Any, executable: Any, preexec: Any, close_fds: Any, pass_fds: Iterable[int], cwd: Any,
            env: Mapping[str, str] | None, *rest: Any,
        ) -> None:  # fmt: skip
            words = list(args) if isinstance(args, list) else []
            if words[: len(TIED)] != TIED or words[len(TIED) + 1 :][:3] != [sys.executable, "-P", "-m"] or cwd:
                super()._execute_child(  # type: ignore[misc]
                    args, executable, preexec, close_fds, pass_fds, cwd, env, *rest
                )
                return
            pipes = rest[3:9]
            kept = [pipes[0], pipes[3], pipes[5], *pass_fds]
            if -1 in kept:
                raise ValueError("a child is given what it reads and where it prints")
            body = {
                "words": words[len(TIED) + 4 :],
                "environ": dict(os.environ if env is None else env),
                "cwd": os.getcwd(),
                "numbers": [0, 1, 2, *pass_fds],
                "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            }
            libc = ctypes.CDLL(None)
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(asking, [json.dumps(body).encode()], kept)
                self.pid = int(asking.recv(20))
            finally:
                libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    subprocess.Popen = Popen  # type: ignore[misc]


def _fork_for_ever(asked: socket.socket, supervisor: int) -> NoReturn:
    while True:
        message, descriptors, *_ = socket.recv_fds(asked, 1 << 17, MOST_DESCRIPTORS)
        if not message:  # the supervisor has ended
            os._exit(0)
        between = os.fork()
        if not between:
            if os.fork():
                os._exit(0)  # so that the supervisor becomes the parent
            _become(asked, supervisor, json.loads(message), descriptors)
        os.waitpid(between, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(asked: socket.socket, supervisor: int, body: dict[str, Any], descriptors: list[int]) -> NoReturn:
    while os.getppid() != supervisor:
        if not Path(f"/proc/{supervisor}").exists():
            os._exit(1)
        time.sleep(0.001)
    os.setpgid(0, 0)
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, resource.prlimit(supervisor, kind))
    forbid_core_dumps()
    launch.die_with_parent()
    os.umask(int(_status(supervisor, "Umask"), 8))
    high = [fcntl.fcntl(one, fcntl.F_DUPFD, FIRST_FREE) for one in (*descriptors, asked.fileno())]
    os.closerange(3, FIRST_FREE)
    for one, number in zip(high, body["numbers"], strict=False):
        os.dup2(one, number)
    os.write(high[-1], b"%d" % os.getpid())
    os.closerange(FIRST_FREE, max(high) + 1)
    asked.detach()
    os.chdir(body["cwd"])
    os.environ.clear()
    os.environ.update(body["environ"])
    sys.path[:0] = body["environ"].get("PYTHONPATH", "").split(os.pathsep)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    module, *words = body["words"]
    show_as(python_command(module, *words))
    signal.pthread_sigmask(signal.SIG_SETMASK, body["blocked"])
    for number in STOPS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = [module, *words]
    warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)  # it is: that is what this is for
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the outermost place, where an interpreter shows it too
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process as an interpreter does, but leave what was imported: to take it apart is half of the time."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
