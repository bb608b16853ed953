"""Every command of the command line under bad conditions, each in a forked child of one process that has it imported.

    python command_matrix.py SCRATCH CONDITION...

Prints one JSON line for each run: condition, words, exit code, and what was said. A child that has the rights of root
gives them up, or no permission would be refused.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

NOBODY = 65534
TIMEOUT_S = 120
CHILDREN = 4
PIPE_BYTES = 1 << 20
SENSIBLE = {"--remove": "30%", "--to": "int8", "--rule": "infer on model/tiny"}
"""Values of options that are read before anything else."""
ONLY_IN = {
    ("completion", "show"): "full",
    ("completion", "install"): "full",
    ("engine", "tune"): "cut off",
    ("train", "private"): "cut off",
}
"""Commands that take seconds and do the same everywhere."""
ASK_A_SERVER = ("access", "alias", "release")
"""Nouns whose commands read nothing of the home but where its server is, but for `access revive`."""
FAR_FILES = {"long": "/" + "x" * 5000, "proc": "/proc/x.tar"}


class Run(NamedTuple):
    """One command under one condition."""

    condition: str
    words: list[str]
    home: Path
    limited: bool = False
    """Whether no file may grow, as on a full disk."""


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
    if argument.name in SENSIBLE:
        return SENSIBLE[argument.name]
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


def start(run: Run) -> tuple[int, int]:
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
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ["ASHORE_HOME"] = str(run.home)
        drop_rights()
        if run.limited:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        os.dup2(out, 1)
        os.dup2(out, 2)
        from ashore.cli.main import main

        code = main(run.words)
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
    for name in (
        "sqlalchemy",
        "sqlalchemy.dialects.sqlite",
        "httpx",
        "numpy",
        "ashore.cli.engineselftest",
        "ashore.cli.engineserve",
        "ashore.cli.enginetables",
        "ashore.control.doctor.topology",
        "ashore.control.ledger",
        "ashore.control.sites.delta",
        "ashore.data.text",
        "ashore.data.worker",
        "ashore.kit.outgoing",
        "ashore.lab.bench",
        "ashore.lab.evaluation",
        "ashore.lab.optimize",
        "ashore.lab.sizing",
        "ashore.lab.training",
        "ashore.machine.deployment",
        "scipy.fft",
        "scipy.optimize",
        "scipy.sparse",
        "scipy.special",
        "tokenizers",
        "rich.markdown",
        "jinja2.ext",
        "jinja2.sandbox",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "cryptography.x509",
        "cyclopts.completion.bash",
        "docstring_parser",
        "encodings.idna",
        "httpcore",
        "importlib.metadata",
        "tuf.api.metadata",
        "xml.etree.ElementTree",
    ):
        __import__(name)
    scratch.chmod(0o755)
    homes = make_homes(scratch)
    os.environ["HOME"] = str(owned(scratch / "person"))
    os.chdir(owned(scratch / "work"))
    files = wrong_files(scratch / "files")
    waiting = [
        run
        for condition in conditions
        for words, app in commands
        if ONLY_IN.get(words, condition) == condition
        for run in runs(condition, words, app, homes, files)
    ]
    cut_network()  # once: to make one for each of 1,900 children, and clean it up, costs more than what most of them do
    running: dict[int, tuple[Run, int]] = {}
    gc.collect()
    gc.freeze()  # a child that collects garbage would copy all that is here
    while waiting or running:
        while waiting and len(running) < CHILDREN:
            run = waiting.pop()
            pid, said = start(run)
            running[pid] = (run, said)
        pid, status = os.wait()
        run, said = running.pop(pid)
        text = os.read(said, PIPE_BYTES).decode(errors="replace")
        os.close(said)
        code = os.waitstatus_to_exitcode(status)
        print(
            json.dumps({"condition": run.condition, "words": run.words, "code": code, "said": text[-3000:]}), flush=True
        )


def runs(condition: str, words: tuple[str, ...], app: Any, homes: Path, files: dict[str, str]) -> Iterator[Run]:
    """Give the runs of one command under one condition."""
    asked = [*words, *arguments(app, "nothing.toml", only="none", name="tiny")]
    if words == ("up",):
        asked.append("fake:echo")
    if words[0] in ASK_A_SERVER and words[-1] != "revive" and condition in ("read-only", "full"):
        return
    match condition:
        case "foreign" | "read-only":
            yield Run(condition, asked, homes / condition)
        case "full":
            yield Run(condition, asked, homes / "full", limited=True)
        case "cut off":
            source = [*words, *arguments(app, "nothing.toml", only="none", name="hf:nobody/nothing")]
            yield Run(condition, source, owned(homes / "-".join(words)))
        case "wrong file":
            named = [argument.name for argument, takes_file in parameters(app) if takes_file]
            for path in files.values():
                for parameter in named:
                    given = arguments(app, path, only=parameter, name="tiny")
                    yield Run(condition, [*words, *given], homes / "own")
                if words[0] in ("model", "audit") and asked != list(words):
                    yield Run(condition, [*words, *arguments(app, path, only="none")], homes / "own")


def make_homes(scratch: Path) -> Path:
    """Make a home as a server leaves it, and it again for each condition; return the folder of them."""
    from tiny_models import make_tiny_model

    from ashore.cli.bootstrap import build_store, command_recorder, open_state
    from ashore.data.authority import keep_first_key, make_first_key
    from ashore.kit.settings import Home, Settings

    homes = scratch / "homes"
    home = Home(root=homes / "foreign")
    home.create()
    state = open_state(Settings(home=home))
    with state.write() as connection:
        keep_first_key(connection, make_first_key(home.first_key), machine="", created_s=1)
    state.close()
    with command_recorder(home):
        pass
    build_store(home, Settings(home=home)).pull(str(make_tiny_model(scratch / "tiny", "llama", layers=1)))
    for name in ("read-only", "full", "own"):
        shutil.copytree(home.root, homes / name, symlinks=True)
        give(homes / name, NOBODY)
    for path in ((root := homes / "read-only"), *root.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    home.root.chmod(0o700 if os.getuid() == 0 else 0)
    return homes


def wrong_files(folder: Path) -> dict[str, str]:
    """Make a file of each kind that is none of what a command wants, where nobody may write; return their paths."""
    folder.mkdir()
    (folder / "bytes").write_bytes(bytes(range(256)) * 8)
    (folder / "deep").write_text("[" * 100_000)
    (folder / "folder").mkdir()
    (folder / "closed").touch(0)
    folder.chmod(0o555)
    return {path.name: str(path) for path in folder.iterdir()} | FAR_FILES


def owned(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    give(folder, NOBODY)
    return folder


def give(root: Path, uid: int) -> None:
    if os.getuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
