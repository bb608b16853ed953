"""Requests of one tenant that want the most of a server, and what another tenant notices of them.

A shape is a name and a function that makes a request: a path and a body. `make fuzz ARGS=hostile` sends all of them to
a server with `fake:agent` and to one with the real demo model, and prints deaths and the first token of another tenant
beside its quiet value. The suite sends a few (`tests/acceptance/test_hostile_shapes.py`).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from demo_home import demo_home_path
from home_processes import processes_of
from served import Served, call, start_served

MOST_RATIO: Final = 3.0
MOST_S: Final = 0.5
QUIET_ROUNDS: Final = 12
"""Of each part. The parts of quiet, hostile and harmless requests alternate, so that all see the same machine."""
PART: Final = 8
"""Shapes of a part."""
AT_ONCE: Final = 4

Body = dict[str, Any]
Request = tuple[str, Body]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One request, made when it is sent."""

    name: str
    make: Callable[[str], Request]
    """Given the name of a model."""


# --- what carries a grammar


def _chat(model: str, **more: Any) -> Request:
    return "/v1/chat/completions", {
        "model": model, "messages": [{"role": "user", "content": "say x"}], "max_tokens": 48, "temperature": 1, **more,
    }  # fmt: skip


def _schema(model: str, schema: Any) -> Request:
    return _chat(model, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})


def _tool(model: str, schema: Any) -> Request:
    tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
    return _chat(model, tools=[tool], tool_choice="required")


def _stored(model: str, schema: Any) -> Request:
    form = {"type": "json_schema", "name": "s", "schema": schema}
    return "/v1/responses", {"model": model, "input": "say x", "background": True, "text": {"format": form}}


def _grammar(model: str, text: str) -> Request:
    return _chat(model, guided_grammar=text)


def _regex(model: str, text: str) -> Request:
    return _chat(model, response_format={"type": "regex", "pattern": text})


# --- conversations and texts


def _message(model: str, size: int) -> Request:
    return _chat(model, messages=[{"role": "user", "content": "word " * size}])


def _messages(model: str, size: int) -> Request:
    roles = ("user", "assistant")
    return _chat(model, messages=[{"role": roles[at % 2], "content": "a"} for at in range(size | 1)])


def _votes(model: str, size: int) -> Request:
    return _chat(model, messages=[{"role": "user", "content": "word " * size}], n=8)


def _echo(model: str, size: int) -> Request:
    return "/v1/completions", {"model": model, "prompt": "word " * size, "max_tokens": 1, "echo": True, "logprobs": 5}


_TEXTS: Final[tuple[tuple[str, Callable[[str, int], Request], tuple[int, ...]], ...]] = (
    ("a long message", _message, (2000, 7000, 200_000)),
    ("many messages", _messages, (1500, 30_000)),
    ("eight answers to a long message", _votes, (2000,)),
    ("an echo with probabilities", _echo, (2000, 7000)),
)


# --- schemas


def _chain(size: int, *, anchors: bool = False) -> Any:
    to = "#r{}" if anchors else "#/$defs/r{}"
    defs: dict[str, Any] = {f"r{at}": {"$ref": to.format(at + 1)} for at in range(size)}
    defs[f"r{size}"] = {"type": "string"}
    if anchors:
        defs = {name: {"$anchor": name, **one} for name, one in defs.items()}
    return {"$ref": to.format(0), "$defs": defs}


def _nested(size: int, keyword: str) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(size):
        match keyword:
            case "properties" | "patternProperties":
                schema = {"type": "object", keyword: {"a": schema}, "required": ["a"]}
            case "items" | "additionalProperties" | "propertyNames":
                schema = {keyword: schema}
            case _:
                schema = {keyword: [schema, {"type": "null"}]}
    return schema


