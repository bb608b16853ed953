"""The reference of errors, generated from their classes.

`python -m deploy.make_errors_page > docs/reference/errors.md` writes the page, and a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ashore.core.errors import AshoreError, Bug, CapacityError, DeniedError, EnvironmentFault, UserError
from ashore.data.grpc.status import CODE_NAMES

_INTRO: Final = """# Errors

Written by `python -m deploy.make_errors_page` from the classes in the code; do not edit.

Every error has a `code`, which does not change between versions. Look it up here. The message and hint of the
error say more, because they name the object. HTTP returns
`{"error": {"message", "type", "param", "code", "hint"}}`, and on the Anthropic routes Anthropic's format. gRPC puts the
code into the trailing metadata, as `ashore-code`. A command prints the message and the hint, and returns the exit
code.

*Send again*: "yes", the same request may succeed later.
"""
_GROUPS: Final[tuple[tuple[type[AshoreError], str, str], ...]] = (
    (UserError, "The caller changes the request", "The request, the command or the file is not valid."),
    (DeniedError, "An administrator grants the right", "The caller is not allowed to do that."),
    (CapacityError, "Wait or add capacity", "The server has no capacity or ran out of time."),
    (EnvironmentFault, "The operator fixes the machine", "Something that ashore needs is missing, in use or broken."),
    (Bug, "Report it", "An internal check failed: a bug in ashore."),
)


def reference() -> str:
    """Return `docs/reference/errors.md`."""
    return _INTRO + "".join("".join(_group(*group)) for group in _GROUPS)


def _group(group: type[AshoreError], title: str, words: str) -> Iterator[str]:
    yield f"\n## {title}\n\n{words} Exit code {group.exit_code}.\n\n"
    yield "| code | HTTP | gRPC | send again | meaning | what to do |\n|---|---|---|---|---|---|\n"
    for code, kind in sorted(_leaves(group).items()):
        grpc = CODE_NAMES.get(kind.http_status, "INTERNAL")
        again = "yes" if kind.retryable else "no"
        yield f"| `{code}` | {kind.http_status} | `{grpc}` | {again} | {kind.meaning()} | {kind.remedy()} |\n"


def _leaves(group: type[AshoreError]) -> dict[str, type[AshoreError]]:
    """Return the classes of a group by their code; a leaf takes precedence over the group."""
    found = {group.code: group}
    for kind in group.__subclasses__():
        if kind.__module__ == group.__module__:
            found |= _leaves(kind)
    return found


if __name__ == "__main__":
    sys.stdout.write(reference())
