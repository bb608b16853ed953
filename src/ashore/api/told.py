"""What a client sees of an error. A server error names files for the operator, in the log and on the command line. The
client gets the file names without their directories."""

from __future__ import annotations

import re
from typing import Final

from ashore.errors import AshoreError, CapacityError, EnvironmentFault

_FOLDERS: Final = re.compile(r"(?<![\w/.:~*%-])/(?:[^\s/'\"`,;:()]+/)+(?=[^\s/'\"`,;:()]+)")


def told(error: AshoreError) -> tuple[str, str]:
    """Return message and hint of an error, as a client may read them."""
    if not isinstance(error, EnvironmentFault | CapacityError):
        return error.message, error.hint
    return _FOLDERS.sub("", error.message), _FOLDERS.sub("", error.hint)
