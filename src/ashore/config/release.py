"""`[release]`: how candidates are tried."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast, get_args

import msgspec

from ashore.config.table import Table
from ashore.errors import InvalidSpec
from ashore.releases.allowed import NEVER_ALLOWED
from ashore.releases.burn import FAST_BURN, WINDOW_S, Slo
from ashore.releases.judges import MOST_JUDGE_S, JudgeSpec, check_judges
from ashore.releases.policy import DEFAULT_PAIRS, GateRule, ReleasePolicy

MOST_FREQUENT_S: Final = 24
"""Shortest long window: its short one is two seconds."""
MOST_PAIRS: Final = 200
MOST_SCHEMA_BYTES: Final = 256 << 10


def read_release(table: Table) -> ReleasePolicy:
    """Return `[release]`, with the files of schemas by their names.

    Raises:
        InvalidSpec: a key is unknown or a value out of bounds.
    """
    table.known("pairs", "judge", "slo", "gate", "allow_options", "adapter_folders")
    return ReleasePolicy(
        pairs=table.number("pairs", DEFAULT_PAIRS, lowest=0, highest=MOST_PAIRS),
        judges=tuple(_judge(one) for one in table.tables("judge")),
        slo=_slo(table.table("slo")),
        gate=_gate(table),
        allow_options=_allow_options(table),
        adapter_folders=table.texts("adapter_folders"),
    )


def release_beside(policy: ReleasePolicy, folder: Path, *, adapters: Iterable[str] = ()) -> ReleasePolicy:
    """Return the policy with schemas as they are in their files, and commands and folders by paths that hold anywhere.

    `adapters` are the folders that models of the same file name; releases may have those too.

    Raises:
        InvalidSpec: a file cannot be read, or a judge cannot be used.
    """
    judges = tuple(_beside(judge, folder) for judge in policy.judges)
    check_judges(judges, "[release]")
    folders = (*(str(folder / Path(one).expanduser()) for one in policy.adapter_folders), *adapters)
    return msgspec.structs.replace(policy, judges=judges, adapter_folders=tuple(dict.fromkeys(folders)))


def _allow_options(table: Table) -> tuple[str, ...]:
    names = table.texts("allow_options")
    for name in names:
        if name in NEVER_ALLOWED:
            raise InvalidSpec(
                f"{table.where} allow_options names {name!r}: no caller says where prompts go",
                hint=f"write {name} under [model.engine] of the model",
            )
    return names


def _gate(table: Table) -> GateRule:
    found = table.get("gate", str, "if_evaluated")
    for rule in get_args(GateRule):
        if found == rule:
            return cast(GateRule, rule)
    raise InvalidSpec(
        f"{table.where} gate = {found!r}; expected {' or '.join(get_args(GateRule))}", hint="correct that line"
    )


def _slo(table: Table) -> Slo:
    table.known(*Slo.__struct_fields__)
    slo = Slo(
        errors_percent=_percent(table, "errors_percent", 0.0),
        ttft_ms=table.number("ttft_ms", 0, lowest=0, highest=3_600_000),
        ttft_percent=_percent(table, "ttft_percent", 95.0),
        window_s=table.number("window_s", WINDOW_S, lowest=MOST_FREQUENT_S, highest=7 * 86_400),
    )
    for objective, allowed in slo.allowed.items():
        if not 0 < allowed * FAST_BURN <= 1:
            raise InvalidSpec(
                f"{table.where} allows {allowed * 100:g} % of the requests to miss {objective}; {FAST_BURN:g} times as "
                "much, at which a canary is taken back, is no part of them",
                hint=f"allow more than 0 and at most {100 / FAST_BURN:.1f} %",
            )
    return slo


def _percent(table: Table, key: str, default: float) -> float:
    value = table.get(key, float, default)
    if not 0 <= value <= 100:
        raise InvalidSpec(f"{table.where} {key} = {value:g}; expected 0 to 100", hint="correct that line")
    return value


def _judge(table: Table) -> JudgeSpec:
    table.known("name", "alias", "schema", "must_match", "must_not_match", "command", "timeout_s")
    return JudgeSpec(
        name=table.get("name", str, ""),
        alias=table.get("alias", str, ""),
        schema=table.get("schema", str, ""),
        must_match=table.get("must_match", str, ""),
        must_not_match=table.get("must_not_match", str, ""),
        command=table.texts("command"),
        timeout_s=table.seconds("timeout_s", 5.0, highest=MOST_JUDGE_S),
    )


def _beside(judge: JudgeSpec, folder: Path) -> JudgeSpec:
    if judge.command and "/" in judge.command[0]:
        program = str(folder / Path(judge.command[0]).expanduser())
        judge = msgspec.structs.replace(judge, command=(program, *judge.command[1:]))
    if not judge.schema:
        return judge
    path = folder / Path(judge.schema).expanduser()
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MOST_SCHEMA_BYTES else ""
    except OSError as fault:
        raise InvalidSpec(
            f"the schema {path} of judge {judge.name!r}: {fault.strerror}", hint="name a file that is there"
        ) from fault
    except UnicodeDecodeError as fault:
        raise InvalidSpec(f"the schema {path} of judge {judge.name!r} is no UTF-8", hint="correct the file") from fault
    if not text.strip():
        seen = f"has {size:,} bytes; at most {MOST_SCHEMA_BYTES:,} are read" if size else "is empty"
        raise InvalidSpec(f"the schema {path} of judge {judge.name!r} {seen}", hint="name another file")
    return msgspec.structs.replace(judge, schema=text)
