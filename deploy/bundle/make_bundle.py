"""Write one tar that installs ashore with the demo model on a machine without a network.

Inside: the locked wheels for this platform and Python, the models as tars of OCI layouts, an installer, a Containerfile
that builds ashore's image from the wheels, a software bill of materials (CycloneDX), the licences, and the SHA-256 of
every file. With --config also every form of that deployment: compose, quadlet, Kubernetes, Helm.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from ashore import __version__
from ashore.cli.bootstrap import build_store
from ashore.cli.bootstrap.variants import make_ready
from ashore.core.bytesize import human_bytes
from ashore.kit.settings import Home, read_settings
from ashore.machine.deployment.forms import Places, describe_deployment, read_places, render_form

PROJECT = Path(__file__).resolve().parents[2]
MODELS = ("smollm2", "minilm")
LICENCE = re.compile(r"(^|/)(licen[cs]es?/|(licen[cs]e|copying|notice|authors)[^/]*$)", re.IGNORECASE)


def main() -> int:
    """Build the bundle; print where it is, its digest, and what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PROJECT / "dist", help="folder for the tar")
    parser.add_argument("--home", type=Path, help="home whose store has the models; default: $ASHORE_HOME or ~/.ashore")
    parser.add_argument("--config", type=Path, help="ashore.toml whose forms are put into forms/")
    parser.add_argument("--places", type=Path, help="places.toml beside it")
    words = parser.parse_args()
    home = Home(root=words.home.absolute()) if words.home else read_settings().home
    tag = f"{sysconfig.get_platform()}-py{sys.version_info.major}{sys.version_info.minor}".replace("_", "-")
    name = f"ashore-{__version__}-{tag}"
    root = words.output.absolute() / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _wheels(root / "wheels")
    _models(home, root / "models")
    _forms(root, words.config, words.places)
    _bill_of_materials(root)
    _licences(root)
    shutil.copy(Path(__file__).with_name("install.sh"), root / "install.sh")
    (root / "PYTHON").write_text(f"{sys.version_info.major}.{sys.version_info.minor}\n")
    sums = _sums(root)
    tar = words.output.absolute() / f"{name}.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(root, arcname=name)
    shutil.rmtree(root)
    digest = _sha256(tar)
    tar.with_name(f"{tar.name}.sha256").write_text(f"{digest}  {tar.name}\n")
    print(tar)
    print(_next_step(tar, name, digest, sums), file=sys.stderr)
    return 0


def _next_step(tar: Path, name: str, digest: str, sums: str) -> str:
    """Return what to do with the bundle, in lines for a terminal."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"{human_bytes(tar.stat().st_size)}, SHA-256 {digest} (also in {tar.name}.sha256)\n"
        f"SHA-256 of SHA256SUMS in it, which the installer prints: {sums}\n"
        f"next: copy it to the machine without a network, which needs {python}; there:\n"
        f"  sha256sum {tar.name}    # compare with the digest above, which travels another way\n"
        f"  tar xf {tar.name} && sh {name}/install.sh"
    )


def _wheels(folder: Path) -> None:
    """Bring every locked wheel for this platform, checked against its hash, and build ashore's own."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(PROJECT / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(PROJECT)], check=True)


def _models(home: Home, folder: Path) -> None:
    folder.mkdir()
    store = build_store(home)
    for name in MODELS:
        ready = make_ready(store, name)
        for reference in dict.fromkeys((name, ready.reference)):
            store.export(reference, folder / f"{reference.replace('@', '-')}.tar")


def _forms(root: Path, config: Path | None, places_file: Path | None) -> None:
    """Write the Containerfile beside the wheels, and the forms of a deployment where one was given."""
    text = config.read_text() if config else "".join(f'[[model]]\nname = "{name}"\n' for name in MODELS)
    deployed = describe_deployment(text, read_places(places_file) if places_file else Places())
    files = render_form("image", deployed)
    if config:
        files |= {f"forms/{path}": written for path, written in render_form("bundle", deployed).items()}
    for path, written in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(written)


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        return email.message_from_bytes(archive.read(name))


def _bill_of_materials(root: Path) -> None:
    components = []
    for wheel in sorted((root / "wheels").glob("*.whl")):
        told = _metadata(wheel)
        name, version = told["Name"], told["Version"]
        text = next(iter(str(told["License-Expression"] or told["License"] or "").strip().splitlines()), "")
        components.append(
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}",
                "hashes": [{"alg": "SHA-256", "content": _sha256(wheel)}],
                **({"licenses": [{"license": {"name": text[:200]}}]} if text else {}),
            }
        )
    for model in sorted((root / "models").glob("*.tar")):
        components.append(
            {
                "type": "machine-learning-model",
                "name": model.stem,
                "hashes": [{"alg": "SHA-256", "content": _sha256(model)}],
            }
        )
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "ashore", "version": __version__},
            "properties": [{"name": "platform", "value": platform.platform()}],
        },
        "components": components,
    }
    (root / "sbom.cdx.json").write_text(json.dumps(document, indent=2))


def _licences(root: Path) -> None:
    """Copy the licence texts that each wheel carries into a folder of its name."""
    for wheel in sorted((root / "wheels").glob("*.whl")):
        folder = root / "licences" / wheel.name.split("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                inside = member.partition(".dist-info/")[2]
                if inside and not inside.endswith("/") and LICENCE.search(inside):
                    target = folder / Path(inside).name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))


def _files(root: Path) -> Iterator[Path]:
    yield from (path for path in sorted(root.rglob("*")) if path.is_file())


def _sums(root: Path) -> str:
    """Write the list of the files with their hashes, and return the hash of the list."""
    lines = [f"{_sha256(path)}  {path.relative_to(root)}\n" for path in _files(root)]
    (root / "SHA256SUMS").write_text("".join(lines))
    return _sha256(root / "SHA256SUMS")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
