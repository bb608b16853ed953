"""Images built and containers run with no daemon, in a storage of the test's own: buildah, podman, podman-compose.

Everything is below one folder, so that nothing of the user's podman is seen or changed. Containers run in a mount
namespace whose control groups are of version 2 alone, because crun takes no other; it sets no limits there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS: Mapping[str, str] = {
    "buildah": "buildah", "podman": "podman", "crun": "crun", "nft": "nftables", "podman-compose": "podman-compose",
    "mmdebstrap": "mmdebstrap", "unshare": "util-linux", "catatonit": "catatonit",
}  # fmt: skip
"""What is needed, and Debian's package of it. netavark comes with podman."""
CONTAINERS = """\
[containers]
cgroups = "disabled"
pids_limit = 0
default_ulimits = ["nofile=20000:20000", "nproc=60000:60000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
ONE_HIERARCHY = """
umount -R -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
exec "$@"
"""


def missing() -> str:
    """Return what keeps this machine from building and running images; empty where nothing does."""
    absent = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if absent:
        return (
            f"not installed: apt-get install --no-install-recommends {' '.join(sorted(absent))} netavark aardvark-dns"
        )
    if os.geteuid() != 0:
        return "building an image with chroot isolation needs root"
    probe = subprocess.run(["unshare", "--mount", "--cgroup", "--", "true"], capture_output=True, text=True)
    return f"namespaces are not permitted here: {probe.stderr.strip()}" if probe.returncode else ""


@dataclass(frozen=True)
class Rig:
    """One storage of images and containers."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "containers.conf").write_text(CONTAINERS)
        places = f'graphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n'
        (self.folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{places}')

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def build(self, *words: str) -> str:
        """Run buildah, and return what it printed."""
        return self._run(["buildah", *words], timeout_s=900)

    def podman(self, *words: str, program: str = "podman", cwd: Path | None = None) -> str:
        """Run podman, or another program over it, and return what it printed."""
        inside = ["unshare", "--mount", "--cgroup", "--propagation", "private", "--", "sh", "-ec", ONE_HIERARCHY, "-"]
        return self._run([*inside, program, *words], timeout_s=180, cwd=cwd)

    def _run(self, command: list[str], *, timeout_s: float, cwd: Path | None = None) -> str:
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, cwd=cwd, check=False
        )
        assert result.returncode == 0, f"{' '.join(command[-6:])}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result.stdout

    def base(self, tar: Path) -> str:
        """Return an image of the smallest Debian, made once into `tar`."""
        if not tar.is_file():
            made = tar.with_suffix(".part.tar")
            include = "--include=ca-certificates"
            self._run(["mmdebstrap", "--quiet", "--variant=minbase", include, "trixie", str(made)], timeout_s=900)
            made.rename(tar)
        container = self.build("from", "scratch").strip()
        self.build("add", "--quiet", container, str(tar), "/")
        self.build("commit", "--quiet", "--timestamp", "0", container, "localhost/base:1")
        self.build("rm", container)
        return "localhost/base:1"


def wait_ready(port: int, *, at_most_s: float, logs: Callable[[], str]) -> float:
    """Return after how many seconds a server on this machine says that it is ready."""
    began = time.monotonic()
    while time.monotonic() < began + at_most_s:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return time.monotonic() - began
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"not ready after {at_most_s} s:\n{logs()[-3000:]}")
