"""The wheel and the source distribution: every file of the package is in both, and their metadata can be published."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
for builder in (SdistBuilder, WheelBuilder):
    print(*builder(sys.argv[1]).build(directory=sys.argv[2]), sep="\\n")
"""


def built(source: Path, target: Path) -> tuple[Path, Path]:
    """Build both from a folder; return the source distribution and the wheel."""
    made = subprocess.run(
        [sys.executable, "-c", BUILD, str(source), str(target)], capture_output=True, text=True, check=True
    )
    sdist, wheel = map(Path, made.stdout.split())
    return sdist, wheel


def names_in(wheel: Path) -> set[str]:
    """Return the files of the package in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("ashore/")}


@pytest.fixture(scope="module")
def files() -> set[str]:
    """The files of the package in the working tree, as a wheel names them."""
    listed = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "src/ashore",
        "examples",
    ]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    present = [line for line in found if (ROOT / line).exists()]
    return {f"ashore/{line}" if line.startswith("examples/") else line.removeprefix("src/") for line in present}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def metadata(both: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(both[1]) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_every_file_of_the_package_is_in_the_wheel(files: set[str], both: tuple[Path, Path]) -> None:
    assert names_in(both[1]) == files
    kinds = {PurePosixPath(name).suffix for name in files}
    assert {".py", ".sql", ".json", ".jsonl", ".toml", ".typed"} <= kinds


def test_a_wheel_made_of_the_source_distribution_is_the_same(
    files: set[str], both: tuple[Path, Path], tmp_path: Path
) -> None:
    with tarfile.open(both[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert names_in(built(source, tmp_path / "dist")[1]) == files
    inside = {path.name for path in source.iterdir()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.lock", "tests"} <= inside
    assert ".ci" not in inside


def test_its_metadata_can_be_published(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Name"] == "ashore" and metadata["Version"] == project["version"]
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["License-File"] == "LICENSE"
    assert metadata["Summary"] and metadata["Author"] and metadata["Keywords"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Requires-Python"] == ">=3.11"
    known = pytest.importorskip("trove_classifiers").classifiers
    assert set(metadata.get_all("Classifier") or ()) <= known
    assert not any(" @ " in one for one in metadata.get_all("Requires-Dist") or ()), "an index refuses direct URLs"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
