"""Check that every locked package has a wheel for the oldest system that ashore installs on: x86-64 with glibc 2.28.

python deploy/check_floor.py UV LOCK      # RHEL 8, Kylin V10, UOS 20; run by `make lock`
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FLOOR = "x86_64-manylinux_2_28"
PYTHON = "3.13"
EXCUSED = {"llguidance": "its versions for the floor take one end of a text, and models have several"}
"""Packages above the floor, and why. A tree has a C library of its own; elsewhere glibc 2.31 is needed for them."""


def compile_for_floor(uv: str, requirements: Sequence[str]) -> tuple[str, str]:
    """Return what uv resolves with wheels of the floor alone, and its complaint; one of the two is empty."""
    words = ["--python-platform", FLOOR, "--python-version", PYTHON, "--only-binary", ":all:", "--no-deps"]
    done = subprocess.run(
        [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", *words, "-"],
        input="\n".join(requirements), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (done.stdout, "") if done.returncode == 0 else ("", done.stderr)


def above_floor(uv: str, lock: str) -> list[str]:
    """Return a line for each requirement without such a wheel, with the last version that has one."""
    requirements = re.findall(r"^[a-z0-9][^\s;]*==[^\s;]+(?: ; [^\\\n]+)?", lock, re.MULTILINE)
    lines = []
    while complaint := compile_for_floor(uv, requirements)[1]:
        flat = " ".join(complaint.split())
        named = [one for one in requirements if re.search(rf"\b{re.escape(one.split(' ')[0])}\b", flat)]
        if not named:
            raise SystemExit(f"error: uv cannot resolve the lock for {FLOOR}:\n{complaint}")
        for one in named:
            name, _, version = one.split(" ")[0].partition("==")
            last = compile_for_floor(uv, [f"{name}<={version}"])[0].strip() or "no version"
            lines.append(f"{name}=={version} has no wheel for {FLOOR}; the last that has one: {last}")
            requirements.remove(one)
    return lines


if __name__ == "__main__":
    uv_, lock_ = sys.argv[1:]
    above = above_floor(uv_, Path(lock_).read_text())
    found = [line for line in above if line.partition("==")[0] not in EXCUSED]
    found += [f"{name} is not above the floor; take it out of EXCUSED" for name in EXCUSED
              if not any(line.startswith(f"{name}==") for line in above)]  # fmt: skip
    if found:
        sys.exit("error: cap these in pyproject.toml:\n  " + "\n  ".join(found))
