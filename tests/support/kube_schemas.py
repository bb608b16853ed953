"""Objects of Kubernetes against the schemas of its versions; custom ones against tests/schemas. Offline."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    import kubernetes_validate
    from kubernetes_validate import utils

utils.schema_contents = functools.cache(utils.schema_contents)  # it reads the same megabytes for each object
utils.all_versions = functools.cache(utils.all_versions)

SCHEMAS = Path(__file__).parents[1] / "schemas"
FREE = {"labels", "matchLabels", "annotations", "data", "nodeSelector", "requests", "limits", "rayStartParams"}
"""Keys whose tables have keys of the operator's own."""


METADATA = {"name": {"type": "string"}, "namespace": {"type": "string"}, "labels": {}, "annotations": {}}


def objects_in(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return every object of rendered files, in order."""
    return [one for _, text in sorted(files.items()) for one in yaml.safe_load_all(text) if one]


def is_custom(tree: Mapping[str, Any]) -> bool:
    """Return whether a controller must be installed before the object is known."""
    return any(name in tree["apiVersion"] for name in ("x-k8s.io", "kserve.io", "ray.io"))


def faults_of(tree: Mapping[str, Any], version: str) -> list[str]:
    """Return what is wrong with an object; nothing where it is right."""
    if is_custom(tree):
        return [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in _custom(tree).iter_errors(tree)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kubernetes_validate.validate(dict(tree), version, strict=True)
    except kubernetes_validate.ValidationError as fault:
        return [str(fault)]
    return []


def _custom(tree: Mapping[str, Any]) -> jsonschema.Draft202012Validator:
    return _validator(f"{tree['apiVersion'].replace('/', '_')}_{tree['kind']}")


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_closed(json.loads((SCHEMAS / f"{name}.json").read_text())))


def _closed(schema: Any) -> Any:
    """Return a schema as a strict server takes it: what is not named is refused."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(one) for key, one in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    elif isinstance(schema.get("properties"), dict) and "type" in schema:
        inner = found["properties"]
        if inner.get("metadata") == {"type": "object"}:  # a definition leaves it to the server
            inner["metadata"] = {"properties": METADATA, "additionalProperties": False}
        found.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return found


def misspelt(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield copies of an object with one key misspelt in each, and where."""
    if isinstance(tree, Mapping):
        free = path and (path[-1] in FREE or (path[-1] == "selector" and "matchLabels" not in tree))
        for key, value in tree.items():
            if not free:
                wrong = key[:-2] + key[-1] + key[-2] if key[-1] != key[-2] else key + "x"
                yield (
                    ".".join(map(str, (*path, key))),
                    {(wrong if one == key else one): two for one, two in tree.items()},
                )
            for where, inner in misspelt(value, (*path, key)):
                yield where, {**tree, key: inner}
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            for where, inner in misspelt(value, (*path, number)):
                yield where, [*tree[:number], inner, *tree[number + 1 :]]
