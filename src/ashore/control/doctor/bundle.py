"""A support bundle: what was measured and found, versions, settings, ends of logs. No prompt, no answer, no secret.

What goes in is chosen by name, and every text is cleaned after that: keys, tokens, passwords in addresses, and what the
logs quote of requests.
"""

from __future__ import annotations

import io
import json
import platform
import re
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore import __version__
from ashore.control.doctor.model import Diagnosis
from ashore.control.doctor.readings import Readings
from ashore.core.errors import EnvironmentFault
from ashore.core.timespan import written_moment
from ashore.kit.settings import Home

LOG_BYTES: Final = 64 << 10
"""Of the end of each log."""
_SECRETS: Final = (
    (re.compile(r"\bash_[A-Za-z0-9]{6,}[A-Za-z0-9_.-]*"), "ash_…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 …"),
    (re.compile(r"\b(sk|hf|ghp|github_pat|glpat|xox[abp])[-_][A-Za-z0-9-_]{8,}"), r"\1-…"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}"), r"\1…"),
    (re.compile(r"(://[^/\s:@]{0,80}):[^\s\"'<>]{1,1000}@"), r"\1:…@"),  # a password may have an @ or a /
    (
        re.compile(
            r"(?i)(password|passwd|secret|token|api[_-]?key|access[_-]?key|authorization|signature|credential|\bsig)"
            r"((?:[_-][a-z]{1,12}){0,3}\"?\s{0,4}[=:]\s{0,4})(\"[^\"\n]*\"|'[^'\n]*'|[^\s\",}&]{3,})"
        ),
        r"\1\2…",
    ),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}"), "eyJ…"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), "(private key)"),
    (re.compile(r"\b[0-9a-f]{40,}\b"), "(digest)"),
)
_SECRET_NAME: Final = re.compile(r"(?i)(^|[_-])(key|secret|password|passwd|token|authorization)$")
"""Names of values that are secrets whatever they look like."""
_PERSONS: Final = (
    (
        re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
        lambda found: found[0] if found[0].startswith(("127.", "0.")) else "(address)",
    ),
    (
        re.compile(
            r"(?<![\w:.])(?:(?:[0-9A-Fa-f]{1,4}:){4,7}[0-9A-Fa-f]{1,4}|(?:[0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f:]{0,30})"
        ),
        lambda found: "(address)",
    ),
    (re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b"), lambda found: "(mail address)"),
)
_CONTENT: Final = re.compile(r"(?i)(\"?(?:prompt|content|messages|input|text|answer|completion)\"?\s*[=:]\s*)(.+)$")
_LINE: Final = re.compile(
    r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|^\s+File \"|^Traceback|^[A-Za-z_.]*(Error|Exception|Warning)\b|^\[\d{4}-"
)
"""Lines of a log that are ours: with a time, or of a traceback. Every other line may be what a library printed of a
request, and is left out."""


def clean(text: str) -> str:
    """Return a text without keys, tokens, passwords, addresses of people and machines, and quoted content."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    for pattern, found in _PERSONS:
        text = pattern.sub(found, text)
    return "\n".join(_CONTENT.sub(r"\1(left out)", line) for line in text.split("\n"))


def clean_log(text: str) -> str:
    """Return the lines of a log that are ours, cleaned. Of a traceback the last line keeps its class alone: the words
    of an error may quote a request."""
    kept = []
    for line in text.splitlines():
        if not _LINE.match(line):
            continue
        error = re.match(r"^([A-Za-z_.]*(?:Error|Exception))\b: ", line)
        kept.append(f"{error[1]}: (left out)" if error else line)
    return clean("\n".join(kept))


def clean_values(value: Any) -> Any:
    """Return JSON values with every text cleaned, and those left out whose name says that they are secrets."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {
            clean(str(name)): "…"
            if one and isinstance(one, str) and _SECRET_NAME.search(str(name))
            else clean_values(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [clean_values(one) for one in value]
    return value


def contents(
    home: Home, readings: Readings, diagnosis: Diagnosis, settings: Mapping[str, Any], page: str
) -> dict[str, str]:
    """Return the files of a bundle, by name.

    Args:
        home: Whose it is.
        readings: What was measured.
        diagnosis: What was found.
        settings: What the server runs with, as its supervisor says.
        page: Its metrics.
    """
    files = {
        "about.json": _as_json(
            {
                "ashore": __version__,
                "python": sys.version.split()[0],
                "system": f"{platform.system()} {platform.release()} {platform.machine()}",
                "made": written_moment(readings.at_s),
                "packages": _packages(),
            }
        ),
        "findings.json": _as_json(msgspec.to_builtins(diagnosis)),
        "readings.json": _as_json(msgspec.to_builtins(readings)),
        "settings.json": _as_json(dict(settings)),
        "metrics.txt": clean(page),
    }
    for path in sorted(home.logs.glob("*.log")):
        try:
            if not path.is_file():  # a pipe would be waited for
                continue
            with open(path, "rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            continue
        files[f"logs/{path.name}"] = clean_log(text) + "\n"
    return files


def _as_json(value: Any) -> str:
    return json.dumps(clean_values(value), indent=1, sort_keys=True) + "\n"


def _packages() -> dict[str, str]:
    from importlib.metadata import distributions

    return {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}


def write(path: Path, files: Mapping[str, str]) -> int:
    """Write the files as one `.tar.gz`, readable by its owner alone, and return its bytes. Refuses to replace a file.

    Raises:
        FileExistsError: there is one.
        EnvironmentFault: it cannot be written; nothing of it is left.
    """
    import os

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for name, text in files.items():
                data = text.encode()
                information = tarfile.TarInfo(f"ashore-bundle/{name}")
                information.size, information.mode, information.mtime = len(data), 0o600, int(time.time())
                tar.addfile(information, io.BytesIO(data))
        return path.stat().st_size
    except OSError as fault:
        path.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"{path} cannot be written: {fault.strerror}",
            hint="name a file on another disk: `ashore doctor bundle FILE`",
        ) from fault
