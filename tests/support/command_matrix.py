"""Every command of the command line under bad conditions, each in a forked child of one process that has it imported.

    python command_matrix.py SCRATCH CONDITION...

Prints one JSON line for each run: condition, words, exit code, and what was said. A child that has the rights of root
gives them up, or no permission would be refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NOBODY = 65534
TIMEOUT_S = 20
CHILDREN = 4
PIPE_BYTES = 1 << 20


def leaves(app: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every command that does something, by its words."""
    inner = [name for name in app if not name.startswith("-")]
    if app.default_command is not None:
        yield words, app
    for name in inner:
        yield from leaves(app[name], (*words, name))


def arguments(app: Any, path: str, *, only: str = "", name: str = "") -> list[str]:
    """Return what a command must be given.

    Args:
        app: The command.
        path: For each file that must or can be named.
        only: Leave out all other options that take a file.
        name: For other texts; default: the path.
    """
    given: list[str] = []
    for argument, takes_file in parameters(app):
        if not argument.required and (not takes_file or only not in ("", argument.name)):
            continue
        value = path if takes_file else _value(argument, name or path)
        given += [value] if argument.index is not None else [argument.name, value]
    return given


def parameters(app: Any) -> Iterator[tuple[Any, bool]]:
    """Give the parameters of a command that one value can be given to, and whether that is a file."""
    seen: set[int] = set()
    for argument in app.assemble_argument_collection(parse_docstring=False):
        if not argument.parse or id(argument.field_info) in seen or "bool" in str(argument.hint):
            continue
        seen.add(id(argument.field_info))
        yield argument, "Path" in str(argument.hint)


def _value(argument: Any, name: str) -> str:
    hint = argument.hint
    choices = getattr(hint, "__args__", ())
    if hint is str or (choices and choices[0] is str):
        return name
    return str(choices[0]) if choices and isinstance(choices[0], str) else "1"


def drop_rights() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def cut_network() -> None:
    """Leave the machine's network, where that is allowed; elsewhere every proxy is dead."""
    os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))
    try:
        os.unshare(os.CLONE_NEWNET if os.getuid() == 0 else os.CLONE_NEWUSER | os.CLONE_NEWNET)
    except OSError:
        return


def run(words: list[str], home: Path, before: Callable[[], None]) -> tuple[int, int]:
    """Run one command in a child; return its process, and where to read what it says once it has ended."""
    said, out = os.pipe()  # no file: a limit on those must not hold for what is said
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pid = os.fork()
    if pid:
        os.close(out)
        return pid, said
    code = 99
    try:
        os.setpgid(0, 0)
        signal.alarm(TIMEOUT_S)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.environ["ASHORE_HOME"] = str(home)
        cut_network()
        before()
        os.dup2(out, 1)
        os.dup2(out, 2)
        from ashore.cli.main import main

        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the outermost place: shown, and the test fails
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(scratch: Path, conditions: list[str]) -> None:
    from ashore.cli.main import build_app

    commands = [(words, app) for words, app in leaves(build_app()) if words]
    for name in ("sqlalchemy", "sqlalchemy.dialects.sqlite", "httpx", "numpy", "ashore.api.worker"):
        __import__(name)
    scratch.chmod(0o755)
    used = make_used_home(scratch / "used")
    os.environ["HOME"] = str(owned(scratch / "person"))
    os.chdir(owned(scratch / "work"))
    waiting: list[tuple[str, list[str], Path, Callable[[], None]]] = []
    for condition in conditions:
        for words, app in commands:
            waiting += list(cases(condition, words, app, scratch, used))
    running: dict[int, tuple[str, list[str], int, float]] = {}
    while waiting or running:
        while waiting and len(running) < CHILDREN:
            condition, words, home, before = waiting.pop()
            pid, said = run(words, home, before)
            running[pid] = (condition, words, said, time.monotonic())
        pid, status = os.wait()
        condition, words, said, since_s = running.pop(pid)
        text = os.read(said, PIPE_BYTES).decode(errors="replace")
        os.close(said)
        code = os.waitstatus_to_exitcode(status)
        print(
            json.dumps(
                {
                    "condition": condition,
                    "words": words,
                    "code": code,
                    "said": text[-3000:],
                    "took_s": time.monotonic() - since_s,
                }
            ),
            flush=True,
        )


