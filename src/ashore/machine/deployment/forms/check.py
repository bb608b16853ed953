"""Checks rendered objects against the user's own API server with a dry run, which stores nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ashore.core.errors import MissingExtra, SourceUnreachable
from ashore.kit.yaml import plain, write_yaml
from ashore.machine.deployment.forms.kubernetes import Group

TIMEOUT_S: Final = 60.0
UNREACHABLE: Final = (
    "was refused", "no such host", "i/o timeout", "connection refused", "Unable to connect", "certificate signed by",
    "must be logged in", "Unauthorized", "no configuration has been provided", "context was not found",
    "does not exist",
)  # fmt: skip
"""How kubectl begins when it did not get as far as the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the API server said of one object."""

    kind: str
    name: str
    accepted: bool
    said: str
    """Why it was refused, or what would be done."""


def find_kubectl(given: str = "kubectl") -> str:
    """Return the path of kubectl.

    Raises:
        MissingExtra: it is not installed.
    """
    found = shutil.which(given)
    if found is None:
        raise MissingExtra(
            f"{given!r} is not installed on this machine", hint="install kubectl, or name it with --kubectl PATH"
        )
    return found


def check_objects(groups: Sequence[Group], *, kubectl: str, context: str = "") -> tuple[Checked, ...]:
    """Return the API server's result for each object, using kubectl's configuration. Stores nothing.

    Args:
        groups: The objects.
        kubectl: Path of the program.
        context: Of its configuration; empty: the current one.

    Raises:
        SourceUnreachable: the server cannot be reached, or does not know the caller.
    """
    command = [kubectl, *(["--context", context] if context else [])]
    command += ["apply", "--dry-run=server", "--validate=strict", "-f", "-"]
    found: list[Checked] = []
    for tree in (one for group in groups for one in group.objects):
        result = subprocess.run(
            command, input=write_yaml(tree), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        said = (result.stdout if result.returncode == 0 else result.stderr).strip()
        if result.returncode and not found and any(word in said for word in UNREACHABLE):
            raise SourceUnreachable(
                f"kubectl cannot ask the API server: {said[:300]}",
                hint="check `kubectl auth whoami`, or give --context",
            )
        bare = plain(tree)
        assert isinstance(bare, dict)
        found.append(
            Checked(kind=str(bare["kind"]), name=bare["metadata"]["name"], accepted=result.returncode == 0, said=said)
        )
    return tuple(found)
