"""`[release]`: how candidates are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ashore.errors import InvalidSpec
from ashore.releases.judges import MOST_JUDGE_S, JudgeSpec, check_judges
from ashore.releases.policy import DEFAULT_PAIRS, ReleasePolicy
from ashore.spec.table import Table

MOST_PAIRS: Final = 200
MOST_SCHEMA_BYTES: Final = 256 << 10


def read_release(table: Table) -> ReleasePolicy:
    """Return `[release]`, with the files of schemas by their names.

    Raises:
        InvalidSpec: a key is unknown or a value out of bounds.
    """
    table.known("pairs", "judge")
    return ReleasePolicy(
        pairs=table.number("pairs", DEFAULT_PAIRS, lowest=0, highest=MOST_PAIRS),
        judges=tuple(_judge(one) for one in table.tables("judge")),
    )


def release_beside(policy: ReleasePolicy, folder: Path) -> ReleasePolicy:
    """Return the policy with schemas as they are in their files, and commands by paths that hold anywhere.

    Raises:
        InvalidSpec: a file cannot be read, or a judge cannot be used.
    """
    judges = tuple(_beside(judge, folder) for judge in policy.judges)
    check_judges(judges, "[release]")
    return msgspec.structs.replace(policy, judges=judges)


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
