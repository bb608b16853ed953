"""What must not change by accident: routes and their fields, commands and their options, rights of built-in roles.

Changed on purpose? `python tests/unit/test_frozen_faces.py` writes the golden files again, and the diff is reviewed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cyclopts

from ashore.cli.main import build_app
from ashore.control.faces.table import ROUTES
from ashore.data.authority import ACTIONS, BUILT_IN
from ashore.data.http.openapi import describe

GOLDEN = Path(__file__).parents[1] / "golden"


def routes() -> dict[str, Any]:
    """Return, for every operation, its query, the fields of its body and those of its answer."""
    document = json.loads(describe(ROUTES))
    schemas = document["components"]["schemas"]

    def fields(content: dict[str, Any]) -> list[str]:
        schema = content.get("application/json", {}).get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        return sorted(schemas.get(name, schema).get("properties", {}))

    found = {}
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            found[f"{method.upper()} {path}"] = {
                "parameters": sorted(f"{p['in']} {p['name']}" for p in one.get("parameters", ())),
                "body": fields(one.get("requestBody", {}).get("content", {})),
                "answer": fields(one["responses"]["200"].get("content", {})),
            }
    return found


def commands() -> dict[str, list[str]]:
    """Return the options of every command, `NAME` standing for an argument."""
    found: dict[str, list[str]] = {}

    def walk(words: tuple[str, ...], app: cyclopts.App) -> None:
        if app.default_command is not None:
            names = set()
            for argument in app.assemble_argument_collection():
                if argument.parse:
                    given = [name for name in argument.names if name.startswith("--") and not name.startswith("--no-")]
                    names |= set(given) if given else {argument.name.upper()}
            found[" ".join(words)] = sorted(names - {"*"})
        for name in app:
            if not name.startswith("-"):
                walk((*words, name), app[name])

    walk((), build_app())
    return found


def roles() -> dict[str, list[str]]:
    """Return what every built-in role may do."""
    return {role.name: sorted(map(str, role.rules)) for role in BUILT_IN}


def test_no_built_in_role_may_more_or_less_unnoticed() -> None:
    assert roles() == json.loads((GOLDEN / "roles.json").read_text())
    named = {one.partition(" on ")[0] for action in ACTIONS for one in action.roles}
    assert named <= set(roles()), "an action names a role that there is not"


def test_no_route_and_no_field_came_or_went_unnoticed() -> None:
    assert routes() == json.loads((GOLDEN / "routes.json").read_text())


def test_no_command_and_no_option_came_or_went_unnoticed() -> None:
    assert commands() == json.loads((GOLDEN / "commands.json").read_text())


if __name__ == "__main__":
    for name, made in (("routes", routes()), ("commands", commands()), ("roles", roles())):
        lines = [f"{json.dumps(key)}: {json.dumps(made[key])}" for key in sorted(made)]
        (GOLDEN / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
