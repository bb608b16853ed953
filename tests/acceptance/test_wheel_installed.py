"""The wheel as a stranger uses it: installed with pip into a clean environment, then `ashore up` in an empty directory
with an empty home, and the curl that it prints. Run by `make test-wheel`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PASSED_ON = ("PATH", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Of the environment: what a machine behind a proxy needs."""

pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(900)]


def run(*words: str, cwd: Path | None = None, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel, what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT))
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    run(str(folder / "venv/bin/pip"), "--disable-pip-version-check", "install", "--quiet", f"{wheel}[cpu]")
    return folder / "venv/bin"


@pytest.fixture
def outside(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An empty directory, and the environment of a user with an empty home."""
    (tmp_path / "user").mkdir()
    (tmp_path / "here").mkdir()
    environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return tmp_path / "here", {**environ, "HOME": str(tmp_path / "user")}


@pytest.fixture
def serving(installed: Path, outside: tuple[Path, dict[str, str]], free_port: Callable[[], int]) -> Iterator[str]:
    """What `ashore up` printed until it serves."""
    here, environ = outside
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    with open(here.parent / "said", "w") as said:
        server = subprocess.Popen([installed / "ashore", "up", *ports], cwd=here, env=environ, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 600
        while "Ctrl-C stops it" not in (told := (here.parent / "said").read_text()):
            assert server.poll() is None and time.monotonic() < end, told
            time.sleep(0.2)
        yield told
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_from_nothing_to_an_answer(installed: Path, outside: tuple[Path, dict[str, str]], serving: str) -> None:
    here, environ = outside
    printed = re.search(r"  (curl .*?}')\n", serving, re.DOTALL)
    assert printed, serving
    assert "Paris" in run("sh", "-c", printed[1], cwd=here, environ=environ)
    assert "every model" in run(str(installed / "ashore"), "status", cwd=here, environ=environ)
    assert "\nhello " in run(str(installed / "ashore"), "example", "list", cwd=here, environ=environ)
    assert not list(here.iterdir()), "it wrote into the directory that it was started in"
    assert [one.name for one in (here.parent / "user").iterdir()] == [".ashore"]
