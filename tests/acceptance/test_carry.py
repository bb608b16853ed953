"""A stick, carried into trees of Debian with nothing installed and no network: from the stick to an answer.

Needs root and debootstrap, and minutes: run by `make test-carry`, which says what it skips and prints its figures.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
from deploy.bundle.make_bundle import TOOLS
from deploy.bundle.packages import make_packages

from ashore.cli.bootstrap import build_store
from ashore.kit.settings import Home

PROJECT = Path(__file__).parents[2]
RIG = PROJECT / "tests/support/carry"
CACHE, BUNDLES = PROJECT / ".cache/carry", PROJECT / ".cache/bundle"
SUITES = ("bullseye", "bookworm", "trixie")
"""Debian 11, 12 and 13: glibc 2.31, 2.36 and 2.41."""
USERS = {"trixie": ("setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "env", "HOME=/tmp")}
"""Who installs where it is not root."""
MOST_S, MOST_TAR, MOST_TREE = 180.0, 450_000_000, 750_000_000
NOTHING: Mapping[str, str] = MappingProxyType({})
pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(1800)]


def show(figure: str) -> None:
    print(f"\n[carry] {figure}", file=sys.__stderr__, flush=True)


@dataclass(frozen=True)
class Made:
    """A stick, what it is checked with, and the packages of a later version of the same tree."""

    stick: Path
    keys: Path
    later: Path


def build(
    output: Path, home: Path, keys: Path, *words: str, by: Sequence[str] = (), environment: Mapping[str, str] = NOTHING
) -> Path:
    signed = ["--ssh-key", str(keys / "release"), "--openpgp-key", "releases@example.com"]
    where = ["--home", str(home), "--output", str(output)]
    made = subprocess.run(
        [*by, sys.executable, "-m", "deploy.bundle.make_bundle", *where, *signed, *words],
        cwd=PROJECT, env={**os.environ, "GNUPGHOME": str(keys / "gpg"), **environment},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys that sign releases, for ssh-keygen and gpg."""
    if lacking := [name for name in ("ssh-keygen", "gpg", "debootstrap") if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(lacking)}")
    if os.geteuid() != 0:
        pytest.skip("needs root, for trees of Debian")
    folder = tmp_path_factory.mktemp("keys")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "release")], check=True)
    environment = {**os.environ, "GNUPGHOME": str(folder / "gpg")}
    (folder / "gpg").mkdir(mode=0o700)
    words = ["--batch", "--passphrase", "", "--quick-generate-key", "releases@example.com", "ed25519", "sign", "never"]
    subprocess.run(["gpg", *words], env=environment, check=True, capture_output=True)
    exported = subprocess.run(["gpg", "--export"], env=environment, check=True, capture_output=True)
    (folder / "release.gpg").write_bytes(exported.stdout)
    exported = subprocess.run(["gpg", "--export", "--armor"], env=environment, check=True, capture_output=True)
    (folder / "release.asc").write_bytes(exported.stdout)
    return folder


