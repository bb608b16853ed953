"""`ashore deploy check k8s` against a real API server: every rendered recipe is taken as it is, and a mistake is not.

The server knows the controllers' objects and runs none of them. `make test-kubernetes` names what it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deploy_recipes import RECIPES
from kube_server import KubeServer, kube_server, missing
from page_run import blocks_of

from ashore.cli.main import main

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-on-kubernetes.md"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    if why := missing():
        pytest.skip(why)
    with kube_server(tmp_path_factory.mktemp("kubernetes")) as one:
        for name in ("ashore", "llm"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
            made = one.kubectl("create", "-f", "-", text=yaml.safe_dump(namespace))
            assert made.returncode == 0, made.stderr
        yield one


@pytest.fixture(autouse=True)
def _asks_it(server: KubeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.config))


def written(name: str, folder: Path) -> list[str]:
    recipe = RECIPES[name]
    (folder / "ashore.toml").write_text(recipe.config)
    (folder / "places.toml").write_text(recipe.places)
    (folder / "judge.json").write_text("{}")
    return ["--config", str(folder / "ashore.toml"), "--places", str(folder / "places.toml")]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_taken(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["deploy", "check", "k8s", *written(name, tmp_path), "--json"])
    items = json.loads(capsys.readouterr().out)["items"]
    assert [one["said"] for one in items if not one["accepted"]] == [] and code == 0
    assert {one["kind"] for one in items} >= {"StatefulSet", "Service", "NetworkPolicy", "ConfigMap"}


@pytest.mark.parametrize("name", RECIPES)
def test_it_applies_whole_on_the_server_side_with_no_warning(
    name: str, server: KubeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "render", "k8s", *written(name, tmp_path), "--out", str(tmp_path / "k8s")]) == 0
    words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--field-manager=ashore"]
    applied = server.kubectl(*words, "--recursive", "-f", str(tmp_path / "k8s"))
    assert (applied.returncode, applied.stderr) == (0, ""), applied.stderr
    assert "serverside-applied (server dry run)" in applied.stdout


def test_the_page_is_walked_to_its_end(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a cluster without nodes goes: everything is applied, and a change is a new ConfigMap."""
    monkeypatch.chdir(tmp_path)
    _, files = blocks_of(PAGE.read_text(encoding="utf-8"))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["deploy", "check", "k8s", "--places", "places.toml"]) == 0
    rendered = ["deploy", "render", "k8s", "--places", "places.toml", "--out", "k8s"]
    for changed in (False, True):
        if changed:
            (tmp_path / "ashore.toml").write_text(files["ashore.toml"] + "[cache]\nttl_s = 60\n")
        assert main(rendered) == 0
        applied = server.kubectl("apply", "--validate=strict", "-f", "k8s/")
        assert (applied.returncode, applied.stderr) == (0, "")
    maps = server.kubectl("-n", "ashore", "get", "configmaps", "-o", "name").stdout.split()
    assert len([name for name in maps if name.startswith("configmap/ashore-")]) == 2
    found = server.kubectl("-n", "ashore", "get", "statefulset,leaderworkerset,pdb,netpol", "-o", "name").stdout
    assert "statefulset.apps/ashore" in found and "leaderworkerset" in found and "networkpolicy" in found


def test_what_the_server_refuses_is_said_with_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = written("one-model", tmp_path)
    (tmp_path / "places.toml").write_text('[kubernetes]\nnamespace = "not-there"\n')
    assert main(["deploy", "check", "k8s", *words]) == 2
    said = capsys.readouterr()
    assert 'namespaces "not-there" not found' in said.out and "refuses" in said.err
