"""`/openapi.json`, generated from the table of routes and their request and response types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ashore import __version__
from ashore.data.http.errors import AnthropicError, ErrorForm, OllamaError, OpenAIError
from ashore.data.http.routes import Route
from ashore.kit.call import ADMIN

ERROR_TYPES: Final[Mapping[ErrorForm, type[msgspec.Struct]]] = {
    "openai": OpenAIError,
    "anthropic": AnthropicError,
    "ollama": OllamaError,
}
REF = "#/components/schemas/{name}"


def describe(routes: Sequence[Route]) -> bytes:
    """Return an OpenAPI 3.1 document of `routes`."""
    routes = [route for route in routes if route.guard != "ours"]
    types: list[type] = [*ERROR_TYPES.values()]
    types += [t for route in routes for t in (route.request, route.response) if t is not None]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=REF)
    by_type = dict(zip(unique, schemas, strict=True))
    for route in routes:
        if route.leaves_out and route.request is not None:
            components[route.request.__name__].pop("additionalProperties", None)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "ashore",
                "version": __version__,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }
    )


def _operation(route: Route, schemas: dict[type, dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Success."}
    if route.response is not None:
        answer["content"] = {route.content_type: {"schema": schemas[route.response]}}
        if route.streams:
            kind = "application/x-ndjson" if route.errors == "ollama" else "text/event-stream"
            answer["content"][kind] = {"schema": {"type": "string"}}
    elif route.content_type != "application/json":
        answer["content"] = {route.content_type: {"schema": {"type": "string"}}}
    error = schemas[ERROR_TYPES[route.errors]]
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "security": [] if route.guard == "open" else [{"bearer": []}, {"key": []}],
        "responses": {
            "200": answer,
            "default": {"description": "Error.", "content": {"application/json": {"schema": error}}},
        },
    }
    if route.request is not None:
        operation["requestBody"] = {
            "required": not _may_lack_body(route),
            "content": {"application/json": {"schema": schemas[route.request]}},
        }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query
    ]
    for name in route.names:
        parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    if parameters:
        operation["parameters"] = parameters
    return operation


def _may_lack_body(route: Route) -> bool:
    """Return whether a missing body equals `{}`: no field is required."""
    if route.request is None or not (route.body_optional or route.path.startswith(ADMIN)):
        return False
    return not any(field.required for field in msgspec.structs.fields(route.request))


def _operation_id(route: Route) -> str:
    """Return a unique operation id: several route modules call their handlers `create` and `retrieve`."""
    if route.operation:
        return route.operation
    module = route.handler.__module__.rpartition(".")[2]
    name = route.handler.__name__
    return name if module in ("handlers", "operate") else f"{module}_{name}"