def _doubling(size: int, keyword: str) -> Any:
    """Each definition refers to the next one twice: 2^size where references are copied."""
    defs: dict[str, Any] = {
        f"d{at}": {keyword: [{"$ref": f"#/$defs/d{at + 1}"}, {"$ref": f"#/$defs/d{at + 1}"}]} for at in range(size)
    }
    defs[f"d{size}"] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def _products(size: int) -> Any:
    """All of `size` choices between two objects: 2^size alternatives where they are multiplied."""
    return {
        "allOf": [
            {"anyOf": [{"properties": {f"a{at}": {"const": 1}}}, {"properties": {f"b{at}": {"const": 2}}}]}
            for at in range(size)
        ]
    }


def _properties(size: int, *, required: bool = False) -> Any:
    names = [f"property_{at}" for at in range(size)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    return {**schema, "required": names} if required else schema


def _enum(size: int) -> Any:
    return {"enum": [f"value {at} {at * 7919}" for at in range(size)]}


def _counted(size: int) -> Any:
    inner = {"type": "array", "items": {"enum": ["a", "ab", "b"]}, "minItems": size, "maxItems": size + 1}
    return {"type": "array", "items": inner, "maxItems": size}


def _long(size: int) -> Any:
    return {"type": "string", "minLength": size, "maxLength": size + 1}


def _patterns(size: int) -> Any:
    pattern = "^(a|b)*a(a|b){{{}}}$"
    properties = {f"p{at}": {"type": "string", "pattern": pattern.format(10 + at % 20)} for at in range(size)}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _waiting(size: int) -> Any:
    """Many alternatives that end together, in many places that wait for them."""
    either = {"anyOf": [{"type": "object", "properties": {"k": {"const": at}}} for at in range(size)]}
    wait = [{"type": "array", "prefixItems": [{"$ref": "#/$defs/x"}, {"const": at}]} for at in range(size)]
    return {"anyOf": wait, "$defs": {"x": either}}


def _mesh(size: int) -> Any:
    """Each definition refers to all others."""
    names = [f"m{at}" for at in range(size)]
    defs = {name: {"type": "object", "properties": {to: {"$ref": f"#/$defs/{to}"} for to in names}} for name in names}
    return {"$ref": "#/$defs/m0", "$defs": defs}


def _long_names(size: int) -> Any:
    schema: Any = {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(size)}}
    for _ in range(40):
        schema = {"type": "object", "properties": {"n" * (size // 2): schema}}
    return schema


# --- grammars and expressions


def _rules(size: int) -> str:
    return "start: r0\n" + "".join(f'r{at}: "x" r{at + 1}\n' for at in range(size)) + f'r{size}: "y"\n'


def _gbnf_rules(size: int) -> str:
    return "root ::= r0\n" + "".join(f'r{at} ::= "x" r{at + 1}\n' for at in range(size)) + f'r{size} ::= "y"\n'


def _gbnf_terminals(size: int) -> str:
    return "root ::= r0 root\n" + "".join(f"r{at} ::= r{at + 1}\n" for at in range(size)) + f'r{size} ::= "y"\n'


def _gbnf_alternatives(size: int) -> str:
    return "root ::= " + " | ".join(f'("a" [{at}]+ | b{at})' for at in range(size)) + "\n" + "".join(
        f'b{at} ::= "{at}" root\n' for at in range(size)
    )  # fmt: skip


def _ambiguous(size: int) -> str:
    return 'start: a\na: a a | "x" | ' + " | ".join(" ".join(["a"] * count) for count in range(3, size)) + "\n"


def _completions(size: int) -> str:
    ends = "".join(f'b{at}: "x"\n' for at in range(size))
    return f"start: {' | '.join(f'a {chr(34)}{at}{chr(34)}' for at in range(size))}\n" + (
        f"a: {' | '.join(f'b{at}' for at in range(size))}\n{ends}"
    )


def _later(size: int) -> str:
    """Harmless for some tokens, ambiguous from then on."""
    return 'start: "xxxxxxxx" a\n' + _ambiguous(size).split("\n", 1)[1]


def _nullable(size: int) -> str:
    return "start: " + " ".join(["a"] * size) + '\na: b | ""\nb: c | "x"\nc: a a | ""\n'


def _lexemes(size: int) -> str:
    return (
        "start: (" + " | ".join(f"T{at}" for at in range(size)) + ")*\n"
        + "".join(f"T{at}: /[a-z]*{at}[a-z]*/\n" for at in range(size))
    )  # fmt: skip


def _terminals(size: int) -> str:
    return "start: T0\n" + "".join(f"T{at}: T{at + 1} T{at + 1}\n" for at in range(size)) + f'T{size}: "ab"\n'


def _inline(size: int) -> str:
    return f"start: %json {json.dumps(_chain(size))}"


def _parentheses(size: int) -> str:
    return "start: " + "(" * size + '"x"' + ")" * size


def _newlines(size: int) -> str:
    return "\n" * size + "::="


def _together(size: int) -> str:
    return "start: /" + "&".join(f"(.*{chr(97 + at % 26)}.{{{10 + at}}}z)" for at in range(size)) + "/"


def _subset(size: int) -> str:
    return f"(a|b)*a(a|b){{{size}}}"


def _repeated(size: int) -> str:
    return f"((a{{1,{size}}}){{1,{size}}}){{1,{size}}}"


def _dots(size: int) -> str:
    return "(.*a)" * size


def _windows(size: int) -> str:
    return f"(.*[a-m].{{{size}}}[n-z].{{{size}}}x)+"


def _choices(size: int) -> str:
    return "|".join(f"word{at}[0-9]*{at}" for at in range(size))


def _groups(size: int) -> str:
    return "(" * size + "x" + ")" * size


def _classes(size: int) -> str:
    return "[" + "".join(chr(0x4E00 + at * 3 % 20000) for at in range(size)) + r"\p{L}]{1,1000}"


_SCHEMAS: Final[tuple[tuple[str, Callable[[int], Any], tuple[int, ...]], ...]] = (
    ("references in a chain", _chain, (150, 1000, 4000)),
    ("anchors in a chain", partial(_chain, anchors=True), (150, 4000)),
    *(
        (f"nested {word}", partial(_nested, keyword=word), (40, 60, 150))
        for word in ("properties", "items", "anyOf", "allOf", "prefixItems", "patternProperties")
    ),
    ("references that double, allOf", partial(_doubling, keyword="allOf"), (10, 20, 60)),
    ("references that double, anyOf", partial(_doubling, keyword="anyOf"), (10, 20, 60)),
    ("choices that multiply", _products, (10, 20, 200)),
    ("properties", _properties, (400, 2000, 25_000)),
    ("required properties", partial(_properties, required=True), (2000, 10_000)),
    ("enum", _enum, (1000, 35_000)),
    ("counted items", _counted, (1000, 1_000_000)),
    ("a long text", _long, (10_000, 1_000_000_000)),
    ("patterns", _patterns, (30, 500)),
    ("alternatives that wait for each other", _waiting, (30, 300, 1000)),
    ("definitions in a mesh", _mesh, (30, 100)),
    ("long names", _long_names, (1000, 10_000)),
)  # fmt: skip
_GRAMMARS: Final[tuple[tuple[str, Callable[[int], str], tuple[int, ...]], ...]] = (
    ("rules in a chain", _rules, (150, 1000, 8000)),
    ("GBNF rules in a chain", _gbnf_rules, (150, 4000)),
    ("GBNF terminals in a chain", _gbnf_terminals, (100, 190, 2000)),
    ("GBNF alternatives", _gbnf_alternatives, (100, 1000, 4000)),
    ("ambiguous rules", _ambiguous, (10, 20, 40, 60, 100, 200, 400)),
    ("ambiguous rules later", _later, (20, 60, 200)),
    ("completions", _completions, (30, 100, 300, 1000, 3000)),
    ("rules that may be empty", _nullable, (10, 100, 1000)),
    ("lexemes", _lexemes, (100, 1000, 4000)),
    ("terminals that double", _terminals, (10, 20, 60)),
    ("a schema inside", _inline, (150, 4000)),
    ("parentheses", _parentheses, (50, 1000, 100_000)),
    ("new lines", _newlines, (10_000, 250_000)),
    ("expressions together", _together, (2, 4, 16)),
)
_EXPRESSIONS: Final[tuple[tuple[str, Callable[[int], str], tuple[int, ...]], ...]] = (
    ("subsets", _subset, (12, 20, 60, 1000)),
    ("repeated counts", _repeated, (10, 100, 1000)),
    ("dots", _dots, (20, 200, 5000)),
    ("windows", _windows, (6, 12, 20, 100)),
    ("choices", _choices, (100, 2000, 15_000)),
    ("groups", _groups, (50, 1000, 100_000)),
    ("classes", _classes, (100, 10_000)),
)


def _rows(
    carriers: Sequence[tuple[str, Callable[[str, Any], Request]]],
    families: Sequence[tuple[str, Callable[[int], Any], tuple[int, ...]]],
) -> Iterator[Shape]:
    for where, carrier in carriers:
        for name, make, sizes in families:
            for size in sizes:
                yield Shape(
                    name=f"{name}, {size}, in {where}",
                    make=lambda model, carrier=carrier, make=make, size=size: carrier(model, make(size)),  # type: ignore[misc]
                )


SHAPES: Final[tuple[Shape, ...]] = (
    *_rows((("response_format", _schema), ("a tool", _tool), ("a stored response", _stored)), _SCHEMAS),
    *_rows((("guided_grammar", _grammar),), _GRAMMARS),
    *_rows((("regex", _regex),), _EXPRESSIONS),
    *(
        Shape(name=f"{name}, {size}", make=lambda model, make=make, size=size: make(model, size))  # type: ignore[misc]
        for name, make, sizes in _TEXTS
        for size in sizes
    ),
)


# --- a server under them


@dataclass(slots=True)
class Seen:
    """What was seen of a server under shapes."""

    quiet_s: list[float] = field(default_factory=list)
    harmless_s: list[float] = field(default_factory=list)
    """Beside harmless requests at once, whose prompts have as many tokens as those of the answered shapes."""
    beside_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Requests of the other tenant that were not answered."""
    deaths: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Shapes that got no answer, or one of 500."""
    slowest: list[tuple[float, str]] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)
    prompts: list[int] = field(default_factory=list)
    """Tokens of the prompts of answered shapes."""


def attack(server: Served, model: str, shapes: Sequence[Shape], *, quiet: int = QUIET_ROUNDS) -> Seen:
    """Send shapes as one tenant, some at once, and ask as another all the while."""
    seen = Seen()
    keys = {"first": server.key}

    def make(by: str, name: str, role: str, **more: str) -> None:
        user = {"id": name, "roles": [role], "key": {}, **more}
        keys[name] = call(server, "POST", "/admin/v1/users", keys[by], user)["key"]["key"]

    for role in ("security-officer", "system-administrator", "auditor"):
        make("first", role, role)
    for name in ("alice", "mallory"):
        call(server, "POST", "/admin/v1/tenants", keys["security-officer"], {"name": f"bank-{name}"})
        make("security-officer", name, "developer", tenant=f"bank-{name}")
    before = _lasting(server)
    for part in (shapes[at : at + PART] for at in range(0, len(shapes), PART)):
        seen.quiet_s += [_first_token_s(server, model, keys["alice"]) for _ in range(quiet)]
        answered = len(seen.prompts)
        with _asking(server, model, keys["alice"], seen.beside_s, seen.failed), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda shape: _send(server, model, keys["mallory"], shape, seen), part))
        twins = [_harmless(size) for size in seen.prompts[answered:]]
        with _asking(server, model, keys["alice"], seen.harmless_s, seen.failed), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda shape: _send(server, model, keys["mallory"], shape, Seen()), twins))
    seen.deaths = [f"process {pid}" for pid in sorted(before - _lasting(server))]
    seen.deaths += re.findall(r".*was killed by.*", server.said())
    return seen


