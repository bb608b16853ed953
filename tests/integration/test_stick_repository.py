"""The folder of packages on a stick: a real apt takes it, by the key that signed it and by no other; equal twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy.bundle.packages import make_repository, sign_repository

MADE_S = 1_700_000_000
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "dpkg-deb", "gpg"))), reason="needs apt-get, dpkg-deb and gpg"
)


@pytest.fixture
def createrepo(tmp_path: Path) -> Path:
    """Stands for the program that lists the packages of rpm: this test has none."""
    program = tmp_path / "createrepo_c"
    program.write_text(
        '#!/bin/sh\nfor folder; do :; done\nmkdir -p "$folder/repodata"\necho "$@" >"$folder/repodata/repomd.xml"\n'
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two keys of gpg: releases@example.com and other@example.com, each as NAME.gpg."""
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    for name in ("releases", "other"):
        address = f"{name}@example.com"
        words = ["--batch", "--passphrase", "", "--quick-generate-key", address, "ed25519", "sign", "never"]
        subprocess.run(["gpg", *words], check=True, capture_output=True)
        shown = subprocess.run(["gpg", "--export", address], check=True, capture_output=True)
        (tmp_path / f"{name}.gpg").write_bytes(shown.stdout)
    yield tmp_path
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=True)


def package(folder: Path, scratch: Path, name: str) -> Path:
    control = scratch / name / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: one\n"
    )
    (scratch / name / "file").write_text(name)
    folder.mkdir(exist_ok=True)
    words = ["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", str(scratch / name), str(folder)]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(MADE_S)})
    return folder / f"{name}_1.0_all.deb"


Apt = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    """Run apt-get with a state of its own, and one source: the folder, signed by a key."""

    def run(repository: Path, key: Path, *words: str) -> subprocess.CompletedProcess[str]:
        root = tmp_path / "apt"
        shutil.rmtree(root, ignore_errors=True)
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "etc/sources.list").write_text(f"deb [signed-by={key}] file:{repository} ./\n")
        (root / "apt.conf").write_text(
            f'Dir::State "{root}/state"; Dir::State::status "{root}/status"; Dir::Cache "{root}/cache";\n'
            f'Dir::Etc "{root}/etc"; APT::Sandbox::User ""; Acquire::Languages "none";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"}
        subprocess.run(["apt-get", "update", "--error-on=any"], env=environment, check=True, capture_output=True)
        return subprocess.run(
            ["apt-get", *words], env=environment, cwd=root, capture_output=True, text=True, check=False
        )

    return run


def test_apt_takes_a_package_by_the_key_that_signed_the_folder(createrepo: Path, keys: Path, apt: Apt) -> None:
    repository = keys / "packages"
    deb = package(repository, keys / "scratch", "ashore")
    package(repository, keys / "scratch", "ashore-model-tiny")
    make_repository(createrepo, repository, made_s=MADE_S)
    sign_repository(repository, "releases@example.com")
    key = keys / "releases.gpg"
    seen = apt(repository, key, "install", "--print-uris", "-y", "ashore")
    assert seen.returncode == 0 and f"file:{repository}/./ashore_1.0_all.deb" in seen.stdout, seen
    assert apt(repository, key, "download", "ashore").returncode == 0
    with pytest.raises(subprocess.CalledProcessError) as refused:
        apt(repository, keys / "other.gpg", "download", "ashore")
    assert b"NO_PUBKEY" in refused.value.stderr or b"Missing key" in refused.value.stderr, refused.value.stderr

    whole = deb.read_bytes()
    deb.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "Hash Sum mismatch" in apt(repository, key, "download", "ashore").stderr
    deb.write_bytes(whole)
    listed = repository / "Packages"
    listed.write_text(listed.read_text().replace("Version: 1.0", "Version: 2.0"))
    with pytest.raises(subprocess.CalledProcessError):
        apt(repository, key, "download", "ashore")


def test_the_lists_have_the_same_bytes_twice(createrepo: Path, tmp_path: Path) -> None:
    lists = []
    for name in ("here", "elsewhere"):
        folder = tmp_path / name
        package(folder, tmp_path / f"scratch-{name}", "ashore")
        make_repository(createrepo, folder, made_s=MADE_S)
        lists.append([(folder / one).read_bytes() for one in ("Packages", "Release")])
    assert lists[0] == lists[1]
    assert b"Date: Tue, 14 Nov 2023 22:13:20 UTC\n" in lists[0][1]
