"""The installer of a stick: who made it comes first, then the copy is checked, and only then anything is unpacked."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import hostile_tars
import pytest

FOLDER = Path(__file__).parents[3] / "deploy" / "bundle"
SYSTEM = f"linux-{platform.machine()}"
TREE = {
    "RELEASE": f"ashore 0.2.0 {SYSTEM} 1700000000\n",
    "lib/room": "4 245\n",
    "lib/settled": "/opt/ashore\n",
    "lib/settle.sh": (FOLDER / "settle.sh").read_text(),
    "bin/python": "ELF " + "x" * 300,
    "bin/ashore": '#!/bin/sh\necho "$@" >>"$(dirname "$0")/../done"\n',
    "share/licence": "yours",
}


def write_tree(tar: Path, files: dict[str, str]) -> None:
    with tarfile.open(tar, "w:gz") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(f"ashore/{name}")
            member.size, member.mode = len(text.encode()), 0o755 if "/bin/" in f"/{name}" else 0o644
            made.addfile(member, io.BytesIO(text.encode()))


def list_files(stick: Path, release: str = TREE["RELEASE"].strip()) -> str:
    files = sorted(one for one in stick.rglob("*") if one.is_file() and one.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.relative_to(stick).as_posix()}\n" for one in files]
    (stick / "SHA256SUMS").write_text(f"# {release}\n" + "".join(lines))
    return hashlib.sha256((stick / "SHA256SUMS").read_bytes()).hexdigest()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    root = tmp_path / "a stick"
    (root / "models").mkdir(parents=True)
    (root / "models/m.tar").write_text("a model")
    (root / "sbom.cdx.json").write_text("{}")
    (root / "install.sh").write_text((FOLDER / "install.sh").read_text())
    write_tree(root / f"ashore-0.2.0-{SYSTEM}.tar.gz", TREE)
    list_files(root)
    return root


def digest(stick: Path) -> str:
    return hashlib.sha256((stick / "SHA256SUMS").read_bytes()).hexdigest()


def install(stick: Path, *words: str, to: Path | None = None) -> subprocess.CompletedProcess[str]:
    where = to or stick.parent / "target"
    home = {**os.environ, "HOME": str(stick.parent)}
    return subprocess.run(
        ["sh", str(stick / "install.sh"), "--to", str(where), *words],
        capture_output=True, text=True, check=False, env=home,
    )  # fmt: skip


def test_it_is_copied_checked_unpacked_settled_and_its_models_are_imported(stick: Path, tmp_path: Path) -> None:
    done = install(stick, "--sums", digest(stick))
    assert done.returncode == 0, done.stderr
    target = tmp_path / "target"
    program = (target / "bin/python").read_bytes()
    loader = f"{target}/lib/ld.so".encode()
    assert program == b"ELF " + loader.ljust(245, b"\0") + b"x" * 55
    assert (target / "done").read_text().endswith("/stick/models/m.tar\n")
    assert (target / "share/sbom.cdx.json").exists()
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".ashore")] == []


def test_an_upgrade_replaces_every_file_and_what_is_not_an_ashore_is_left_alone(stick: Path, tmp_path: Path) -> None:
    assert install(stick, "--sums", digest(stick)).returncode == 0
    (tmp_path / "target/share/old").write_text("of the last release")
    assert install(stick, "--sums", digest(stick), "--no-models").returncode == 0
    assert not (tmp_path / "target/share/old").exists() and not (tmp_path / "target/done").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    refused = install(stick, "--sums", digest(stick), to=tmp_path / "mine")
    assert refused.returncode == 4 and "is not an ashore" in refused.stderr
    (tmp_path / "link").symlink_to("target")
    assert "is a link" in install(stick, "--sums", digest(stick), to=tmp_path / "link").stderr


def test_nothing_is_installed_without_a_proof(stick: Path, tmp_path: Path) -> None:
    assert "nothing was given that shows who made this stick" in install(stick).stderr
    wrong = install(stick, "--sums", "0" * 64)
    assert wrong.returncode == 4 and "not the stick that the number was told for" in wrong.stderr
    (stick / "key.pub").write_text("ssh-ed25519 AAAA")
    assert "is on the stick itself" in install(stick, "--key", str(stick / "key.pub")).stderr
    assert not (tmp_path / "target").exists()
    assert install(stick, "--unchecked").returncode == 0


def test_an_older_release_is_refused_unless_it_is_asked_for(stick: Path, tmp_path: Path) -> None:
    assert install(stick, "--sums", digest(stick)).returncode == 0
    release = tmp_path / "target/RELEASE"
    release.write_text(f"ashore 0.3.0 {SYSTEM} 1700000001\n")
    refused = install(stick, "--sums", digest(stick))
    assert refused.returncode == 4 and "0.2.0 is older than 0.3.0" in refused.stderr
    assert "0.3.0" in release.read_text()
    assert install(stick, "--sums", digest(stick), "--older").returncode == 0 and "0.2.0" in release.read_text()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed model": (lambda root: (root / "models/m.tar").write_text("x"), "not what was signed"),
    "a file less": (lambda root: (root / "sbom.cdx.json").unlink(), "has no file sbom.cdx.json"),
    "a link in its place": (
        lambda root: (root / "sbom.cdx.json").unlink() or (root / "sbom.cdx.json").symlink_to("install.sh"),
        "has no file sbom.cdx.json",
    ),
    "no list": (lambda root: (root / "SHA256SUMS").unlink(), "has no file SHA256SUMS"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stick_that_is_not_what_its_list_says_is_refused(stick: Path, tmp_path: Path, change: str) -> None:
    before = digest(stick)
    CHANGES[change][0](stick)
    refused = install(stick, "--sums", before)
    assert refused.returncode == 4 and CHANGES[change][1] in refused.stderr, refused
    assert not (tmp_path / "target").exists()


LISTS = {
    "a line that is not one": ("evil\n", "has a line that is not one"),
    "a path that leaves the stick": (f"{'0' * 64}  models/../../evil\n", "names a file outside"),
    "a path that a shell expands": (f"{'0' * 64}  models/$(touch evil)\n", "has a line that is not one"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_that_no_builder_writes_is_refused_though_its_number_is_right(
    stick: Path, tmp_path: Path, what: str
) -> None:
    with (stick / "SHA256SUMS").open("a") as file:
        file.write(LISTS[what][0])
    refused = install(stick, "--sums", digest(stick))
    assert refused.returncode == 4 and LISTS[what][1] in refused.stderr
    assert not (tmp_path / "target").exists()


def test_a_stick_for_another_machine_or_without_its_release_is_refused(stick: Path) -> None:
    assert (
        "this stick is for linux-other"
        in install(stick, "--sums", list_files(stick, "ashore 0.2.0 linux-other 1")).stderr
    )
    assert "does not say which release" in install(stick, "--sums", list_files(stick, "evil")).stderr


@pytest.mark.parametrize("name", hostile_tars.NAMES)
def test_a_hostile_tar_is_refused_before_it_is_unpacked(stick: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "out"
    outside.mkdir()
    (outside / "secret").write_text("mine")
    hostile_tars.write_hostile(name, outside, stick / f"ashore-0.2.0-{SYSTEM}.tar.gz")
    refused = install(stick, "--sums", list_files(stick))
    assert refused.returncode == 4 and "the tar has what an ashore has not" in refused.stderr, refused
    assert not (tmp_path / "target").exists()
    assert [one.name for one in outside.iterdir()] == ["secret"] and (outside / "secret").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="others write where only root may: needs root")
def test_root_installs_only_where_no_other_may_write(stick: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    refused = install(stick, "--sums", digest(stick), to=shared / "ashore")
    assert refused.returncode == 4 and f"{shared} can be written by others than root" in refused.stderr
    shared.chmod(0o755)
    os.chown(shared, 1000, 1000)
    assert install(stick, "--sums", digest(stick), to=shared / "ashore").returncode == 4


def test_a_moved_tree_says_how_it_is_settled_again(stick: Path, tmp_path: Path) -> None:
    assert install(stick, "--sums", digest(stick)).returncode == 0
    moved = tmp_path / "moved"
    (tmp_path / "target").rename(moved)
    (moved / "bin/ashore").write_text((FOLDER / "ashore.sh").read_text())
    said = subprocess.run(["sh", str(moved / "bin/ashore")], capture_output=True, text=True, check=False)
    assert said.returncode == 4 and f"sh {moved}/lib/settle.sh" in said.stderr
    settled = subprocess.run(["sh", str(moved / "lib/settle.sh")], capture_output=True, text=True, check=False)
    assert settled.returncode == 0 and (moved / "lib/settled").read_text() == f"{moved}\n"
    assert f"{moved}/lib/ld.so\0".encode() in (moved / "bin/python").read_bytes()
    long = subprocess.run(
        ["sh", str(moved / "lib/settle.sh"), "/" + "x" * 250], capture_output=True, text=True, check=False
    )
    assert long.returncode == 2 and "too long" in long.stderr
