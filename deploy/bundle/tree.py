"""One directory that needs nothing: Debian's Python with its own C library and loader, the locked wheels, byte code.

It is made for /opt/ashore, and its `settle.sh` moves it to another place. Nothing of it is a link, a device or
privileged: an installer can refuse whatever else a tar has. Equal inputs give equal bytes.
"""

from __future__ import annotations

import platform
import re
import shutil
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PREFIX: Final = "/opt/ashore"
PYTHON: Final = "python3.13"
ROOM: Final = 245
"""Longest path of a loader, in bytes."""
LIBRARIES: Final = (
    "libc", "libm", "libmvec", "libpthread", "libdl", "librt", "libutil", "libresolv", "libanl", "libgcc_s",
    "libstdc++", "libgomp", "libz", "libexpat", "libffi", "libsqlite3", "libssl", "libcrypto",
    "liblzma", "libbz2", "libuuid",
    "libzstd", "libreadline", "libtinfo", "libncursesw",
)  # fmt: skip
LOADERS: Final = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
UNUSED: Final = re.compile(
    r"/tests/|\.(?:pyi|pxd|h|hpp|cmake|a)$|^openvino/libs/(?:libopenvino_intel_[gn]pu_plugin\.so|cache\.json)$"
)
"""What of a wheel no program of a tree reads. The plug-ins need the machine's drivers, which the tree's C library never
loads."""
FIXED: Final = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}
"""Environment of what makes bytes."""


def make_interpreter(arch: str, debs: Sequence[Path], patchelf: Path, out: Path) -> None:
    """Make `out` with Python alone, without byte code. Runs nothing of `arch`.

    The loader's path is written into a room of its own in the program, since the kernel takes none that is relative.
    DT_RPATH, not RUNPATH, serves what modules load; the libraries of C++ and GCC are loaded by the program, since
    modules with a RUNPATH of their own never look at the program's.
    """
    shutil.rmtree(out, ignore_errors=True)
    (out / "bin").mkdir(parents=True)
    (out / "lib").mkdir()
    with tempfile.TemporaryDirectory(prefix="ashore-tree-") as scratch:
        raw = Path(scratch)
        for deb in debs:
            subprocess.run(["dpkg-deb", "-x", str(deb), str(raw)], check=True)
        libraries = raw / f"usr/lib/{arch}-linux-gnu"
        for name in LIBRARIES:
            for path in libraries.glob(f"{name}.so.*"):
                if path.name.count(".") == 2 or path.name == "libbz2.so.1.0":
                    shutil.copyfile(path, out / "lib" / path.name)
        shutil.copyfile(libraries / LOADERS[arch], out / "lib/ld.so")
        (out / "lib/ld.so").chmod(0o755)
        shutil.copytree(raw / f"usr/lib/{PYTHON}", out / "lib" / PYTHON, ignore=_unwanted)
        # `zoneinfo` of Python finds a package of this name, and C's functions take TZDIR.
        shutil.copytree(raw / "usr/share/zoneinfo", out / "lib" / PYTHON / "dist-packages/tzdata/zoneinfo")
        for deb in debs:
            package = deb.name.partition("_")[0]
            copyright_ = raw / f"usr/share/doc/{package}/copyright"
            if copyright_.is_file():
                (out / "share/licences" / package).mkdir(parents=True)
                shutil.copyfile(copyright_, out / "share/licences" / package / "copyright")
        program = out / "bin/python"
        shutil.copyfile(raw / f"usr/bin/{PYTHON}", program)
    program.chmod(0o755)
    words = ["--set-interpreter", "/".ljust(ROOM, "x"), "--force-rpath", "--set-rpath", "$ORIGIN/../lib",
             "--add-needed", "libstdc++.so.6", "--add-needed", "libgcc_s.so.1"]  # fmt: skip
    subprocess.run([str(patchelf), *words, str(program)], check=True)
    at, size = loader_room(program)
    (out / "lib/room").write_text(f"{at} {size}\n")
    with program.open("r+b") as file:
        file.seek(at)
        file.write(f"{PREFIX}/lib/ld.so".encode().ljust(size, b"\0"))
    (out / "lib/settled").write_text(f"{PREFIX}\n")
    shutil.copyfile(HERE / "settle.sh", out / "lib/settle.sh")
    shutil.copyfile(HERE / "start.py", out / "lib/start.py")
    shutil.copyfile(HERE / "ashore.sh", out / "bin/ashore")
    (out / "bin/ashore").chmod(0o755)


def _unwanted(folder: str, names: list[str]) -> list[str]:
    """Return what of Debian's Python stays out: what it tests itself with, and modules of libraries no tree has."""
    heads = ("config-3.13-", "_test", "_ctypes_test", "xx", "_xx", "_curses_panel.", "_dbm.")
    whole = ("EXTERNALLY-MANAGED", "sitecustomize.py", "__pycache__")
    return [name for name in names if name in whole or name.startswith(heads)]


def loader_room(program: Path) -> tuple[int, int]:
    """Return where a 64-bit ELF program names its loader: offset and bytes of PT_INTERP."""
    data = program.read_bytes()
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _flags, offset, _at, _there, num_bytes = struct.unpack_from("<IIQQQQ", data, table + number * size)
        if kind == 3:
            return offset, num_bytes
    raise SystemExit(f"error: {program} names no loader")


def python_of(tree: Path) -> list[str]:
    """Return how Python of a tree for this machine is run, wherever the tree lies.

    It writes no byte code beside its own modules: which strings of a module stand as shared in its byte code depends on
    whether the Python that compiles read that module from byte code itself.
    """
    return [f"{tree}/lib/ld.so", "--library-path", f"{tree}/lib", f"{tree}/bin/python", "-B", "-I"]


def is_native(arch: str) -> bool:
    """Return whether this machine runs programs of an architecture."""
    return platform.machine() == arch


def unpack_wheels(wheels: Sequence[Path], tree: Path) -> None:
    """Unpack wheels as `pip install --target` does, without their scripts. A file that two wheels have is an error."""
    target = tree / "lib" / PYTHON / "dist-packages"
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                top, _, inside = member.filename.partition("/")
                if top.endswith(".data"):
                    kind, _, inside = inside.partition("/")
                    if kind not in ("purelib", "platlib"):
                        continue
                else:
                    inside = member.filename
                if member.is_dir() or UNUSED.search(inside):
                    continue
                path = target / inside
                if not path.resolve().is_relative_to(target.resolve()) or path.exists():
                    raise SystemExit(f"error: {wheel.name} has {member.filename}, which leaves the tree or is there")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
                if member.external_attr >> 16 & 0o111:
                    path.chmod(0o755)


def compile_all(tree: Path, python: Sequence[str]) -> None:
    """Write the byte code of every module: no start compiles, and nothing is written beside the tree's files later.

    It is checked by no time, and names the files by their place below /opt/ashore. `python` is that of a tree for this
    machine: byte code is the same on every architecture. Templates that are not Python stay without.
    """
    words = ["-q", "-j1", "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", PREFIX]
    subprocess.run(
        [*python, "-m", "compileall", *words, str(tree / "lib" / PYTHON)],
        env=FIXED, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def check_tree(tree: Path) -> None:
    """Check that a tree has files and directories alone, none privileged, and set the modes that a tar keeps."""
    for path in sorted(tree.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SystemExit(f"error: {path} is neither a file nor a directory")
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    tree.chmod(0o755)