@pytest.fixture(scope="session")
def made(keys: Path, demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    began = time.monotonic()
    stick = build(tmp_path_factory.mktemp("out"), demo_home, keys, "--packages")
    show(f"a stick was built in {time.monotonic() - began:.0f} s")
    later, tree = tmp_path_factory.mktemp("later"), BUNDLES / platform.machine() / "ashore"
    make_packages(BUNDLES / "tools" / TOOLS["nfpm"], tree, [], later, version="9.0.0", made_s=1_900_000_000, level=1)
    return Made(stick=stick, keys=keys, later=later)


Enter = Callable[..., str]


@pytest.fixture
def enter(made: Made, tmp_path: Path) -> Iterator[Enter]:
    """Run a command in a tree of Debian that keeps nothing: loopback alone, the stick at /stick, the rig at /rig.
    Every call of one test enters the same tree."""

    def run(suite: str, *command: str, code: int = 0) -> str:
        rig = tmp_path / "rig"
        if not rig.exists():
            shutil.copytree(RIG, rig)
            shutil.copy(PROJECT / "tests/support/loopback.py", rig)
            for path in (*made.keys.glob("release.*"), *made.later.iterdir()):
                (rig / path.name).hardlink_to(path)
        words = [str(debian(suite)), str(tmp_path / "over"), str(made.stick), str(rig), sys.executable]
        apart = ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--", "sh", "-eu", str(RIG / "enter.sh")]
        done = subprocess.run(
            [*apart, *words, *command],
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    yield run
    shutil.rmtree(tmp_path / "over", ignore_errors=True)


def debian(suite: str) -> Path:
    """Return a tree of the smallest Debian, made once by debootstrap. `bookworm+dnf` has dnf as well."""
    tree = CACHE / suite
    name, *more = suite.split("+")
    if not (tree / ".done").exists():
        shutil.rmtree(tree, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(more)}", name, str(tree)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"debootstrap could not make a tree of {suite}: {done.stdout[-300:]}{done.stderr[-300:]}")
        (tree / ".done").touch()
        show(f"a tree of {suite} was made in {time.monotonic() - began:.0f} s")
    return tree


def imported(said: str) -> bool:
    """Return whether natives.py imported every native module of a tree, with the tree's own C library."""
    found = re.findall(r"imported (\d+) of (\d+) on .* 2\.41", said)
    return bool(found) and found[0][0] == found[0][1] and int(found[0][0]) > 150


def proof(made: Made, suite: str) -> str:
    """Return how the installer is shown who made the stick: Debian 11 and 12 have gpgv."""
    if suite in ("bullseye", "bookworm"):
        return "--key /rig/release.gpg"
    digest = subprocess.run(["sha256sum", str(made.stick / "SHA256SUMS")], capture_output=True, text=True, check=True)
    return f"--sums {digest.stdout.split()[0]}"


@pytest.mark.parametrize("suite", SUITES)
def test_from_the_stick_to_an_answer_where_nothing_is_installed(made: Made, enter: Enter, suite: str) -> None:
    began = time.monotonic()
    said = enter(suite, *USERS.get(suite, ()), "sh", "/rig/first.sh", proof(made, suite), "smollm2")
    took = time.monotonic() - began
    show(f"{suite}: stick to answer in {took:.0f} s; {', '.join(re.findall(r'^took .*', said, re.MULTILINE))}")
    assert "Paris" in said
    assert took <= MOST_S


def test_it_answers_as_on_linux_4_18(made: Made, enter: Enter) -> None:
    """Later system calls do not exist: Kylin V10, UOS 20 and openEuler 20.03 have 4.19, RHEL 8 has 4.18."""
    said = enter("bullseye", "sh", "/rig/first.sh", proof(made, "bullseye"), "smollm2",
                 "/opt/ashore/bin/python -I /rig/old_kernel.py")  # fmt: skip
    show(f"Linux 4.18: {', '.join(re.findall(r'^took .*', said, re.MULTILINE))}")
    assert "Paris" in said


def test_the_stick_and_the_tree_are_small_enough_and_want_nothing_of_the_machine(made: Made, enter: Enter) -> None:
    sizes = [
        one.stat().st_size
        for one in made.stick.rglob("*")
        if one.is_file() and one.name != "minilm.tar" and one.parent.name != "packages"
    ]
    install = f"sh /stick/install.sh {proof(made, 'bookworm')} --no-models"
    measure = "du -sb /opt/ashore && /opt/ashore/bin/python -I /rig/natives.py"
    said = enter("bookworm", "sh", "-c", f"{install} && {measure}")
    assert imported(said), said
    tree = int(re.findall(r"^(\d+)\t/opt/ashore", said, re.MULTILINE)[0])
    show(f"the stick with one model has {sum(sizes) / 1e6:.0f} MB, unpacked {tree / 1e6:.0f} MB")
    assert sum(sizes) <= MOST_TAR and tree <= MOST_TREE


def test_upgrade_downgrade_and_a_stick_of_another(made: Made, enter: Enter) -> None:
    """The installed one checks its successor by the key that it came with; an older or strange one is refused."""
    said = enter("bookworm", "sh", "/rig/again.sh", proof(made, "bookworm"))
    for line in ("exported, imported elsewhere, asked", "verified", "upgraded", "older refused", "older taken",
                 "changed refused", "strange refused", "kept"):  # fmt: skip
        assert line in said.splitlines(), said


def test_the_packages_are_installed_upgraded_and_purged(enter: Enter) -> None:
    """A changed configuration is kept, a changed program is found, and the home stays after a purge."""
    said = enter("bookworm", "sh", "/rig/deb.sh")
    for line in ("apt took it", "user and home", "config owned", "nothing changed", "model imported", "upgraded",
                 "config kept", "older refused", "nothing changed by it", "change found", "removed",
                 "purged, home stays"):  # fmt: skip
        assert line in said.splitlines(), said


def test_the_rpms_are_installed_upgraded_and_removed(enter: Enter) -> None:
    """By dnf and rpm in a tree of Debian, whose own packages they do not know."""
    said = enter("bookworm+dnf+rpm", "sh", "/rig/rpm.sh")
    for line in ("changed list refused", "dnf took it", "wants nothing", "user and home", "config owned",
                 "nothing changed", "model imported", "upgraded", "config kept", "older refused", "change found",
                 "removed", "home stays"):  # fmt: skip
        assert line in said.splitlines(), said


def test_two_builds_have_the_same_bytes(made: Made, demo_home: Path, tmp_path: Path) -> None:
    """From the same commit in another directory, with a cache of its own, another time zone and umask, days later."""
    days = ["faketime", "-f", "+3d"] if shutil.which("faketime") else []
    show("the second build is made " + ("three days later" if days else "on the same day: there is no faketime"))
    elsewhere = {"TZ": "Asia/Shanghai", "LC_ALL": "C"}
    cache = tmp_path / "cache"
    words = ["--packages", "--cache", str(cache)]
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "elsewhere", demo_home, made.keys, *words, by=days, environment=elsewhere)
    finally:
        os.umask(before)
    for name in ("SHA256SUMS", "SHA256SUMS.sig"):
        assert (again / name).read_text() == (made.stick / name).read_text()
    shutil.rmtree(cache)


def test_a_stick_for_arm64_is_made_here_and_answers_by_qemu(demo_home: Path, keys: Path, tmp_path: Path) -> None:
    """Every native module is imported, the fake engine answers, and a GGUF by llama.cpp. What stays open until it runs
    on real arm64: OpenVINO with a model, which qemu ends by a fault, and every speed."""
    if (qemu := shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")) is None:
        pytest.skip("needs qemu-user, statically linked")
    began = time.monotonic()
    stick = build(tmp_path / "out", demo_home, keys, "--arch", "aarch64")
    built = time.monotonic()
    shutil.copy(PROJECT / "tests/support/loopback.py", shutil.copytree(RIG, tmp_path / "rig"))
    apart = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--net", "--", "sh", "-eu"]
    gguf = build_store(Home(root=demo_home)).export("smollm2", tmp_path / "smollm2.tar")
    places = [stick, tmp_path / "rig", sys.executable, tmp_path / "scratch", gguf]
    words = [str(RIG / "arm.sh"), qemu, *map(str, places)]
    done = subprocess.run([*apart, *words], capture_output=True, text=True, timeout=900, check=False)
    said = done.stdout + done.stderr
    took = f"built in {built - began:.0f} s; installed, imported and asked in {time.monotonic() - built:.0f} s"
    show(f"arm64 by qemu: {took}")
    assert done.returncode == 0 and imported(said), said[-4000:]
    assert "What is the capital of France?" in said and "Paris" in said, said[-4000:]
    shutil.rmtree(tmp_path / "scratch")
