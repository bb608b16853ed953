"""`ashore example`: run an application that is built on ashore, and write its report."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, TypedDict, cast

import cyclopts

import ashore
from ashore.cli.columns import say
from ashore.core.errors import InvalidRequest, MissingExtra
from ashore.core.nearest import did_you_mean
from ashore.kit.carried import carried
from ashore.kit.extras import SOURCE, how_to_install
from ashore.kit.folders import make_folder

app = cyclopts.App(name="example", help="Run an application built on ashore; write its report.")

Flag = Annotated[bool, cyclopts.Parameter(negative=())]
CHECKOUT: Final = SOURCE / "examples"
INSTALLED: Final = Path(ashore.__file__).parent / "examples"


class About(TypedDict):
    """What `about.toml` of an example says."""

    title: str
    audience: str
    data: str
    """The data it runs on, and their licence."""
    download_mib: int
    """Packages that it needs beside ashore."""
    minutes: float
    """Time of a whole run on two cores."""


@app.command(name="list")
def list_() -> None:
    """List the examples: what each shows, for whom, on which data, and how long it takes."""
    for name in _names():
        minutes = (about := about_example(name))["minutes"]
        say(about["title"], first=f"{name:<12} ")
        say(about["audience"], first=f"{'':<12} for: ")
        say(about["data"], first=f"{'':<12} data: ")
        lacking = list(_lacking((examples_folder() / name / "requirements.txt").read_text()))
        packages = f"not installed: {', '.join(lacking)}" if lacking else "installed"
        size = f"packages of {about['download_mib']} MiB, {packages}"
        say(f"about {minutes:g} minute{'s' * (minutes != 1)}; {size}\n", first=f"{'':<12} ")


@app.command
def run(name: str, /, *, small: Flag = False, out: Path | None = None) -> None:
    """Run an example in place of this process, and write `report.html` and `figures.json`.

    It starts a server of its own on a free port of 127.0.0.1, in a home that is deleted afterwards. Models come from
    the store of your home.

    Args:
        name: The example, as `ashore example list` shows it.
        small: Run on a small part of the data, in about a minute.
        out: Directory of the report; default: `NAME-report` here.

    Raises:
        InvalidRequest: there is no such example.
        MissingExtra: packages that it needs are not installed.
    """
    if name not in (known := _names()):
        raise InvalidRequest(f"{name!r} is not an example", hint=did_you_mean(name, known))
    folder = examples_folder() / name
    if lacking := list(_lacking((folder / "requirements.txt").read_text())):
        wanted = " ".join(f"'{one}'" for one in lacking)
        raise MissingExtra(
            f"the example {name} needs packages that are not installed: {', '.join(lacking)}",
            hint=how_to_install("examples")
            if carried() is not None
            else f"{sys.executable} -m pip install {wanted}; without a network: `pip download -d wheels {wanted}` on a "
            "machine that has one, carry the directory here, and add `--no-index --find-links wheels` to the install",
        )
    target = (out or Path(f"{name}-report")).absolute()
    make_folder(target)
    words = [sys.executable, "-P", str(folder / "run.py"), "--out", str(target), *(["--small"] if small else [])]
    path = os.pathsep.join(filter(None, (str(folder.parent), os.environ.get("PYTHONPATH", ""))))
    sys.stdout.flush()
    os.execve(sys.executable, words, {**os.environ, "PYTHONPATH": path})


def examples_folder() -> Path:
    """Return the directory that holds the examples: of the checkout, else of the installed package."""
    return CHECKOUT if CHECKOUT.is_dir() else INSTALLED


def about_example(name: str) -> About:
    """Return what an example says of itself."""
    return cast(About, tomllib.loads((examples_folder() / name / "about.toml").read_text(encoding="utf-8")))


def _names() -> list[str]:
    return sorted(one.parent.name for one in examples_folder().glob("*/about.toml"))


def _lacking(requirements: str) -> Iterator[str]:
    """Yield the lines of a requirements.txt whose package is not installed."""
    for line in requirements.splitlines():
        wanted = line.partition("#")[0].strip()
        if not wanted:
            continue
        try:
            version(re.split(r"[\s\[<>=!~;]", wanted)[0])
        except PackageNotFoundError:
            yield wanted
