"""The tar of a stick: the bytes follow from the files alone, and what no program of a tree reads is left out."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from deploy.bundle import tree

PACK = tree.HERE / "pack.py"


def packed(root: Path, names: list[str], *, at_s: int, group: bool) -> bytes:
    """Return the tar of a small tree, made in the order of `names`, at a time, with the rights that a umask leaves."""
    for name in names:
        path = root / "ashore" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod((0o755 if name.startswith("bin/") else 0o644) | (0o020 if group else 0))
        os.utime(path, (at_s, at_s))
    subprocess.run([sys.executable, str(PACK), str(root / "ashore"), str(root / "out.tar.gz")], check=True)
    return (root / "out.tar.gz").read_bytes()


def test_two_folders_times_and_umasks_give_the_same_bytes(tmp_path: Path) -> None:
    names = ["bin/ashore", "lib/a.py", "lib/b/c.so", "RELEASE"]
    one = packed(tmp_path / "one", names, at_s=1, group=False)
    assert one == packed(tmp_path / "two" / "deeper", names[::-1], at_s=1_700_000_000, group=True)
    with tarfile.open(tmp_path / "one/out.tar.gz") as tar:
        members = {member.name: member for member in tar}
    assert list(members) == sorted(members) and {one.mtime for one in members.values()} == {0}
    assert members["ashore/bin/ashore"].mode == 0o755 and members["ashore/RELEASE"].mode == 0o644
    assert {(one.uid, one.gid, one.uname, one.gname) for one in members.values()} == {(0, 0, "", "")}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("numpy/_core/tests/test_umath.py", False),
        ("numpy/testing/__init__.py", True),
        ("numpy/_core/include/numpy/ndarrayobject.h", False),
        ("openvino/libs/libopenvino_intel_gpu_plugin.so", False),
        ("openvino/libs/libopenvino_intel_cpu_plugin.so", True),
        ("tests/__init__.py", True),
        ("ashore/kit/accelerators.toml", True),
    ],
)
def test_what_no_program_reads_stays_out_of_a_tree(tmp_path: Path, name: str, kept: bool) -> None:
    wheel = tmp_path / "one-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "text")
    tree.unpack_wheels([wheel], tmp_path / "ashore")
    assert (tmp_path / "ashore/lib" / tree.PYTHON / "dist-packages" / name).is_file() is kept
