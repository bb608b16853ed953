"""A stick is checked by an installed ashore: who signed it, whether it is whole, its age, and what its tars hold."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import hostile_tars
import pytest

from ashore.cli import bundle
from ashore.core.errors import AshoreError, Conflict, CorruptBlob, InvalidRequest
from ashore.kit.carried import Release, carried
from ashore.kit.extras import how_to_install
from ashore.machine.deployment.stick import check_files, read_list, refuse_older

RELEASE = "ashore 0.1.0 linux-x86_64 1700000000"


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys of ssh-keygen: release and other."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("release", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    return folder


def sign(stick: Path, key: Path, namespace: str = "ashore-bundle") -> None:
    (stick / "SHA256SUMS.sig").unlink(missing_ok=True)
    words = ["-n", namespace, "-f", str(key), str(stick / "SHA256SUMS")]
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", *words], check=True, capture_output=True)


def list_files(stick: Path, release: str = RELEASE) -> None:
    files = sorted(one for one in stick.rglob("*") if one.is_file() and not one.name.startswith("SHA256SUMS"))
    lines = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.relative_to(stick).as_posix()}\n" for one in files]
    (stick / "SHA256SUMS").write_text(f"# {release}\n" + "".join(lines))


@pytest.fixture
def stick(tmp_path: Path, keys: Path) -> Path:
    root = tmp_path / "a stick"
    (root / "models").mkdir(parents=True)
    (root / "install.sh").write_text("echo\n")
    for path in (root / "ashore.tar.gz", root / "models/m.tar"):
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            member = tarfile.TarInfo("ashore/RELEASE")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"file"))
    list_files(root)
    sign(root, keys / "release")
    return root


def test_a_stick_is_taken_by_the_key_that_signed_it(
    stick: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle.verify(stick, key=keys / "release.pub")
    said = capsys.readouterr().out
    assert "ashore 0.1.0 for linux-x86_64, signed by" in said and "3 files" in said


def test_without_a_key_nothing_is_believed(stick: Path) -> None:
    with pytest.raises(InvalidRequest, match="without the key of its release"):
        bundle.verify(stick)


def replaced_list(stick: Path) -> None:
    (stick / "install.sh").write_text("echo evil\n")
    list_files(stick)


def moved(stick: Path) -> None:
    (stick / "SHA256SUMS").write_text((stick / "SHA256SUMS").read_text() + "0" * 64 + "  ../evil\n")


UNSIGNED: dict[str, Callable[[Path, Path], object]] = {
    "another key": lambda stick, keys: sign(stick, keys / "other"),
    "a signature for something else": lambda stick, keys: sign(stick, keys / "release", "file"),
    "a changed list": lambda stick, _: replaced_list(stick),
    "a changed time": lambda stick, _: list_files(stick, RELEASE.replace("17", "18")),
    "half a signature": lambda stick, _: (stick / "SHA256SUMS.sig").write_bytes(
        (stick / "SHA256SUMS.sig").read_bytes()[:120] + b"\n-----END SSH SIGNATURE-----\n"
    ),
    "a signature that is not one": lambda stick, _: (stick / "SHA256SUMS.sig").write_text("hello"),
    "a path that leaves the stick": lambda stick, keys: (moved(stick), sign(stick, keys / "release")),
    "a list without its release": lambda stick, keys: (list_files(stick, "evil"), sign(stick, keys / "release")),
}


@pytest.mark.parametrize("change", UNSIGNED)
def test_a_list_that_the_key_did_not_sign_is_refused(stick: Path, keys: Path, change: str) -> None:
    UNSIGNED[change](stick, keys)
    with pytest.raises(CorruptBlob):
        read_list(stick, keys / "release.pub")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed file": (lambda stick: (stick / "install.sh").write_text("echo evil\n"), "changed: install.sh"),
    "a file less": (lambda stick: (stick / "models/m.tar").unlink(), "missing: models/m.tar"),
    "a file more": (lambda stick: (stick / "evil.sh").write_text(""), "not in SHA256SUMS: 'evil.sh'"),
    "a link more": (lambda stick: (stick / "more").symlink_to("models"), "not in SHA256SUMS"),
    "a link to the file": (
        lambda stick: (stick / "install.sh").rename(stick.parent / "x") and (stick / "install.sh").symlink_to("../x"),
        "missing: install.sh",
    ),
}


@pytest.mark.parametrize("change", SPOILT)
def test_a_stick_that_is_not_what_was_signed_is_refused(stick: Path, keys: Path, change: str) -> None:
    SPOILT[change][0](stick)
    with pytest.raises(CorruptBlob, match=SPOILT[change][1]):
        check_files(stick, read_list(stick, keys / "release.pub"))


@pytest.mark.parametrize("name", hostile_tars.NAMES)
def test_a_hostile_tar_is_refused_though_it_is_signed(stick: Path, keys: Path, tmp_path: Path, name: str) -> None:
    hostile_tars.write_hostile(name, tmp_path, stick / "ashore.tar.gz")
    list_files(stick)
    sign(stick, keys / "release")
    with pytest.raises(CorruptBlob, match=r"ashore\.tar\.gz: "):
        check_files(stick, read_list(stick, keys / "release.pub"))


@pytest.mark.parametrize("text", ["", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 !!"])
def test_what_is_no_key_is_an_error_of_the_caller(stick: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pub").write_text(text)
    with pytest.raises(InvalidRequest):
        read_list(stick, tmp_path / "key.pub")


def test_an_older_release_is_refused() -> None:
    older, newer = Release.parse(RELEASE), Release.parse("ashore 0.2.0 linux-x86_64 1800000000")
    assert older is not None and newer is not None
    refuse_older(newer, older)
    refuse_older(older, older)
    refuse_older(older, None)
    with pytest.raises(Conflict, match=r"0\.1\.0, which is older than the installed 0\.2\.0"):
        refuse_older(older, newer)


def test_a_tree_knows_what_it_is_and_its_hints_name_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert carried(tmp_path) is None
    (tmp_path / "RELEASE").write_text("something else\n")
    assert carried(tmp_path) is None
    (tmp_path / "RELEASE").write_text(f"{RELEASE}\n")
    tree = carried(tmp_path)
    assert tree is not None and tree.release.version == "0.1.0" and tree.key == tmp_path / "release.pub"
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert "pip install" not in how_to_install("train") and "carried" in how_to_install("train")
    from ashore.kit.store.sources.pypi import read_pip_setup

    with pytest.raises(AshoreError, match="has no pip"):
        read_pip_setup()


def test_the_key_of_the_tree_is_the_one_that_is_asked(
    stick: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "RELEASE").write_text("ashore 0.2.0 linux-x86_64 1800000000\n")
    shutil.copy(keys / "release.pub", tree)
    monkeypatch.setattr("sys.prefix", str(tree))
    with pytest.raises(Conflict):
        bundle.verify(stick)
    bundle.verify(stick, older=True)
    with pytest.raises(CorruptBlob):
        bundle.verify(stick, key=keys / "other.pub", older=True)