def make_used_home(root: Path) -> Path:
    """Return a home as a server leaves it."""
    from tiny_models import make_tiny_model

    from ashore.access import keep_first_key, make_first_key
    from ashore.bootstrap import build_store, command_recorder, open_state
    from ashore.settings import Home, Settings

    home = Home(root=root)
    home.create()
    state = open_state(Settings(home=home))
    with state.write() as connection:
        keep_first_key(connection, make_first_key(home.first_key), machine="", created_s=1)
    state.close()
    with command_recorder(home):
        pass
    build_store(home, Settings(home=home)).pull(str(make_tiny_model(root.parent / "tiny", "llama", layers=1)))
    return root


def owned(folder: Path, *, uid: int = NOBODY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    give(folder, uid)
    return folder


def give(root: Path, uid: int) -> None:
    if os.getuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def cases(
    condition: str, words: tuple[str, ...], app: Any, scratch: Path, used: Path
) -> Iterator[tuple[str, list[str], Path, Callable[[], None]]]:
    """Give the runs of one command under one condition."""
    name = "-".join(words)
    asked = [*words, *arguments(app, str(scratch / "work" / "nothing.toml"), only="none", name="tiny")]
    if words == ("up",):
        asked.append("fake:echo")
    match condition:
        case "foreign":
            home = scratch / "foreign"
            if not home.exists():
                shutil.copytree(used, home, symlinks=True)
                home.chmod(0o700 if os.getuid() == 0 else 0)
            yield condition, asked, home, drop_rights
        case "read-only":
            home = scratch / "read-only"
            if not home.exists():
                shutil.copytree(used, home, symlinks=True)
                give(home, NOBODY)
                for path in (*home.rglob("*"), home):
                    path.chmod(0o500 if path.is_dir() else 0o400)
            yield condition, asked, home, drop_rights
        case "full":
            home = scratch / f"full-{name}"
            shutil.copytree(used, home, symlinks=True)
            give(home, NOBODY)
            yield condition, asked, home, lambda: (drop_rights(), limit_files())[1]
            yield (
                f"{condition}, new home",
                asked,
                owned(scratch / f"full-new-{name}"),
                lambda: (
                    drop_rights(),
                    limit_files(),
                )[1],
            )
        case "cut off":
            home = owned(scratch / f"cut-{name}")
            yield (
                condition,
                [*words, *arguments(app, "nothing", only="none", name="hf:nobody/nothing")],
                home,
                drop_rights,
            )
        case "wrong file":
            files = wrong_files(scratch)
            home = scratch / "wrong"
            if not home.exists():
                shutil.copytree(used, home, symlinks=True)
                give(home, NOBODY)
            named = [argument.name for argument, takes_file in parameters(app) if takes_file]
            for kind, path in files.items():
                for parameter in named:
                    tokens = arguments(app, path, only=parameter, name="tiny")
                    yield f"{condition}: {kind}", [*words, *tokens], home, drop_rights
                if words[0] in ("model", "audit") and asked != list(words):
                    yield f"{condition}: {kind}", [*words, *arguments(app, path, only="none")], home, drop_rights


def wrong_files(scratch: Path) -> dict[str, str]:
    """Return a path of each kind that is none of what a command wants."""
    work = scratch / "work"
    (work / "bytes.bin").write_bytes(bytes(range(256)) * 8)
    (work / "deep.json").write_text("[" * 100_000)
    (work / "folder").mkdir(exist_ok=True)
    (work / "closed").touch()
    (work / "closed").chmod(0)
    return {
        "bytes": str(work / "bytes.bin"),
        "deep": str(work / "deep.json"),
        "folder": str(work / "folder"),
        "closed": str(work / "closed"),
        "long": "/" + "x" * 5000,
        "below a file": str(work / "bytes.bin" / "x"),
        "proc": "/proc/x.tar",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
