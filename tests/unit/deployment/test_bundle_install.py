"""The installer of the bundle: what is in its list is installed, and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[3] / "deploy" / "bundle" / "install.sh"
PYTHON = f"""#!{sys.executable}
import os, pathlib, sys
words = sys.argv[1:]
if words[:3] != ["-I", "-m", "venv"]:
    os.execv({sys.executable!r}, [{sys.executable!r}, *words])
bin = pathlib.Path(words[3]) / "bin"
bin.mkdir(parents=True)
for name in ("python", "ashore"):
    (bin / name).write_text('#!/bin/sh\\necho "$@" >> ' + str(bin.parents[1] / "done") + "\\n")
    (bin / name).chmod(0o755)
"""
"""Makes environments whose programs write down their words."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "a bundle"
    for name in ("wheels/one-1.0-py3-none-any.whl", "wheels/two-2.0-py3-none-any.whl", "models/m.tar", "licences/l",
                 "sbom.cdx.json"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "PYTHON").write_text(f"{sys.version_info.major}.{sys.version_info.minor}\n")
    (root / "install.sh").write_text(INSTALLER.read_text())
    files = sorted(one for one in root.rglob("*") if one.is_file())
    lines = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.relative_to(root)}\n" for one in files]
    (root / "SHA256SUMS").write_text("".join(lines))
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return root


def install(bundle: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    target = bundle.parent / "target"
    return subprocess.run(
        ["sh", str(bundle / "install.sh"), str(target)], capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "PYTHON": str(bundle.parent / "python")},
    )  # fmt: skip


def test_what_the_list_has_is_installed_and_the_digest_of_the_list_is_printed(bundle: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "here"
    hostile.mkdir()
    (hostile / "hashlib.py").write_text("raise SystemExit('imported from the current directory')")
    done = install(bundle, hostile)
    assert done.returncode == 0, done.stderr
    pip, model = (tmp_path / "target" / "done").read_text().splitlines()
    wheels = [str(bundle / "wheels" / name) for name in ("one-1.0-py3-none-any.whl", "two-2.0-py3-none-any.whl")]
    assert pip.endswith(" --force-reinstall " + " ".join(wheels))
    assert model == f"model import {bundle}/models/m.tar"
    assert hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest() in done.stdout
    assert "compare it with" in done.stdout


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a wheel more": (lambda root: (root / "wheels" / "evil-1.0-py3-none-any.whl").write_text("x"), "not in SHA256SUMS"),
    "a model more": (lambda root: (root / "models" / "evil.tar").write_text("x"), "not in SHA256SUMS"),
    "a link more": (lambda root: (root / "wheels" / "e.whl").symlink_to("one-1.0-py3-none-any.whl"), "not in"),
    "a folder that is a link": (lambda root: (root / "more").symlink_to("wheels"), "not in SHA256SUMS"),
    "a name with a line break": (lambda root: (root / "PYTHON\nPYTHON").write_text("x"), "not in SHA256SUMS"),
    "a changed model": (lambda root: (root / "models" / "m.tar").write_text("x"), "changed: models/m.tar"),
    "a wheel less": (lambda root: (root / "wheels" / "two-2.0-py3-none-any.whl").unlink(), "missing: wheels/two"),
    "an odd version": (lambda root: (root / "PYTHON").write_text("3.11/../../evil"), "not a version of Python"),
    "no list": (lambda root: (root / "SHA256SUMS").unlink(), "no file SHA256SUMS"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_that_is_not_what_its_list_says_is_refused(bundle: Path, tmp_path: Path, change: str) -> None:
    CHANGES[change][0](bundle)
    refused = install(bundle)
    assert refused.returncode == 4 and CHANGES[change][1] in refused.stderr, refused
    assert not (tmp_path / "target").exists()
