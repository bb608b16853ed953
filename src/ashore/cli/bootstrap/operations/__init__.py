"""The use cases behind operations, wired for this home. The command line and the process of a job run them. Their
inputs are declared in `ashore.data.jobs.operations.asks`.

To add one: a struct there, a call in `ashore.control.jobs.operations.calls`, and its `Operation` in one of these files.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from ashore.cli.bootstrap.operations.model import Operation, Shown, Work
from ashore.core.errors import InvalidRequest

_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "models",
        "optimize": "shrinking",
        "train": "training",
        "learn": "learning",
        "backup": "backups",
        "directory": "directories",
    }
)
"""The file of each noun."""


def find_operation(name: str) -> Operation:
    """Return an operation by NOUN WORD.

    Raises:
        InvalidRequest: there is no operation of that name.
    """
    file = _FILES.get(name.partition(" ")[0])
    found = () if file is None else import_module(f"{__name__}.{file}").OPERATIONS
    for one in found:
        if one.name == name:
            operation: Operation = one
            return operation
    raise InvalidRequest(f"there is no operation {name!r}", hint="restart the server, so that both run one version")
