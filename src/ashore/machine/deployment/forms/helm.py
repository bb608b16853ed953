"""A Helm chart of the same objects: what differs between environments is a value, the rest is fixed. Pure.

A value is a place in an object (`KNOBS`). The chart is made of the finished objects, so that `helm template` with the
values of the chart gives what the form `k8s` gives: no second description can differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ashore import __version__
from ashore.kit.yaml import Tree, Verbatim, Why, write_yaml
from ashore.machine.deployment.forms.description import MADE, Description, Engine
from ashore.machine.deployment.forms.kubernetes import Group, kubernetes_objects
from ashore.machine.deployment.forms.pods import Object

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Knob:
    """One value of the chart, and where it stands."""

    kind: str
    """Of the object; `*`: of every one."""
    path: Path
    value: str
    """Its name: `home.size`. `@` stands for the engine's name."""


_POD: Final = ("spec", "template", "spec")
_CONTAINER: Final = (*_POD, "containers", 0)
_LWS: Final = ("spec", "leaderWorkerTemplate")
_CLAIM: Final = ("spec", "volumeClaimTemplates", 0, "spec")
_SERVER: Final = (
    Knob("StatefulSet", ("spec", "replicas"), "replicas"),
    Knob("StatefulSet", (*_CONTAINER, "image"), "image"),
    Knob("StatefulSet", (*_CONTAINER, "imagePullPolicy"), "pullPolicy"),
    *(
        Knob("StatefulSet", (*_CONTAINER, "resources", side, what), f"resources.{what}")
        for side in ("requests", "limits")
        for what in ("cpu", "memory")
    ),
    Knob("StatefulSet", (*_CLAIM, "resources", "requests", "storage"), "home.size"),
    Knob("StatefulSet", (*_CLAIM, "storageClassName"), "home.storageClass"),
    Knob("Service", ("spec", "type"), "service.type"),
)
_ENGINE: Final = (
    Knob("Deployment", ("spec", "replicas"), "engines.@.replicas"),
    Knob("LeaderWorkerSet", ("spec", "replicas"), "engines.@.replicas"),
    Knob("LLMInferenceService", ("spec", "replicas"), "engines.@.replicas"),
    Knob("Deployment", (*_CONTAINER, "image"), "engines.@.image"),
    *(
        Knob("LeaderWorkerSet", (*_LWS, template, "spec", "containers", 0, "image"), "engines.@.image")
        for template in ("leaderTemplate", "workerTemplate")
    ),
    Knob("LLMInferenceService", ("spec", "template", "containers", 0, "image"), "engines.@.image"),
)


def helm_files(deployed: Description) -> dict[str, str]:
    """Return the files of the chart."""
    values: dict[str, Any] = {}
    secret = deployed.places.secrets.name or deployed.name
    templates: dict[str, str] = {}
    for group in kubernetes_objects(deployed):
        engine = next((one for one in deployed.engines if group.file == f"40-engine-{one.name}.yaml"), None)
        objects = [_templated(one, values, engine, secret) for one in group.objects]
        templates[f"templates/{group.file}"] = _documents(Group(group.file, tuple(objects)))
    chart = {
        "apiVersion": "v2",
        "name": deployed.name,
        "description": "ashore and its engines, rendered from ashore.toml and places.toml",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": f">={deployed.places.kubernetes.version}.0-0",
    }
    head = f"{MADE}\nInstall: helm install {deployed.name} FOLDER --namespace {deployed.places.kubernetes.namespace}"
    return {
        "Chart.yaml": write_yaml(chart, head=head),
        "values.yaml": write_yaml(_nested(values), head=f"{MADE} ashore.toml itself is in templates/."),
        **templates,
    }


def _documents(group: Group) -> str:
    return f"# {MADE}\n" + "".join(f"---\n{write_yaml(one)}" for one in group.objects)


def _templated(tree: Object, values: dict[str, Any], engine: Engine | None, secret: str) -> Object:
    """Return an object with its values named, and note them in `values`."""
    knobs = {one.path: one.value for one in (*_SERVER, *(_ENGINE if engine else ())) if one.kind == tree["kind"]}

    def walk(value: Tree, path: Path) -> Tree:
        if isinstance(value, Why):
            return Why(value.reason, walk(value.value, path))
        if isinstance(value, Mapping):
            return {key: walk(one, (*path, key)) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(one, (*path, number)) for number, one in enumerate(value)]
        name = knobs.get(path, "")
        if (path[-1] == "namespace" and path[0] == "metadata") or (
            path == ("metadata", "name") and tree["kind"] == "Namespace"
        ):
            return Verbatim("{{ .Release.Namespace }}")
        if value == secret and (path[-1] == "secretName" or path[-2:] == ("secretKeyRef", "name")):
            name = "secretName"
        if not name:
            return _escaped(value) if isinstance(value, str) else value
        name = name.replace("@", engine.name if engine else "")
        values[name] = value
        return Verbatim("{{ " + _expression(name) + (" | quote" if isinstance(value, str) else "") + " }}")

    found = walk(tree, ())
    assert isinstance(found, dict)
    return found


def _expression(name: str) -> str:
    """Return how a template reads a value; names of engines may contain a dash."""
    first, *rest = name.split(".")
    found = f".Values.{first}"
    for part in rest:
        found = f"(index {found} {_quoted(part)})" if "-" in part else f"{found}.{part}"
    return found


def _quoted(text: str) -> str:
    return f'"{text}"'


def _escaped(text: str) -> str:
    """Return a text with Helm's template markers escaped."""
    return text.replace("{{", "\0").replace("\0", '{{ "{{" }}')


def _nested(values: Mapping[str, Any]) -> dict[str, Tree]:
    found: dict[str, Any] = {}
    for name, value in _sorted(values):
        *tables, last = name.split(".")
        table = found
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    return found


def _sorted(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from sorted(values.items(), key=lambda one: one[0].count("."))
