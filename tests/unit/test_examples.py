"""The examples as a whole: each has its parts and pages, and what is missing is named with its `pip install`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ashore.cli import example
from ashore.cli.main import main

ROOT = Path(__file__).parents[2]
NAMES = sorted(one.parent.name for one in (ROOT / "examples").glob("*/run.py"))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_its_parts_and_its_pages(name: str) -> None:
    folder = ROOT / "examples" / name
    assert {"README.md", "requirements.txt", "about.toml", "Makefile"} <= {one.name for one in folder.iterdir()}
    assert len((folder / "run.py").read_text().splitlines()) <= 500, "people read it from top to bottom"
    about = example.about_example(name)
    assert set(about) == set(example.About.__annotations__)
    for ending in ("md", "zh-CN.md"):
        assert (ROOT / "docs/examples" / f"{name}.{ending}").is_file()
        assert f"({name}.{ending})" in (ROOT / "docs/examples" / f"README.{ending}").read_text()


def test_the_list_names_every_example_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "list"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{said}" and example.about_example(name)["data"] in said for name in NAMES)


def test_missing_packages_are_named_with_one_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "examples/panels"
    folder.mkdir(parents=True)
    (folder / "about.toml").write_text((ROOT / "examples/hello/about.toml").read_text())
    (folder / "requirements.txt").write_text("# pictures\nno-such-pictures>=2\nhttpx>=0.28\nno-such-encoder\n")
    monkeypatch.setattr(example, "CHECKOUT", folder.parent)
    assert main(["example", "run", "panels", "--out", str(tmp_path / "report")]) == 4
    said = capsys.readouterr().err
    assert "-m pip install 'no-such-pictures>=2' 'no-such-encoder';" in said and "--no-index" in said
    assert "httpx" not in said and not (tmp_path / "report").exists()
    assert main(["example", "run", "panel"]) == 2
    assert "panels" in capsys.readouterr().err


def test_the_wheel_carries_the_examples() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {"examples": f"ashore/{example.INSTALLED.name}"}
