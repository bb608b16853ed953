"""The how-tos on containers and Kubernetes: what they show is rendered, is valid, and has the names that they tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kube_schemas import faults_of, objects_in

from ashore.cli.main import main

PAGES = Path(__file__).parents[3] / "docs/how-to"


def fences(page: str, kind: str) -> list[str]:
    text = re.sub(r"(?m)^   ", "", (PAGES / page).read_text(encoding="utf-8"))
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def commands(page: str, *beginnings: str) -> list[list[str]]:
    return [
        line.split()[1:] for fence in fences(page, "sh") for line in fence.splitlines() if line.startswith(beginnings)
    ]


def test_the_page_on_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = "run-on-kubernetes.md"
    config, places = fences(page, "toml")
    (tmp_path / "ashore.toml").write_text(config)
    (tmp_path / "places.toml").write_text(places)
    said = commands(page, "ashore deploy render")
    assert len(said) == 2
    for words in (*said, ["deploy", "render", "helm", "--places", "places.toml", "--out", "chart"]):
        assert main(words) == 0
    trees = objects_in({path.name: path.read_text() for path in (tmp_path / "k8s").iterdir()})
    assert [fault for tree in trees for fault in faults_of(tree, "1.34")] == []
    assert {"StatefulSet", "LeaderWorkerSet", "PodDisruptionBudget"} <= {tree["kind"] for tree in trees}
    head = (tmp_path / "k8s/10-configuration.yaml").read_text()
    (told,) = commands(page, "kubectl -n ashore create secret")
    assert [word for word in told if word.startswith("--from-file")] == re.findall(r"--from-file=\S+", head)
    assert (tmp_path / "chart/Chart.yaml").is_file()


def test_the_page_on_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-image` builds and starts what is rendered here."""
    monkeypatch.chdir(tmp_path)
    page = "run-in-containers.md"
    (places,) = fences(page, "toml")
    (tmp_path / "ashore.toml").write_text('[[model]]\nname = "smollm2"\n')
    (tmp_path / "places.toml").write_text(places)
    said = commands(page, "ashore deploy render")
    assert [words[2] for words in said] == ["image", "compose", "quadlet"]
    for words in said:
        assert main(words) == 0
    (build,) = commands(page, "buildah build")
    built = (tmp_path / "stick/Containerfile").read_text()
    assert f"-t {build[build.index('-t') + 1]} " in built
    assert 'image: "registry.corp.example/ashore:0.1.0"' in (tmp_path / "compose/compose.yaml").read_text()
