"""The packages of Debian that a tree takes its Python, C library and loader from, pinned by hash in debs.lock.

`apt-get` downloads them with a state of its own: this machine's packages and architectures stay as they are.

    python deploy/bundle/debs.py    # resolve debs.lock again, for every architecture
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

LOCK: Final = Path(__file__).with_name("debs.lock")
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Names of the kernel, and Debian's."""
PACKAGES: Final = (
    "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "libgomp1", "liblzma5", "libncursesw6",
    "libpython3.13-minimal", "libpython3.13-stdlib", "libreadline8t64", "libsqlite3-0", "libssl3t64", "libstdc++6",
    "libtinfo6", "libuuid1", "libzstd1", "python3.13", "python3.13-minimal", "tzdata", "zlib1g",
)  # fmt: skip


class Deb(NamedTuple):
    """One line of debs.lock."""

    arch: str
    package: str
    version: str
    sha256: str


def locked(arch: str) -> list[Deb]:
    """Return the packages for an architecture, as debs.lock has them."""
    lines = (line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    return [deb for deb in (Deb(*line) for line in lines) if deb.arch == arch]


def fetch(arch: str, folder: Path) -> list[Path]:
    """Return the files of the locked packages in `folder`, downloaded unless they are there.

    Raises:
        SystemExit: the mirror no longer has a version, or a file is not the locked one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    debs = locked(arch)
    missing = [deb for deb in debs if _find(folder, deb) is None]
    if missing:
        with _apt(arch) as environment:
            words = [f"{deb.package}={deb.version}" for deb in missing]
            done = subprocess.run(["apt-get", "-qq", "download", *words], cwd=folder, env=environment, check=False)
        if done.returncode or [deb for deb in missing if _find(folder, deb) is None]:
            raise SystemExit(
                f"error: the mirror of this machine does not have {', '.join(words)} with the locked hashes; "
                "run `python deploy/bundle/debs.py`, look at the changed versions, and build again"
            )
    return [path for deb in debs if (path := _find(folder, deb)) is not None]


def _find(folder: Path, deb: Deb) -> Path | None:
    return next((path for path in sorted(folder.glob(f"{deb.package}_*.deb")) if _sha256(path) == deb.sha256), None)


@contextmanager
def _apt(arch: str) -> Iterator[dict[str, str]]:
    """Give the environment of an apt with lists of its own for this architecture, from this machine's sources."""
    with tempfile.TemporaryDirectory(prefix="ashore-apt-") as scratch:
        root = Path(scratch)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        name = ARCHITECTURES[arch]
        (root / "apt.conf").write_text(
            f'APT::Architecture "{name}"; APT::Architectures {{ "{name}"; }}; APT::Sandbox::User "";\n'
            f'Dir::State "{root}/state"; Dir::State::status "{root}/status"; Dir::Cache "{root}/cache";\n'
            'Acquire::Languages "none";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(root / "apt.conf")}
        subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
        yield environment


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(architectures: Sequence[str]) -> None:
    """Write debs.lock with the versions that this machine's mirror has now."""
    lines = ["# Written by deploy/bundle/debs.py: architecture, package, version, SHA-256 of the .deb.\n"]
    for arch in architectures:
        with tempfile.TemporaryDirectory(prefix="ashore-debs-") as scratch, _apt(arch) as environment:
            subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=scratch, env=environment, check=True)
            for path in sorted(Path(scratch).glob("*.deb")):
                fields = subprocess.run(
                    ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", str(path)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                lines.append(f"{arch} {fields.stdout} {_sha256(path)}\n")
    LOCK.write_text("".join(lines))


if __name__ == "__main__":
    lock(tuple(ARCHITECTURES))