def _harmless(prompt_tokens: int) -> Shape:
    return Shape(name="harmless", make=lambda model: _message(model, max(1, prompt_tokens - 30)))


@contextmanager
def _asking(server: Served, model: str, key: str, took_s: list[float], failed: list[str]) -> Iterator[None]:
    """Ask again and again as one who waits for first tokens."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                took_s.append(_first_token_s(server, model, key))
            except (OSError, http.client.HTTPException, AssertionError) as fault:
                failed.append(repr(fault)[:200])
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def _lasting(server: Served) -> set[int]:
    """Return the processes that no grammar may end."""
    return {*processes_of(server.home, "ashore.")} - {*processes_of(server.home, "grammarchild")}


def _send(server: Served, model: str, key: str, shape: Shape, seen: Seen) -> None:
    path, body = shape.make(model)
    began = time.monotonic()
    try:
        code, words = _ask(server, path, key, body)
        seen.codes[code] = seen.codes.get(code, 0) + 1
        if found := re.search(rb'"prompt_tokens":\s*(\d+)', words):
            seen.prompts.append(int(found[1]))
        if code >= 500:
            seen.broken.append(f"{shape.name}: {code} {words[:200]!r}")
    except (OSError, http.client.HTTPException) as fault:
        seen.broken.append(f"{shape.name}: {fault!r}")
    seen.slowest.append((time.monotonic() - began, shape.name))


def _ask(server: Served, path: str, key: str, body: Body) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    try:
        connection.request("POST", path, json.dumps(body).encode(), {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _first_token_s(server: Served, model: str, key: str) -> float:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    began = time.monotonic()
    code, words = _ask(server, "/v1/chat/completions", key, body)
    assert code == 200, words
    return time.monotonic() - began


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(seen: Seen, title: str) -> bool:
    """Print what was seen; return whether it is within the bars."""
    quiet, beside = percentile(seen.quiet_s, 0.99), percentile(seen.beside_s, 0.99)
    codes = dict(sorted(seen.codes.items()))
    print(f"{title}: answers {codes}; deaths {len(seen.deaths)}; not answered {len(seen.failed)}")
    for name, values in (("quiet", seen.quiet_s), ("beside", seen.beside_s), ("beside harmless ones", seen.harmless_s)):
        shares = " ".join(f"p{share:g} {percentile(values, share / 100) * 1000:.0f}" for share in (50, 90, 99, 100))
        print(f"  another tenant's first token, {name}: {shares} ms of {len(values)}")
    ratios = ", ".join(
        f"p{share:g} {percentile(seen.beside_s, share / 100) / percentile(seen.quiet_s, share / 100):.1f}"
        for share in (50, 90, 99)
    )
    print(f"  times the quiet one: {ratios}; load of the machine {os.getloadavg()[0]:.1f}", flush=True)
    for seconds, name in sorted(seen.slowest, reverse=True)[:5]:
        print(f"  {seconds:6.1f} s  {name}")
    for words in (*seen.deaths, *seen.failed[:5], *seen.broken[:20]):
        print(f"  ! {words}")
    return not (seen.deaths or seen.failed or seen.broken) and beside <= min(MOST_S, MOST_RATIO * quiet)


def main(only: str = "", models: Sequence[str] = ("fake:agent", "smollm2"), options: Sequence[str] = ()) -> int:
    """Attack a server with each model; return 0 where all held.

    Args:
        only: A part of the names of shapes.
        models: Models to serve, one after the other.
        options: Further options of `ashore up`.
    """
    from socket import socket

    shapes = [shape for shape in SHAPES if only in shape.name]
    held = True
    for model in models:
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder, socket() as one, socket() as two:
            for sock in (one, two):
                sock.bind(("127.0.0.1", 0))
            ports = one.getsockname()[1], two.getsockname()[1]
            store = None if model.startswith("fake:") else demo_home_path() / "store"
            one.close()
            two.close()
            server = start_served(
                Path(folder) / "home", (model,), store=store, port=ports[0], grpc_port=ports[1], options=options
            )
            try:
                alias = call(server, "GET", "/v1/models", server.key)["data"][0]["id"]
                held &= report(attack(server, alias, shapes), f"{model}, {len(shapes)} shapes")
            finally:
                server.stop()
    return 0 if held else 1
